#!/usr/bin/env bash
# numpy 2.4.6: the float64 logarithm of the same number has other last bits on another processor.
#
# numpy chooses between code for AVX-512 and code for other processors when it is imported, and the two round differently. A
# machine with AVX-512 shows both: NPY_DISABLE_CPU_FEATURES switches that code off. Files that hold such values (a pickled
# HistGradientBoostingClassifier: its baseline is a logarithm) have different bytes, and digests, on two machines, with the
# same versions of everything. Rounded to float32 these values are equal.
#
# Seen on an Intel Xeon with AVX-512, Debian 12, Python 3.11:
#   log of 100000 float64 with and without AVX-512: 340 differ, by at most 1 ulp
#   rounded to float32: 0 differ
# Exits 1 if either changes. A processor without AVX-512 has one code path only: there 0 differ, and the script prints that.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6
python=$folder/env/bin/python

logarithms='import sys, numpy; numpy.save(sys.argv[1], numpy.log(numpy.random.default_rng(0).random(100_000)))'
found='import numpy; print(*numpy.show_config(mode="dicts")["SIMD Extensions"].get("found", []))'
features=$("$python" -c "$found")
"$python" -c "$logarithms" "$folder/with.npy"
NPY_DISABLE_CPU_FEATURES=$features "$python" -c "$logarithms" "$folder/without.npy"
"$python" - "$folder/with.npy" "$folder/without.npy" "$features" <<'PYTHON'
import sys

import numpy as np

one, other = (np.load(file) for file in sys.argv[1:3])
avx512 = "X86_V4" in sys.argv[3].split()
ulp = np.abs(one.view("i8") - other.view("i8"))
differ, differ_rounded = int((ulp > 0).sum()), int((one.astype("f4") != other.astype("f4")).sum())
if not avx512:
    print("this processor has no AVX-512: both runs used the same code")
print(f"log of {len(one)} float64 with and without AVX-512: {differ} differ, by at most {ulp.max()} ulp")
print(f"rounded to float32: {differ_rounded} differ")
sys.exit((differ > 0) != avx512 or differ_rounded > 0)
PYTHON
