"""The benchmarks: `python -m bench` lists the parts, `python -m bench all` or `python -m bench PART…` runs them.

Each part is a separate program (`python -m bench.suites.NAME`). If one fails, the others still run, and the exit code
is 1.
"""

import subprocess
import sys
import time

from bench.lib.reports import PARTS, write_index
from tests.support.paths import ROOT


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
        print(f"bench: failed: {', '.join(failed)}; their output is above", file=sys.stderr)
    return 1 if failed else 0


def _done(name: str) -> bool:
    print(f"== {name}", flush=True)
    started = time.monotonic()
    code = subprocess.run([sys.executable, "-m", f"bench.suites.{name}"], cwd=ROOT, check=False).returncode
    print(f"== {name}: {time.monotonic() - started:.0f} s", flush=True)
    return code == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
