#!/usr/bin/env bash
# SQLite 3.54.1 (apsw 3.54.1.0): switching a file to WAL fails at once while another connection is about to write, in spite
# of a busy timeout.
#
# A busy timeout makes statements wait for a lock, and `PRAGMA journal_mode=WAL` waits, too, while another connection holds
# the exclusive lock. While it holds the weaker one of BEGIN IMMEDIATE, it does not: of two processes that open a new file at
# the same moment, one sees "database is locked". services/recorder/db/sqlite.py retries.
#
# Seen on Debian 12, Python 3.11, with a busy timeout of 1 s:
#   after BEGIN IMMEDIATE: the switch fails after 0 s, an INSERT after 1 s; after BEGIN EXCLUSIVE: both after 1 s
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check apsw==3.54.1.0
"$folder/env/bin/python" - "$folder/file.db" <<'PYTHON'
import sys
import time

import apsw

one = apsw.Connection(sys.argv[1])
one.execute("CREATE TABLE t (x)")
waits = {}
for begin in ("BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"):
    one.execute(begin)
    other = apsw.Connection(sys.argv[1])
    other.set_busy_timeout(1000)
    for statement in ("PRAGMA journal_mode=WAL", "INSERT INTO t VALUES (1)"):
        start = time.monotonic()
        try:
            other.execute(statement).fetchall()
        except apsw.BusyError:
            waits[begin, statement[:6]] = round(time.monotonic() - start)
    other.close()
    one.execute("ROLLBACK")
for (begin, statement), seconds in waits.items():
    print(f"{apsw.sqlite_lib_version()}, after {begin}: {statement} fails after {seconds} s")
sys.exit(list(waits.values()) != [0, 1, 1, 1])
PYTHON
