"""Comparison of this system with other model servers: `python -m bench.suites.field [--only NAME…] [--seconds N]`.

Each server serves the same trained model on the same machine to the same load generator, alone and warmed. The other
servers get the model as the trained scikit-learn object, as in their guides, and, in a second row, as this system's own
ONNX file. A complete run of the usual length writes docs/benchmarks/field.{json,md,svg} and README's table.
"""

import argparse
import subprocess
import sys
import tempfile
from http.client import HTTPException
from pathlib import Path
from typing import Any

from bench.lib.inputs import production
from bench.suites.field.competitors import ONNX, TOOLS, Bundle
from bench.suites.field.contenders import Contender, contenders
from bench.suites.field.environments import OURS, environment
from bench.suites.field.measurement import measure
from bench.suites.field.report import line, lost, write
from bench.suites.field.sample_requests import SampleRequests
from tests.support.machine import fsync_ms, machine
from tests.support.paths import ROOT

SECONDS = 3
_TROUBLE = (RuntimeError, OSError, subprocess.SubprocessError, HTTPException, ValueError, LookupError)
"""Raised if a server does not start, does not answer, or gives wrong answers."""


def main(arguments: list[str]) -> int:
    """Run, print and write; return 1 if a server could not be measured or this system lost an answer."""
    model = production()
    if model is None:
        print("no model in production: run `make train` first", file=sys.stderr)
        return 1
    bundle = Bundle.at(model.resolve())
    requests = SampleRequests(bundle.file(ONNX))
    everyone = contenders(bundle, requests)
    parser = argparse.ArgumentParser(prog="python -m bench.suites.field", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=[each.name for each in everyone], metavar="NAME")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="of each point of load")
    chosen = parser.parse_args(arguments)
    environments = {name: environment(name).mib for name in (OURS, *(tool.name for tool in TOOLS))}
    with tempfile.TemporaryDirectory(dir=ROOT / "var") as folder:
        before = {"machine": machine(), "fsync_ms": fsync_ms(Path(folder)), "seconds": chosen.seconds}
        wanted = [each for each in everyone if chosen.only is None or each.name in chosen.only]
        results = {each.name: measure_or_explain(each, requests, Path(folder), chosen.seconds) for each in wanted}
    report = {**before, "environments_mib": environments, "contenders": results}
    if chosen.only is None and chosen.seconds == SECONDS:
        print(write(report))
    good = all("error" not in each and not (each["kept"] and lost(each["kept"])) for each in results.values())
    return 0 if good else 1


def measure_or_explain(contender: Contender, requests: SampleRequests, folder: Path, seconds: int) -> dict[str, Any]:
    """Return the measurements of `contender`, or its error."""
    try:
        result = measure(contender, requests, folder / contender.name, seconds)
    except _TROUBLE as error:
        message = f"{type(error).__name__}: {error}"
        result = {"title": contender.title, "model": contender.model, "error": message.strip()}
    print(line(contender.name, result), flush=True)
    return result


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
