"""`DATABASE_URL`: an SQLite file, or PostgreSQL as a URL of libpq, as hosted databases hand it out.

asyncpg, the driver, honours most words of libpq (https://www.postgresql.org/docs/current/libpq-connect.html). A word
that it cannot honour is refused, so that no wish for encryption is dropped without notice.
"""

import re
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote, urlencode

from pydantic import SecretStr
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from shared.settings import ProcessSettings, SettingsError

_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_TLS_VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
_PASSED: Mapping[str, tuple[str, ...]] = {
    "sslmode": _MODES,
    "sslnegotiation": ("postgres", "direct"),
    "ssl_min_protocol_version": _TLS_VERSIONS,
    "ssl_max_protocol_version": _TLS_VERSIONS,
    "target_session_attrs": ("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
    **dict.fromkeys(("sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl", "passfile"), ()),
}
"""Words that asyncpg reads from a URL of its own, and their values; no values: any."""
_ALREADY_SO: Mapping[str, tuple[str, ...]] = {
    "channel_binding": ("disable", "prefer"),
    "gssencmode": ("disable", "prefer"),
    "sslcompression": ("0",),
    "sslsni": ("1",),
    "client_encoding": ("utf8", "UTF8", "utf-8", "UTF-8"),
}
"""Words that asyncpg does not know, with the values that describe what it does anyway."""
_SESSION = ("application_name", "options")
_KNOWN = (*_PASSED, *_ALREADY_SO, *_SESSION, "connect_timeout")
_LONGEST_CONNECT_SECONDS = 600
_PORT = "5432"
_LAST_PORT = 65535
_HOST = re.compile(r"(?P<host>\[[^\[\]]+\]|[^:\[\]]+)(?::(?P<port>[0-9]{1,5}))?")
_SQLITE = "sqlite:///./predicciones.db"
_FORMS = f"expected {_SQLITE} or postgresql://user:password@host:5432/database"


class DatabaseSettings(ProcessSettings):
    """Settings of every process that opens the database. Those of libpq hold where the URL has no such word."""

    database_url: SecretStr = SecretStr(_SQLITE)
    """The database: sqlite:///./predicciones.db or postgresql://user:password@host:5432/database?sslmode=verify-full."""
    pgsslmode: str | None = None
    """PostgreSQL's `sslmode`."""
    pgsslrootcert: str | None = None
    """PostgreSQL's `sslrootcert`: a file, or system."""
    pgsslcert: str | None = None
    """PostgreSQL's `sslcert`: the client's certificate."""
    pgsslkey: str | None = None
    """PostgreSQL's `sslkey`: the key of that certificate."""
    pgchannelbinding: str | None = None
    """PostgreSQL's `channel_binding`."""

    def database(self, url: str | None = None) -> URL:
        """Return `url`, by default `DATABASE_URL`, as `read_url` does.

        Raises:
            SettingsError: it is malformed, or names something that cannot be honoured.

        """
        words = ("sslmode", "sslrootcert", "sslcert", "sslkey", "channel_binding")
        values = {word: getattr(self, _variable(word).lower()) for word in words}
        defaults = {word: value for word, value in values.items() if value is not None}
        return read_url(self.database_url.get_secret_value() if url is None else url, defaults)


def read_url(text: str, defaults: Mapping[str, str] | None = None) -> URL:
    """Parse a `DATABASE_URL`, which names no driver; `defaults` are words of libpq that hold where it has none.

    Several hosts are one text with commas in the result, as are their ports in its query, which holds all words.

    Raises:
        SettingsError: it is neither of the two forms, or has a word that cannot be honoured; without any value of it.

    """
    scheme, _, rest = text.partition("://")
    if scheme in {"postgres", "postgresql"}:
        return _read_postgresql(rest, defaults or {})
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise _wrong() from None
    is_file = url.database and not url.database.startswith(":") and not url.host and not url.query
    if url.drivername != "sqlite" or not is_file:
        raise _wrong()
    return url


def connect_arguments(
    url: URL, *, application_name: str, connect_seconds: float, read_only: bool = False
) -> dict[str, Any]:
    """Return asyncpg's arguments for `url`, as `read_url` returned it: place, encryption, session and deadline.

    `application_name` and `connect_seconds` hold if the URL has none. A `read_only` session writes nothing.
    """
    words = {name: str(value) for name, value in url.query.items()}
    session = {"default_transaction_read_only": "on"} if read_only else {}
    if read_only and words.get("target_session_attrs") == "read-write":
        words["target_session_attrs"] = "primary"  # asyncpg would take our setting for one of the server
    arguments: dict[str, Any] = {
        "host": str(url.host).split(","),
        "port": [int(port) for port in words.pop("port", str(url.port)).split(",")],
        "timeout": float(words.pop("connect_timeout", connect_seconds)),
        "server_settings": {
            "application_name": application_name,
            **{word: words.pop(word) for word in _SESSION if word in words},
            **session,
        },
    }
    if words.get("sslrootcert") == "system":
        words = {name: value for name, value in words.items() if name not in {"sslrootcert", "sslmode"}}
        arguments["ssl"] = ssl.create_default_context()
    if words:
        arguments["dsn"] = f"postgresql:///?{urlencode(words, quote_via=quote)}"
    return arguments


def shown(url: URL) -> str:
    """Return what names the database in messages: no user, no password."""
    if not url.host:
        return str(url.database)
    return f"{url.database} on {url.host} port {url.query.get('port', url.port)}"


def _read_postgresql(rest: str, defaults: Mapping[str, str]) -> URL:
    if not all(map(_is_utf_8, (rest, *defaults.values()))):
        raise _wrong("it is not text in UTF-8")
    if rest.count("@") > 1:  # which one ends the password is a guess, and a wrong guess would show a part of it
        raise _wrong("an @ in the user, the password or a word must be written %40")
    credentials, _, place = rest.rpartition("@")
    place, _, query = place.partition("?")
    hosts, _, database = place.partition("/")
    user, _, password = credentials.partition(":")
    words = _parse_words(query)
    parts = {"user": unquote(user), "password": unquote(password), "host": unquote(hosts), "dbname": unquote(database)}
    parts = {name: words.pop(name, part) for name, part in parts.items()}
    names, ports = _read_hosts(parts["host"], words.pop("port", ""))
    if "/" in database or not (parts["user"] and parts["dbname"]):
        raise _wrong()
    several = {"port": ",".join(map(str, ports))} if len(ports) > 1 else {}
    return URL.create(
        "postgresql",
        username=parts["user"],
        password=parts["password"] or None,
        host=",".join(names),
        port=None if several else ports[0],
        database=parts["dbname"],
        query={**_checked(words, defaults), **several},
    )


def _is_utf_8(text: str) -> bool:
    """Return whether `text`, from the environment, is all text: Python keeps other bytes there as half surrogates."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _read_hosts(hosts: str, ports: str) -> tuple[list[str], list[int]]:
    """Return the names and the ports of the hosts; `ports` has one port for all, one for each, or none."""
    names, own_ports = zip(*(_read_host(host) for host in hosts.split(",")), strict=True)
    listed = ports.split(",") if ports else own_ports
    if len(listed) == 1:
        listed = [listed[0]] * len(names)
    if len(listed) != len(names) or not all(port.isdecimal() and 0 < int(port) <= _LAST_PORT for port in listed):
        raise _wrong()
    return list(names), [int(port) for port in listed]


def _read_host(host: str) -> tuple[str, str]:
    if host.startswith("/"):  # the folder of a socket
        return host, _PORT
    match = _HOST.fullmatch(host)
    if match is None:
        raise _wrong()
    return match["host"].strip("[]"), match["port"] or _PORT


def _parse_words(query: str) -> dict[str, str]:
    """Return the words of a URL; the last one of a name counts, as in libpq. A plus sign stays one."""
    words = {}
    for pair in query.split("&") if query else ():
        name, equals, value = pair.partition("=")
        if not equals:
            raise _wrong("each word after the ? is NAME=VALUE")
        words[unquote(name)] = unquote(value)
    if words.get("ssl") == "true":  # of JDBC; libpq takes it, too
        del words["ssl"]
        words.setdefault("sslmode", "require")
    return words


def _checked(words: Mapping[str, str], defaults: Mapping[str, str]) -> dict[str, str]:
    """Return the words to pass on, those of the URL before the defaults.

    Raises:
        SettingsError: one of them is unknown, has no such value, or cannot be honoured.

    """
    merged = {**defaults, **words}
    for name, value in merged.items():
        place = _place(name, words)
        if (name, value) == ("channel_binding", "require"):
            advice = "write sslmode=verify-full&sslrootcert=system instead, which verifies the server's certificate"
            raise _refused(place, f"the driver, asyncpg, cannot require channel binding; {advice}")
        _check(name, value, place)
    passed = {name: value for name, value in merged.items() if name not in _ALREADY_SO}
    _check_root(passed, _place("sslrootcert", words))
    return passed


def _place(name: str, words: Mapping[str, str]) -> str:
    """Return where a word was set: in the URL with these words, or in the environment."""
    return f"DATABASE_URL: {name}" if name in words else _variable(name)


def _check(name: str, value: str, place: str) -> None:
    if name == "connect_timeout":
        if not (value.isdecimal() and 1 <= int(value) <= _LONGEST_CONNECT_SECONDS):
            raise _refused(place, f"expected whole seconds, from 1 to {_LONGEST_CONNECT_SECONDS}")
    elif values := {**_PASSED, **_ALREADY_SO}.get(name):
        if value not in values:
            raise _refused(place, f"expected {', '.join(values)}")
    elif name not in _KNOWN:  # and is not quoted: it may be a part of a password
        raise _wrong(f"a word after the ? cannot be honoured; those that can: {', '.join(sorted(_KNOWN))}")


def _check_root(words: Mapping[str, str], place: str) -> None:
    """Refuse a root certificate that nothing would be verified with."""
    if "sslrootcert" not in words:
        return
    if "sslmode" not in words:
        raise _refused(place, "it has no effect without sslmode=verify-full, verify-ca or require")
    if words["sslrootcert"] == "system" and (
        words["sslmode"] != "verify-full" or any(name in words for name in ("sslcert", "sslkey", "sslcrl"))
    ):
        raise _refused(place, "system needs sslmode=verify-full, and is without sslcert, sslkey and sslcrl")


def _variable(word: str) -> str:
    """Return libpq's environment variable for a word."""
    return f"PG{word.replace('_', '').upper()}"


def _wrong(detail: str = "") -> SettingsError:
    return _refused("DATABASE_URL", f"{_FORMS}{detail and f'; {detail}'}")


def _refused(place: str, reason: str) -> SettingsError:
    return SettingsError(f"settings: {place}: {reason} (see .env.example)")
