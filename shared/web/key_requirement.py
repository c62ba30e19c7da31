"""Whether requests need an API key, decided at each start. A service that needs keys and has none does not start.

Behind a proxy on the same machine every request comes from loopback. So a loopback `HOST` does not prove that nobody
else can reach the service; a setting for other clients, or a mark of former keys, makes keys necessary.
"""

import ipaddress

import structlog

from shared.settings import ServiceSettings, SettingsError
from shared.web.api_keys import ApiKeyStore, KeyFileError, has_mark

_CREATE = "create a key with: python -m services.gateway keys create --role medico --name OWNER"


def open_keys(settings: ServiceSettings) -> ApiKeyStore:
    """Return the keys of a service.

    Raises:
        SettingsError: keys are needed and there are none; their file cannot be used; or `HOST` is beyond loopback, and
            `ALLOWED_HOSTS` is not set.

    """
    try:
        keys = ApiKeyStore(settings.keys_file, settings.keys_mark)
        reason = None if keys.required else _missing(settings)
    except KeyFileError as error:
        setting = "PREDECIR_VAR" if settings.keys is None else "PREDECIR_KEYS"
        raise SettingsError(f"settings: {setting}: {error}") from None
    if reason is not None:
        raise SettingsError(f"settings: {reason}")
    if not _is_loopback(settings.host) and "allowed_hosts" not in settings.model_fields_set:
        raise SettingsError(
            "settings: ALLOWED_HOSTS: name the hosts by which clients reach this HOST, such as predecir.example.org"
        )
    return keys


def log_requirement(settings: ServiceSettings, keys: ApiKeyStore) -> None:
    """Log in one line whether requests need a key."""
    if keys.required:
        structlog.get_logger().info("keys_required", active=keys.active, file=str(settings.keys_file))
    else:
        structlog.get_logger().info("keys_not_required", clients="this machine only")


def _missing(settings: ServiceSettings) -> str | None:
    """Return why a service without a key may not start and the remedy, or None if it may.

    Raises:
        KeyFileError: whether there were keys is not known.

    """
    path = settings.keys_file
    state = "has no keys" if path.exists() else "is not there"
    if settings.keys is not None:
        return f"PREDECIR_KEYS: {path} {state}; mount or restore the file of keys, or {_CREATE}"
    if settings.keys_mark is not None and has_mark(settings.keys_mark):
        return (
            f"PREDECIR_VAR: {path} {state}, and there were keys ({settings.keys_mark}); restore it, or {_CREATE};"
            " only `python -m services.gateway keys reset` goes back to a service without keys"
        )
    if not _is_loopback(settings.host):
        return f"HOST: without keys only a loopback address is allowed, such as 127.0.0.1; to allow others, {_CREATE}"
    names = map(str.strip, settings.allowed_hosts.split(","))
    if not all(_is_loopback(name.removeprefix("[").removesuffix("]")) for name in names if name):
        return (
            f"ALLOWED_HOSTS: without keys only names of loopback are allowed, such as localhost; for others, {_CREATE}"
        )
    return None


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name.lower() == "localhost"
