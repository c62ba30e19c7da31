"""What the gateway and the recorder both need to know to talk to the broker."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, SecretStr

from shared.settings import ServiceSettings, SettingsError


class BrokerSettings(ServiceSettings):
    """Environment variables of every service that talks to the broker."""

    broker_url: SecretStr | None = None
    """Where RabbitMQ is: amqp://user:password@host:5672/vhost, or amqps://. Unset: no broker."""
    broker_prefix: str = Field(default="predecir", pattern=r"^[a-z][a-z0-9_-]{0,39}$")
    """What the names of exchanges and queues begin with; systems that share a broker need different ones."""


def read_broker_url(url: SecretStr) -> str:
    """Check `BROKER_URL`.

    Raises:
        SettingsError: it has not the form of one.

    """
    text = url.get_secret_value()
    try:
        parts = urlsplit(text)
        if parts.scheme in {"amqp", "amqps"} and parts.hostname and parts.username and parts.port != 0:
            return text
    except ValueError:
        pass
    raise SettingsError("settings: BROKER_URL: expected amqp://user:password@host:5672/vhost (see .env.example)")


def reason(error: BaseException) -> str:
    """Say in one line what the client met; it never quotes the password."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
