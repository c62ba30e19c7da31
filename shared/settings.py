"""Settings: environment variables (or `.env` in the working folder), read once at the edge into frozen classes.

Each service declares its own class. `.env.example` lists all variables, and a test compares the two.
"""

from pathlib import Path
from typing import TypeVar

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.failpoints import parse

S = TypeVar("S", bound=BaseSettings)

LARGEST_ENV_FILE = 1024 * 1024
"""Bytes of `.env`."""
BAD_SETTINGS = 78
"""Exit code for a wrong or missing setting: EX_CONFIG of sysexits(3)."""


class SettingsError(Exception):
    """A setting is wrong or missing. The message has its name and the expected form, never its value."""


class ProcessSettings(BaseSettings):
    """Settings of every process, services and commands."""

    model_config = SettingsConfigDict(frozen=True, env_file=".env", env_ignore_empty=True, extra="ignore")

    failpoint: str | None = Field(default=None, alias="PREDECIR_FAILPOINT")
    """For tests: the failpoint (`shared/failpoints.py`) at which the process kills itself, as NAME or NAME:PASS."""

    @field_validator("failpoint")
    @classmethod
    def _exists(cls, text: str | None) -> str | None:
        if text is not None:
            parse(text)
        return text


class ServiceSettings(ProcessSettings):
    """Settings of every service."""

    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback needs keys and ALLOWED_HOSTS."""
    port: int = Field(default=8000, ge=0, le=65535)
    """TCP port; 0 takes a free port and prints it."""
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")
    """Least severe event that is logged."""
    drain_seconds: float = Field(default=0, ge=0)
    """How long readiness fails before the service stops, so that a load balancer stops sending requests first."""
    keep_alive_seconds: int = Field(default=120, ge=1)
    """How long an open connection waits for a request; longer than clients' pools and balancers keep theirs."""
    max_connections: int = Field(default=1000, ge=1)
    """Open connections of the service. For one more it closes those that wait longest, or refuses the new one."""
    allowed_hosts: str = "localhost,127.0.0.1,[::1]"
    """Accepted host names of requests, comma separated, without port. Any name beyond loopback needs keys."""
    predecir_paciente: str = "shared.diseases.thyroid:DatosPaciente"
    """The patient class, as package.module:Class."""
    var: Path = Field(default=Path("var"), alias="PREDECIR_VAR")
    """Folder for all state but the database."""
    keys: Path | None = Field(default=None, alias="PREDECIR_KEYS")
    """File of the API keys, shared by all replicas, instead of keys/access.json under PREDECIR_VAR. If it is set, no
    service starts without keys."""
    key_rate: float = Field(default=1000, ge=0)
    """Requests per second of one API key to one replica; 0: no limit. Keys of services have no limit."""
    key_burst: int = Field(default=1000, ge=1)
    """Requests that one API key may send at once after a pause."""

    @property
    def keys_file(self) -> Path:
        """The file of the API keys."""
        return self.keys or self.var / "keys" / "access.json"

    @property
    def keys_mark(self) -> Path | None:
        """The file that records that keys existed (`shared.web.api_keys`); None with PREDECIR_KEYS.

        It is in the outbox's folder, so that a loss of the folder of keys does not remove it.
        """
        return self.var / "gateway" / "keys-required" if self.keys is None else None


def read_settings(kind: type[S]) -> S:
    """Read `kind` from the environment.

    Raises:
        SettingsError: one line with the name of each wrong variable.

    """
    file = Path(".env")
    if file.is_file() and file.stat().st_size > LARGEST_ENV_FILE:  # pydantic reads it whole, and only a regular file
        raise SettingsError(f"settings: .env has more than {LARGEST_ENV_FILE} bytes; is it another file?")
    try:
        return kind()
    except UnicodeDecodeError:
        raise SettingsError("settings: .env is not UTF-8 text; save it as UTF-8") from None
    except ValidationError as error:
        wrong = "; ".join(
            f"{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}"
            for e in error.errors(include_input=False, include_url=False)
        )
        raise SettingsError(f"settings: {wrong} (see .env.example)") from None
