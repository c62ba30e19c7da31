#!/usr/bin/env bash
# dvc 3.67.1: the text of some of its exceptions holds terminal colours, also where no terminal is, and under NO_COLOR=1.
#
# A program that calls DVC as a library and logs `str(error)` writes escape sequences around the address of DVC's help: they
# are part of the exception's text. training/commands/pipeline.py removes them.
#
# Seen on Debian 12, Python 3.11: pulling a file that no remote has raises a CheckoutError; its text, with stdout and
# stderr in files, holds "\x1b[36m".
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check dvc==3.67.1
mkdir "$folder/project"
cd "$folder/project"
git init --quiet
export DVC_NO_ANALYTICS=1 NO_COLOR=1
"$folder/env/bin/dvc" --quiet init > /dev/null
echo 1 > data.csv
"$folder/env/bin/dvc" --quiet add data.csv > /dev/null
rm -r data.csv .dvc/cache
"$folder/env/bin/python" - > "$folder/output" 2> "$folder/errors" <<'PYTHON'
import sys

from dvc.exceptions import CheckoutError
from dvc.repo import Repo

try:
    Repo().pull()
except CheckoutError as error:
    print("terminal:", sys.stdout.isatty() or sys.stderr.isatty())
    print("coloured:", "\x1b[36m" in str(error))
PYTHON
cat "$folder/output"
[[ $(cat "$folder/output") = $'terminal: False\ncoloured: True' ]]
