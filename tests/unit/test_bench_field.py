"""The comparison with other servers: its aims, its tools and their environments."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.suites.field.__main__ import measure_or_explain
from bench.suites.field.aims import TIMES, aims, judged_p99, results
from bench.suites.field.competitors import ONNX, SKLEARN, TOOLS, Bundle, Tool
from bench.suites.field.contenders import Contender, MeasuredServer
from bench.suites.field.environments import OURS, REQUIREMENTS
from bench.suites.field.measurement import CONNECTIONS, RATES
from bench.suites.field.sample_requests import SampleRequests
from tests.support.paths import ROOT

ROW = [47.0, 0.0, None]


def seen(title: str, rate: float, p99_ms: float, carried: int) -> dict[str, Any]:
    """Return the measurements of a server that reaches the first `carried` of the offered rates."""
    load = {"requests": 10, "failed": 0, "rate": rate, "p50_ms": 1.0, "p99_ms": p99_ms, "cpu_us": 0.0}
    points = [
        {"connections": count, "offered": None, "load": load, "cpu_per_thousand": 0.5} for count in CONNECTIONS
    ] + [
        {
            "connections": 32,
            "offered": offered,
            "load": load | {"rate": offered if number < carried else offered / 2},
            "cpu_per_thousand": 0.5,
        }
        for number, offered in enumerate(RATES)
    ]
    return {"title": title, "model": SKLEARN, "points": points}


def test_aims_skip_tools_that_could_not_be_measured() -> None:
    measured = results(
        {
            "contenders": {
                "local": seen("ours", 4000, 5, 3),
                "server": seen("ours", 2000, 50, 3),
                "litserve-scikit-learn": seen("LitServe", 1000, 4, 1),
                "mlserver-scikit-learn": seen("MLServer", 3000, 9, 2),
                "ray-scikit-learn": {"title": "Ray Serve", "model": SKLEARN, "error": "does not start"},
                "simplest": seen("simplest", 50, 500, 0),
            }
        }
    )
    assert aims(measured) == [
        ("LitServe", "4.0", "≥ 3", True),
        ("MLServer", "1.3", "≥ 1.5", False),
        ("p99 at equal rates is not higher", "2 of 3", "all", False),
    ]
    compared = [(rate, their.name, worse) for rate, their, worse in judged_p99(measured)]
    assert compared == [
        (RATES[0], "litserve-scikit-learn", True),
        (RATES[0], "mlserver-scikit-learn", False),
        (RATES[1], "mlserver-scikit-learn", False),
    ]


def test_every_tool_has_an_aim_and_hashed_requirements() -> None:
    assert {tool.name for tool in TOOLS} == set(TIMES)
    for name in (*TIMES, OURS):
        paths = [REQUIREMENTS / f"{name}.txt"] if name != OURS else [ROOT / "requirements" / "gateway.txt"]
        for path in paths:
            pinned = path.read_text()
            assert "://" not in pinned
            packages, hashes = re.findall(r"^[\w.\-\[\],]+==", pinned, re.MULTILINE), pinned.count("--hash=sha256:")
            assert 0 < len(packages) <= hashes


def test_the_others_serve_the_versions_that_this_system_uses() -> None:
    ours = (ROOT / "requirements" / "dev.txt").read_text()
    for tool in TOOLS:
        pinned = (REQUIREMENTS / f"{tool.name}.txt").read_text()
        for package in ("scikit-learn", "onnxruntime"):
            (version,) = re.findall(rf"^{package}==([\d.]+)", ours, re.MULTILINE)
            assert f"\n{package}=={version} " in f"\n{pinned}"


@pytest.mark.parametrize("model", [SKLEARN, ONNX])
@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_each_tools_request_has_the_row_and_its_response_is_parsed(tool: Tool, model: str, tmp_path: Path) -> None:
    bundle = Bundle(tmp_path, ("edad", "sexo", "tsh"), ("a", "b"), "0")
    body = tool.body(bundle, model, ROW)
    assert "[47.0, 0.0, None]" in str(body)
    answers = {
        "mlflow": {
            "predictions": [[0.25, 0.75]] if model == SKLEARN else {"label": [1], "probabilities": [[0.25, 0.75]]}
        },
        "bentoml": [[0.25, 0.75]],
        "mlserver": {"outputs": [{"name": "predict_proba", "data": [0.25, 0.75]}]},
    }
    assert tool.read(answers.get(tool.name, {"probabilities": [0.25, 0.75]})) == [0.25, 0.75]


def test_a_server_with_wrong_answers_does_not_stop_the_comparison(tmp_path: Path) -> None:
    @contextmanager
    def other(home: Path) -> Iterator[MeasuredServer]:
        raise KeyError(home.name)
        yield

    class NoRequests(SampleRequests):
        def __init__(self) -> None:
            """Load no model: no request is sent."""

    found = measure_or_explain(Contender("other", "Other", ONNX, other), NoRequests(), tmp_path, 1)
    assert found == {"title": "Other", "model": ONNX, "error": "KeyError: 'other'"}
