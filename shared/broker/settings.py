"""Settings of the broker, for the gateway and the recorder."""

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, SecretStr

from shared.contracts.gateway_proof import MIN_SECRET_BYTES
from shared.settings import ServiceSettings, SettingsError


class BrokerSettings(ServiceSettings):
    """Settings of every service that uses the broker."""

    broker_url: SecretStr | None = None
    """RabbitMQ's URL: amqp://user:password@host:5672/vhost, or amqps://. Unset: no broker."""
    broker_prefix: str = Field(default="predecir", pattern=r"^[a-z][a-z0-9_-]{0,39}$")
    """Prefix of the names of exchanges and queues; systems that share a broker need different prefixes."""
    enrolment_secret_file: Path | None = None
    """File of the secret, the same for gateways and recorders, by which a recorder enrols gateways that it does not
    know. Unset: only `gateways add` enrols."""

    def enrolment_secret(self) -> bytes | None:
        """Read `ENROLMENT_SECRET_FILE`; None if it is not set.

        Raises:
            SettingsError: the file cannot be read, or is too short for a secret.

        """
        path = self.enrolment_secret_file
        if path is None:
            return None
        try:
            secret = path.read_bytes().strip()
        except OSError as error:
            raise SettingsError(f"settings: ENROLMENT_SECRET_FILE: {path} cannot be read ({error.strerror})") from None
        if len(secret) < MIN_SECRET_BYTES:
            raise SettingsError(f"settings: ENROLMENT_SECRET_FILE: {path} has less than {MIN_SECRET_BYTES} bytes")
        return secret


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
