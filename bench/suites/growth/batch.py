"""From 1 to 1,000 patients in one call of the model, as ONNX and as the pickled pipeline it was converted from."""

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.lib.inputs import patients
from bench.lib.plots import Panel, lines
from bench.lib.reports import table
from services.inference.serving.model import Model, Rows
from services.inference.serving.onnx_model import OnnxModel
from services.inference.serving.pickle_model import PickleModel
from shared.artifacts.bundle import ONNX, PICKLE, open_bundle
from shared.diseases.thyroid import DatosPaciente
from tests.support.paths import ROOT

TITLE = "Patients in one call of the model"
SIZES = (1, 4, 16, 64, 256, 1000)
_SECONDS = 0.4
"""Duration of the measurement of each size."""


def measure(folder: Path, model: Path) -> list[dict[str, Any]]:
    """Measure both formats of `model`: the median of the microseconds per call."""
    del folder
    bundle = open_bundle(model.resolve(), ROOT / "var" / "keys" / "bundle.pub", patient_digest=DatosPaciente.digest)
    forms: dict[str, Model] = {
        "onnx": OnnxModel(bundle.files[ONNX], bundle.facts),
        "pickle": PickleModel(bundle.files[PICKLE], bundle.facts),
    }
    rows = np.array([patient.encode() for patient in patients()][: max(SIZES)], dtype=np.float32)
    return [
        {"rows": size, **{f"{name}_us": _median_us(form, rows[:size]) for name, form in forms.items()}}
        for size in SIZES
    ]


def page(results: list[dict[str, Any]]) -> list[str]:
    """Return the table."""
    return table(
        ["patients in a call", "ONNX, µs a call", "ONNX, µs a patient", "pickle, µs a call", "pickle, µs a patient"],
        [
            [
                f"{each['rows']:,}",
                *(
                    f"{figure:,.1f}"
                    for name in ("onnx_us", "pickle_us")
                    for figure in (each[name], each[name] / each["rows"])
                ),
            ]
            for each in results
        ],
    )


def headline(results: list[dict[str, Any]]) -> str:
    """Compare the smallest with the largest call."""
    first, last = results[0], results[-1]
    (alone, each), (alone_pickled, each_pickled) = (
        (first[name], last[name] / last["rows"]) for name in ("onnx_us", "pickle_us")
    )
    return (
        f"The model takes {alone:.0f} µs for one patient and {each:.1f} µs each for {last['rows']:,} in one call "
        f"(pickled: {alone_pickled:,.0f} and {each_pickled:.1f} µs)."
    )


def panels(results: list[dict[str, Any]]) -> list[Panel]:
    """Draw the time per patient."""
    series = {
        label: [(float(each["rows"]), each[name] / each["rows"]) for each in results]
        for label, name in (("ONNX", "onnx_us"), ("pickle", "pickle_us"))
    }
    return [lines(TITLE, "patients in one call", "µs a patient", series, log="xy")]


def _median_us(model: Model, rows: Rows) -> float:
    seconds: list[float] = []
    started = time.perf_counter()
    while time.perf_counter() - started < _SECONDS:
        began = time.perf_counter()
        model.probabilities(rows)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds) * 1e6
