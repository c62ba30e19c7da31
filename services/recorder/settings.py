"""The recorder's settings."""

from pydantic import Field, SecretStr

from shared.broker.settings import BrokerSettings


class RecorderSettings(BrokerSettings):
    """The recorder's environment variables, besides those of every service."""

    port: int = Field(default=8002, ge=0, le=65535)
    """TCP port of the read API; 0 takes a free one and prints it."""
    database_url: SecretStr = SecretStr("sqlite:///./predicciones.db")
    """The database: sqlite:///./predicciones.db or postgresql://user:password@host:5432/database."""
    clinic_time_zone: str | None = None
    """Zone of the days in the analysts' view (`dia_local`), as Europe/Madrid; None: this machine's."""
    broker_prefetch: int = Field(default=50, ge=1, le=10_000)
    """Messages, of up to 200 events each, that the broker delivers before earlier ones are recorded."""
