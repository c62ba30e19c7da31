"""The recorder's settings."""

from __future__ import annotations

from pydantic import Field, SecretStr

from shared.settings import ServiceSettings


class RecorderSettings(ServiceSettings):
    """What the recorder reads from the environment, besides what every service reads."""

    port: int = Field(default=8002, ge=0, le=65535)
    """TCP port of the read API; 0 takes a free one and prints it."""
    database_url: SecretStr = SecretStr("sqlite:///./predicciones.db")
    """Where predictions are kept: sqlite:///./predicciones.db or postgresql://user:password@host:5432/database."""
