"""The other model servers: the start, the request, the response and the settings of each (`bench.suites.field`)."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from bench.suites.field.environments import OURS, Environment, environment
from tests.support.paths import ROOT

SKLEARN, ONNX = "scikit-learn", "ONNX"
BATCH, WAIT_SECONDS = 64, 0.002
"""Largest batch, and how long a request waits for others, where a tool lets its user set that."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """The model in production, in each of its formats, and the order of its columns and classes."""

    folder: Path
    columns: tuple[str, ...]
    classes: tuple[str, ...]
    run_id: str

    @classmethod
    def at(cls, folder: Path) -> Self:
        """Read the bundle in `folder`."""
        manifest = json.loads((folder / "manifest.json").read_text())
        return cls(folder, tuple(manifest["columns"]), tuple(manifest["classes"]), manifest["run_id"])

    def file(self, model: str) -> Path:
        """Return the file of the model in the format `model`."""
        return self.folder / ("model.onnx" if model == ONNX else "model.pkl")

    def logged(self) -> Path:
        """Return the folder of the model that training logged to MLflow."""
        for described in (ROOT / "var" / "mlartifacts" / "models").glob("*/artifacts/MLmodel"):
            if f"run_id: {self.run_id}" in described.read_text():
                return described.parent
        raise LookupError(f"var/mlartifacts has no model of run {self.run_id}: run `make train`")


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool. `start` returns its command for a folder and model; `body` builds a request; `read` parses a response."""

    name: str
    package: str
    title: str
    target: str
    start: Callable[[Bundle, str, Path], list[str]]
    body: Callable[[Bundle, str, list[float | None]], dict[str, Any]]
    read: Callable[[Any], list[float]]
    setup: str
    validates: str
    batches: str
    variables: Mapping[str, str]

    @property
    def environment(self) -> Environment:
        """The environment in which it is installed."""
        return environment(self.name)


def _mlflow(bundle: Bundle, model: str, home: Path) -> list[str]:
    served = bundle.logged() if model == SKLEARN else home / "model"
    commands = environment("mlflow").commands
    # `mlflow models serve` finds uvicorn on PATH.
    here = ["env", f"PATH={commands}:/usr/bin:/bin"]
    serve = [
        *here,
        "mlflow",
        "models",
        "serve",
        "-m",
        str(served),
        "-p",
        "{port}",
        "--env-manager",
        "local",
        "-w",
        str(os.cpu_count()),
    ]
    if model == SKLEARN:
        return serve
    save = f"{environment('mlflow').python} -m bench.suites.field.serving.save_for_mlflow {bundle.file(model)} {served}"
    return ["sh", "-c", f"{save} && exec {' '.join(serve)}"]


def _bentoml(bundle: Bundle, model: str, home: Path) -> list[str]:
    bento = str(environment("bentoml").commands / "bentoml")
    here = ["env", f"MODEL={bundle.file(model)}", f"BENTOML_HOME={home / 'bentoml'}"]
    return [*here, bento, "serve", "bench.suites.field.serving.with_bentoml:Thyroid", "--port", "{port}"]


def _litserve(bundle: Bundle, model: str, home: Path) -> list[str]:
    del home
    return [
        environment("litserve").python,
        "-m",
        "bench.suites.field.serving.with_litserve",
        "{port}",
        str(bundle.file(model)),
    ]


def _ray(bundle: Bundle, model: str, home: Path) -> list[str]:
    del home
    return [environment("ray").python, "-m", "bench.suites.field.serving.with_ray", "{port}", str(bundle.file(model))]


def _mlserver(bundle: Bundle, model: str, home: Path) -> list[str]:
    runtimes = {SKLEARN: "mlserver_sklearn.SKLearnModel", ONNX: "bench.suites.field.serving.mlserver_onnx.OnnxModel"}
    server = {
        "debug": False,
        "host": "127.0.0.1",
        "grpc_port": 0,
        "metrics_endpoint": None,
        "parallel_workers": 0,
    }
    served = {
        "name": "model",
        "implementation": runtimes[model],
        "max_batch_size": BATCH,
        "max_batch_time": WAIT_SECONDS,
        "parameters": {"uri": str(bundle.file(model)), "extra": {"predict_fn": "predict_proba"}},
    }
    (home / "settings.json").write_text(json.dumps(server))
    (home / "model-settings.json").write_text(json.dumps(served))
    return ["env", "MLSERVER_HTTP_PORT={port}", str(environment("mlserver").commands / "mlserver"), "start", str(home)]


def _to_mlflow(bundle: Bundle, model: str, row: list[float | None]) -> dict[str, Any]:
    return {"inputs": [row]} if model == ONNX else {"dataframe_split": {"columns": bundle.columns, "data": [row]}}


def _open_inference(bundle: Bundle, model: str, row: list[float | None]) -> dict[str, Any]:
    del model
    return {"inputs": [{"name": "X", "shape": [1, len(bundle.columns)], "datatype": "FP32", "data": row}]}


def _of_mlflow(answer: Any) -> list[float]:  # noqa: ANN401 - JSON
    """Return the probabilities of the first row of a list of rows, or of an ONNX model's outputs."""
    predictions = answer["predictions"]
    return list((predictions["probabilities"] if isinstance(predictions, dict) else predictions)[0])


TOOLS = (
    Tool(
        "mlflow",
        "mlflow",
        "mlflow models serve",
        "/invocations",
        _mlflow,
        _to_mlflow,
        _of_mlflow,
        "The model that training logged (ONNX: saved with `mlflow.onnx`), `--env-manager local`, one uvicorn "
        "worker per core",
        "column names and types, by the signature",
        "no",
        {"MLFLOW_DISABLE_TELEMETRY": "true"},
    ),
    Tool(
        "bentoml",
        "bentoml",
        "BentoML",
        "/predict",
        _bentoml,
        lambda *arguments: {"rows": [arguments[-1]]},
        lambda answer: list(answer[0]),
        f"A service whose API is `batchable` (adaptive batching, `max_batch_size={BATCH}`), one worker per core: rows "
        "meet in smaller batches than in one worker, and it answers more; no access log",
        "that it is an array of numbers",
        "adaptive",
        {"BENTOML_DO_NOT_TRACK": "True"},
    ),
    Tool(
        "litserve",
        "litserve",
        "LitServe",
        "/predict",
        _litserve,
        lambda *arguments: {"row": arguments[-1]},
        lambda answer: list(answer["probabilities"]),
        f"`max_batch_size={BATCH}`, `batch_timeout={WAIT_SECONDS}`, `fast_queue=True` (ZeroMQ), one worker",
        "no",
        "yes",
        {},
    ),
    Tool(
        "mlserver",
        "mlserver",
        "MLServer",
        "/v2/models/model/infer",
        _mlserver,
        _open_inference,
        lambda answer: list(answer["outputs"][0]["data"]),
        f"Its scikit-learn runtime (ONNX: a custom runtime), `max_batch_size={BATCH}`, "
        f"`max_batch_time={WAIT_SECONDS}`, `parallel_workers=0`: inference in the server's process, which costs less "
        "than a pool for a model this small",
        "the Open Inference Protocol: shape and type",
        "adaptive",
        {},
    ),
    Tool(
        "ray",
        "ray",
        "Ray Serve",
        "/",
        _ray,
        lambda *arguments: {"row": arguments[-1]},
        lambda answer: list(answer["probabilities"]),
        f"`@serve.batch(max_batch_size={BATCH}, batch_wait_timeout_s={WAIT_SECONDS})`, one replica, and the documented "
        "high throughput mode: HAProxy in front, `RAY_SERVE_THROUGHPUT_OPTIMIZED=1`; no access log, no dashboard",
        "no",
        "yes",
        {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_USAGE_STATS_ENABLED": "0"},
    ),
)


def simplest(bundle: Bundle) -> list[str]:
    """Return the command of the simplest design, which runs in our own environment."""
    return [environment(OURS).python, "-m", "bench.baselines.simplest", "{port}", str(bundle.file(SKLEARN))]
