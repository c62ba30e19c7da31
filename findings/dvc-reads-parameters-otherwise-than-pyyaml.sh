#!/usr/bin/env bash
# dvc 3.67.1 and pyyaml 6.0.3: the same params.yaml has other values for DVC than for a training program that reads it
# with PyYAML.
#
# DVC reads YAML 1.2 (with ruamel.yaml), PyYAML reads YAML 1.1. One would expect that the value in dvc.lock, which
# decides whether a stage runs again, is the one that the stage used. It is not for numbers with a leading zero (octal
# in 1.1), numbers in exponent form without a point (a text in 1.1) and `on` (true in 1.1). So dvc.lock can record
# `seed: 10` for a model that was trained with 8. training/config.py reads parameters with DVC's reader.
#
# Seen on Debian 12, Python 3.11: `seed: 010` is 10 in dvc.lock and 8 for PyYAML; `rate: 1e3` is 1000.0 and "1e3";
# `mode: on` is "on" and True.
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check dvc==3.67.1 pyyaml==6.0.3
mkdir "$folder/project"
cd "$folder/project"
git init --quiet
export DVC_NO_ANALYTICS=1
"$folder/env/bin/dvc" --quiet init > /dev/null
printf 'seed: 010\nrate: 1e3\nmode: on\n' > params.yaml
printf 'stages:\n  train:\n    cmd: "true"\n    params: [seed, rate, mode]\n' > dvc.yaml
"$folder/env/bin/dvc" --quiet repro > /dev/null
"$folder/env/bin/python" - > "$folder/output" <<'PYTHON'
import yaml
from ruamel.yaml import YAML

with open("dvc.lock") as lock:
    locked = YAML(typ="safe").load(lock)["stages"]["train"]["params"]["params.yaml"]
with open("params.yaml") as file:
    read = yaml.safe_load(file)
for name in read:
    print(f"{name}: {locked[name]!r} in dvc.lock, {read[name]!r} for PyYAML")
PYTHON
cat "$folder/output"
diff "$folder/output" - <<'EXPECTED'
seed: 10 in dvc.lock, 8 for PyYAML
rate: 1000.0 in dvc.lock, '1e3' for PyYAML
mode: 'on' in dvc.lock, True for PyYAML
EXPECTED
