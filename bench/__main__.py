"""`python -m bench`: lists the parts; `python -m bench all`, or some of their names: runs these in turn.

Each part is a program of its own (`python -m bench.NAME`). One that fails does not keep the others from running; the
exit code is 1 then.
"""

from __future__ import annotations

import subprocess
import sys
import time

from bench.reports import PARTS, write_index
from bench.servers import ROOT


def main(wanted: list[str]) -> int:
    """Run the parts `wanted` and write the index."""
    known = [part.name for part in PARTS]
    if unknown := [name for name in wanted if name not in {*known, "all"}]:
        print(f"bench: there is no part {', '.join(unknown)}; choose among: all {' '.join(known)}", file=sys.stderr)
        return 2
    if not wanted:
        print("usage: python -m bench all | PART…")
        for part in PARTS:
            print(f"  {part.name:8} {part.title}")
        return 0
    failed = [name for name in known if {name, "all"} & set(wanted) and not _done(name)]
    write_index()
    if failed:
        print(f"bench: failed: {', '.join(failed)}; what they said is above", file=sys.stderr)
    return 1 if failed else 0


def _done(name: str) -> bool:
    print(f"== {name}", flush=True)
    started = time.monotonic()
    code = subprocess.run([sys.executable, "-m", f"bench.{name}"], cwd=ROOT, check=False).returncode
    print(f"== {name}: {time.monotonic() - started:.0f} s", flush=True)
    return code == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
