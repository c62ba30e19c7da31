"""From 1 to 64 features: generated patient classes, a tiny model of each, the local profile and the ceiling."""

import importlib.util
import json
import os
import random
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.lib.plots import Panel, lines
from bench.lib.reports import table
from bench.lib.wrk import load
from shared.patient import Patient
from tests.support.bundles import make_bundle
from tests.support.paths import ROOT
from tests.support.processes import serving

TITLE = "Features of a patient"
SIZES = (1, 4, 16, 64)
_CONNECTIONS = 32
_WARMING_SECONDS, _SECONDS = 1, 4
_CLASS = '''
from typing import ClassVar

from shared.patient import Diagnosis, Disease, Patient, measure


class DatosPaciente(Patient):
    """Datos de un paciente de ninguna enfermedad."""

    disease: ClassVar[Disease] = Disease(
        name="crecimiento", title="Ninguna", diagnoses=(Diagnosis("sano", "Sano"), Diagnosis("enfermo", "Enfermo"))
    )
'''
_FEATURE = '    medida_{n}: float | None = measure("Medida {n}", unit="u", limits=(0, 1000), reference=(10, 900))\n'


def measure(folder: Path, model: Path) -> list[dict[str, Any]]:
    """Load both servers with patients of each size; `model` is not used, each size has its own."""
    del model
    return [_of_size(folder / str(size), size) for size in SIZES]


def page(results: list[dict[str, Any]]) -> list[str]:
    """Return the table."""
    return [
        (
            f"Every patient has all features. wrk with {_CONNECTIONS} connections for {_SECONDS} s each; the model is "
            "tiny, so that the rest shows. The ceiling is FastAPI with the same class and no work."
        ),
        "",
        *table(
            ["features", "requests/s", "p50 ms", "p99 ms", "CPU µs/request", "ceiling, requests/s", "ceiling, CPU µs"],
            [
                [
                    f"{each['features']}",
                    f"{each['local']['rate']:,.0f}",
                    f"{each['local']['p50_ms']:.2f}",
                    f"{each['local']['p99_ms']:.2f}",
                    f"{each['local']['cpu_us']:.0f}",
                    f"{each['ceiling']['rate']:,.0f}",
                    f"{each['ceiling']['cpu_us']:.0f}",
                ]
                for each in results
            ],
        ),
    ]


def headline(results: list[dict[str, Any]]) -> str:
    """Compare the least with the most features."""
    first, last = results[0], results[-1]
    more = (last["local"]["cpu_us"] - first["local"]["cpu_us"]) / (last["features"] - first["features"])
    return (
        f"A feature more costs {more:.1f} µs of CPU a request: {last['local']['rate']:,.0f} requests/s with "
        f"{last['features']}, {first['local']['rate']:,.0f} with {first['features']}."
    )


def panels(results: list[dict[str, Any]]) -> list[Panel]:
    """Draw CPU per request."""
    series = {
        name: [(float(each["features"]), each[name]["cpu_us"]) for each in results] for name in ("local", "ceiling")
    }
    return [lines(TITLE, "features", "CPU µs a request", series, log="x")]


def _of_size(folder: Path, size: int) -> dict[str, Any]:
    name = f"crecimiento{size}"
    patient = _patient_class(folder, name, size)
    patients = _write_patients(folder / "patients.jsonl", patient)
    environment = {"PREDECIR_PACIENTE": f"{name}:DatosPaciente", "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    results: dict[str, Any] = {"features": size}
    for server, command in (("local", ["services.local"]), ("ceiling", ["bench.baselines.ceiling", "{port}"])):
        home = folder / server
        make_bundle(home / "var", patient)
        with serving([sys.executable, "-m", *command], home, environment) as started:
            load(started, patients, connections=_CONNECTIONS, seconds=_WARMING_SECONDS)
            results[server] = asdict(load(started, patients, connections=_CONNECTIONS, seconds=_SECONDS))
    return results


def _patient_class(folder: Path, name: str, size: int) -> type[Patient]:
    path = folder / f"{name}.py"
    folder.mkdir()
    path.write_text(_CLASS + "".join(_FEATURE.format(n=n + 1) for n in range(size)))
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise RuntimeError(f"{path} is no module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    results: type[Patient] = module.DatosPaciente
    return results


def _write_patients(path: Path, patient: type[Patient]) -> Path:
    rng = random.Random(size := len(patient.features))  # noqa: S311 - made-up patients, not keys
    rows = [{feature.name: round(rng.uniform(20, 800), 2) for feature in patient.features} for _ in range(500 + size)]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path
