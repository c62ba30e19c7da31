"""Settings of the inference service, read from environment variables."""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from shared.settings import ServiceSettings


def _with_a_host(uri: str) -> str:
    if uri.startswith("http") and not _is_server(uri):
        raise ValueError("must be like http://mlflow:5000")
    return uri


def _is_server(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # such as an invalid port; the message may quote a password
        return False


class InferenceSettings(ServiceSettings):
    """Environment of the inference service."""

    port: int = Field(default=8001, ge=0, le=65535)
    """TCP port; 0 takes a free one and prints it."""
    inference_bundle: Path | None = None
    """Folder of the bundle to serve, instead of `production` of the patient's disease under PREDECIR_VAR/models."""
    mlflow_tracking_uri: Annotated[str, AfterValidator(_with_a_host)] | None = None
    """The MLflow server whose `production` is served. Unless it is http(s), the link in the model store is served."""
    inference_poll_seconds: float = Field(default=5, gt=0)
    """How long to wait between two polls of the version in production."""
    inference_max_batch: int = Field(default=64, ge=1)
    """Most patients of concurrent callers in one model call."""
    inference_max_queue: int = Field(default=4096, ge=1)
    """Most patients that wait for the model; one more is rejected at once."""
    inference_max_rows: int = Field(default=10_000, ge=1)
    """Most patients in one infer request."""

    @property
    def followed_registry(self) -> str | None:
        """The URL of the registry, or None if a folder was chosen or the registry is not a server."""
        uri = self.mlflow_tracking_uri
        return uri if uri is not None and uri.startswith("http") and self.inference_bundle is None else None
