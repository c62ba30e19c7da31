"""Settings of the broker, for the gateway and the recorder."""

from urllib.parse import urlsplit

from pydantic import Field, SecretStr

from shared.settings import ServiceSettings, SettingsError


class BrokerSettings(ServiceSettings):
    """Settings of every service that uses the broker."""

    broker_url: SecretStr | None = None
    """RabbitMQ's URL: amqp://user:password@host:5672/vhost, or amqps://. Unset: no broker."""
    broker_prefix: str = Field(default="predecir", pattern=r"^[a-z][a-z0-9_-]{0,39}$")
    """Prefix of the names of exchanges and queues; systems that share a broker need different prefixes."""


def read_broker_url(url: SecretStr) -> str:
    """Return `BROKER_URL` as text.

    Raises:
        SettingsError: it is not an AMQP URL with user and host.

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
    """Return an error of the AMQP client as one line; it never contains the password."""
    text = next(iter(str(error).splitlines()), "") or type(error).__name__
    if "Connection.OpenOk" in text:  # the client drops the broker's text here, and prints the frame's address instead
        return "the virtual host of BROKER_URL does not exist, or its user has no permission for it"
    return text
