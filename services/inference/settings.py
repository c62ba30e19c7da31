"""What an operator can say to the inference service."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from shared.settings import ServiceSettings


class InferenceSettings(ServiceSettings):
    """Environment of the inference service."""

    port: int = Field(default=8001, ge=0, le=65535)
    """TCP port; 0 takes a free one and prints it."""
    inference_bundle: Path | None = None
    """Folder of the bundle to serve, instead of `production` of the patient's disease under PREDECIR_VAR/models."""
    inference_retry_seconds: float = Field(default=5, gt=0)
    """How long to wait before looking again for a model, as long as none can serve."""
    inference_max_batch: int = Field(default=64, ge=1)
    """Most patients of concurrent callers that travel in one model call."""
    inference_max_queue: int = Field(default=4096, ge=1)
    """Most patients that wait for the model; one more is refused at once."""
    inference_max_rows: int = Field(default=10_000, ge=1)
    """Most patients in one infer request."""
