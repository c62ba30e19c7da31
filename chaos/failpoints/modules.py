"""Modules that a zygote imports once for all processes that it forks."""

SERVICES = (
    "services.local.app",
    "services.recorder.transfer.command",
    "services.inference.serving.onnx_model",
    "uvicorn.protocols.http.httptools_impl",
    "aiosqlite",
    "asyncpg",
)
TRAINING = (
    "training.registry.promotion",
    "training.registry.mlflow_registry",
    "training.evaluation.gates",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
)
