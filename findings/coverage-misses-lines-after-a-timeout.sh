#!/usr/bin/env bash
# coverage 7.17.5 on CPython 3.11: statements that run after an await which ended by `asyncio.timeout` are reported as missed.
#
# The timeout cancels the task, and the cancellation is thrown into the innermost coroutine. Its own `except` is recorded,
# but the rest of the function that awaits it is not, so a report on asynchronous code lists tested error paths as untested.
# The tracer in Python (COVERAGE_CORE=pytrace) does not help: it ends with "IndexError: pop from empty list".
#
# Seen on Debian 12, Python 3.11.7: the program below prints "late", and the report lists that line and the `if` as missed.
# Exits 1 if that changes; the interpreter must be CPython 3.11.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check coverage==7.17.5
cd "$folder"
cat > late.py <<'PYTHON'
import asyncio


async def limited():
    try:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()
    except TimeoutError:
        return False


async def main():
    in_time = await limited()
    if not in_time:
        print("late")


asyncio.run(main())
PYTHON
env COVERAGE_CORE=ctrace env/bin/python -m coverage run --data-file=data late.py > output
env/bin/python -m coverage json --data-file=data --quiet -o report.json
missed=$(env/bin/python -c 'import json; print(json.load(open("report.json"))["files"]["late.py"]["missing_lines"])')
echo "printed $(cat output), missed lines $missed"
[[ $(cat output) = late && $missed = "[14, 15]" ]]
