"""The recorder's settings."""

from pydantic import Field, SecretStr

from shared.broker.settings import BrokerSettings
from shared.database_url import DatabaseSettings


class RecorderSettings(DatabaseSettings, BrokerSettings):
    """The recorder's environment variables, besides those of every service."""

    port: int = Field(default=8002, ge=0, le=65535)
    """TCP port of the read API; 0 takes a free one and prints it."""
    clinic_time_zone: str | None = None
    """Zone of the days in the analysts' view (`dia_local`), as Europe/Madrid; None: this machine's."""
    broker_management_url: SecretStr | None = None
    """RabbitMQ's management API, as http://host:15672, to log policies that lose messages. Without a login in it, that
    of BROKER_URL; the user needs the tag `management`."""
    broker_prefetch: int = Field(default=20, ge=1, le=10_000)
    """Messages, of up to 200 events each, that the broker delivers before earlier ones are recorded. A container's
    memory has room for this number of the largest messages that deploy/rabbitmq.conf allows."""
    recorder_max_gateways: int = Field(default=100, ge=0)
    """Gateways up to which unknown ones are enrolled by ENROLMENT_SECRET_FILE; `gateways add` may exceed it."""
    recorder_unsigned_messages: bool = False
    """Record also messages of gateways of version 0.1, which sign nothing. Only while such gateways are upgraded."""
