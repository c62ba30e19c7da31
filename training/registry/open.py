"""Opening the model registry that the settings name."""

import os
from typing import TYPE_CHECKING

from training.errors import RegistryError
from training.settings import TrainingSettings

if TYPE_CHECKING:
    from training.registry.mlflow_registry import ModelRegistry


def open_registry(settings: TrainingSettings, name: str) -> "ModelRegistry":
    """Open the registry of model `name`. Imports MLflow, which takes seconds.

    Raises:
        RegistryError: it cannot be used.

    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # the URL may contain a password
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    from training.registry.mlflow_registry import ModelRegistry  # noqa: PLC0415 - MLflow reads the variables above

    try:
        settings.var.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"PREDECIR_VAR={settings.var}: cannot be made ({error.strerror}); it is the model registry's folder"
        raise RegistryError(message) from None
    return ModelRegistry(name, uri=settings.mlflow_tracking_uri, var=settings.var)
