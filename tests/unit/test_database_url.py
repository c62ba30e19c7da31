"""Parsing of `DATABASE_URL`, and the arguments of the driver."""

from pathlib import Path
from typing import Any

import pytest

from shared.database_url import DatabaseSettings, connect_arguments, read_url, shown
from shared.settings import SettingsError

NEON = "postgresql://u:p@ep-x.eu.aws.neon.tech/neondb?sslmode=require"
MARKER = "MARKER"


def arguments(text: str, **defaults: str) -> dict[str, Any]:
    return connect_arguments(read_url(text, defaults), application_name="predecir", connect_seconds=5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgres://u:p@h/db", ("u", "p", "h", 5432, "db")),
        ("postgresql://u:p@h:6543/db", ("u", "p", "h", 6543, "db")),
        ("postgres://u:p%40%2F%3A%25@h/my%20db", ("u", "p@/:%", "h", 5432, "my db")),
        ("postgresql://u:p/a?b#c:d@h/db", ("u", "p/a?b#c:d", "h", 5432, "db")),
        ("postgresql://u@h/db", ("u", None, "h", 5432, "db")),
        ("postgresql://u:p@[::1]:6543/db", ("u", "p", "::1", 6543, "db")),
        ("postgresql://u:p@/db?host=/run/postgresql", ("u", "p", "/run/postgresql", 5432, "db")),
        ("postgresql://u:p@/db?host=/cloudsql/a:b:c", ("u", "p", "/cloudsql/a:b:c", 5432, "db")),
        ("postgresql://h/?user=u&password=p%26&dbname=db&port=1", ("u", "p&", "h", 1, "db")),
    ],
)
def test_a_url_of_libpq_is_taken(text: str, expected: tuple[object, ...]) -> None:
    url = read_url(text)

    assert (url.username, url.password, url.host, url.port, url.database) == expected
    assert (url.drivername, dict(url.query)) == ("postgresql", {})


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("sslmode=require&channel_binding=prefer", {"dsn": "postgresql:///?sslmode=require"}),
        ("ssl=true", {"dsn": "postgresql:///?sslmode=require"}),
        (
            "sslmode=verify-full&sslrootcert=/a%20b/c+d%26.pem",
            {"dsn": "postgresql:///?sslmode=verify-full&sslrootcert=%2Fa%20b%2Fc%2Bd%26.pem"},
        ),
        ("sslmode=disable&sslmode=verify-ca", {"dsn": "postgresql:///?sslmode=verify-ca"}),
        ("target_session_attrs=read-write", {"dsn": "postgresql:///?target_session_attrs=read-write"}),
        ("connect_timeout=15", {"timeout": 15}),
        (
            "application_name=clinic&options=endpoint%3Dep-x",
            {"server_settings": {"application_name": "clinic", "options": "endpoint=ep-x"}},
        ),
        ("gssencmode=disable&sslsni=1&client_encoding=utf8", {}),
    ],
)
def test_a_word_that_the_driver_honours_is_passed_on(words: str, expected: dict[str, Any]) -> None:
    plain = arguments("postgresql://u:p@h/db")

    assert arguments(f"postgresql://u:p@h/db?{words}") == plain | expected


def test_the_arguments_of_a_plain_url_hold_no_word() -> None:
    assert arguments("postgresql://u:p@h/db") == {
        "host": ["h"],
        "port": [5432],
        "timeout": 5,
        "server_settings": {"application_name": "predecir"},
    }


@pytest.mark.parametrize(
    ("hosts", "ports"),
    [("one:1,two:2", [1, 2]), ("one,two:2", [5432, 2]), ("one,two", [5432, 5432])],
)
def test_several_hosts_keep_their_ports(hosts: str, ports: list[int]) -> None:
    given = arguments(f"postgresql://u:p@{hosts}/db?target_session_attrs=primary")

    assert (given["host"], given["port"]) == (["one", "two"], ports)


def test_the_systems_roots_verify_the_whole_name() -> None:
    given = arguments("postgresql://u:p@h/db?sslmode=verify-full&sslrootcert=system")

    assert given["ssl"].check_hostname
    assert given["ssl"].verify_mode.name == "CERT_REQUIRED"
    assert "dsn" not in given


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("channel_binding=require&sslmode=require", "channel_binding: .*write sslmode=verify-full&sslrootcert=system"),
        ("sslmode=MARKER", "sslmode: expected disable, allow, prefer, require, verify-ca, verify-full "),
        ("sslrootcert=/MARKER.pem", "sslrootcert: it has no effect without sslmode=verify-full"),
        ("sslmode=require&sslrootcert=system", "sslrootcert: system needs sslmode=verify-full"),
        ("connect_timeout=0", "connect_timeout: expected whole seconds, from 1 to 600"),
        ("connect_timeout=MARKER", "connect_timeout: expected whole seconds"),
        ("gssencmode=require", "gssencmode: expected disable, prefer"),
        ("client_encoding=latin1", "client_encoding: expected utf8"),
        ("keepalives=1", "expected .*a word after the [?] cannot be honoured; those that can: application_name, "),
        ("MARKER=1", "expected .*a word after the [?] cannot be honoured"),
        ("MARKER", "expected .*each word after the [?] is NAME=VALUE"),
        ("port=1,2", "expected "),
        ("port=MARKER", "expected "),
    ],
)
def test_a_word_that_cannot_be_honoured_is_refused_in_words(words: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=rf"^settings: DATABASE_URL:? ?{reason}.*\(see .env.example\)$") as caught:
        read_url(f"postgresql://u:p@h/db?{words}")

    assert MARKER not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u:p@MARKER@h/db",
        "postgresql://u:p@MARKER/x@h/db",
        "postgresql://u:MARKER@h:port/db",
        "postgresql://u:MARKER@h:65536/db",
        "postgresql://u:MARKER@h/db/more",
        "postgresql://u:MARKER@[::1/db",
        "postgresql://u:MARKER@h",
        "postgresql://u:MARKER/db",
        "postgresql://u/x:MARKER@h/db?@",
        "postgresql://:MARKER@h/db",
        "postgresql://u:p@h/db?password=p&MARKER",
        "postgresql://u:p@h/db?password=p&MARKER=1",
        "postgresql+asyncpg://u:MARKER@h/db",
        "mysql://u:MARKER@h/db",
    ],
)
def test_no_part_of_a_password_is_in_an_error(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^settings: DATABASE_URL: expected sqlite:///") as caught:
        read_url(text)

    assert MARKER not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_shown_of_a_url_has_no_user_and_no_password() -> None:
    assert shown(read_url("postgres://u:p@h/db?sslmode=require")) == "db on h port 5432"
    assert shown(read_url("postgres://u:p@one:1,two:2/db")) == "db on one,two port 1,2"
    assert shown(read_url("sqlite:///./p.db")) == "./p.db"


def test_pgsslmode_in_env_file_or_environment_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text("DATABASE_URL=postgresql://u:p@h/db\nPGSSLMODE=verify-full\nPGSSLROOTCERT=root.pem\n")
    words = {"sslmode": "verify-full", "sslrootcert": "root.pem"}

    assert dict(DatabaseSettings().database().query) == words
    assert dict(DatabaseSettings().database("postgres://u:p@other/db").query) == words
    assert dict(DatabaseSettings().database(f"{NEON}&sslrootcert=r.pem").query) == {
        "sslmode": "require",
        "sslrootcert": "r.pem",
    }
    monkeypatch.setenv("PGSSLMODE", "verify-ca")
    assert DatabaseSettings().database().query["sslmode"] == "verify-ca"
    assert dict(DatabaseSettings().database("sqlite:///./p.db").query) == {}


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("PGSSLMODE", "MARKER", "PGSSLMODE: expected disable, allow"),
        ("PGSSLROOTCERT", "MARKER", "PGSSLROOTCERT: it has no effect without sslmode"),
        ("PGCHANNELBINDING", "require", "PGCHANNELBINDING: the driver, asyncpg, cannot require channel binding"),
    ],
)
def test_a_variable_of_libpq_that_cannot_count_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, reason: str
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(SettingsError, match=f"^settings: {reason}") as caught:
        DatabaseSettings(database_url="postgresql://u:p@h/db").database()

    assert MARKER not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "defaults"),
    [
        ("postgresql://u:contrase\udcf1a@h/db", {}),
        ("postgresql://u:p@h/db?sslmode=verify-full&sslrootcert=/\udcf1.pem", {}),
        ("postgresql://u:p@h/db?sslmode=verify-full", {"sslrootcert": "/\udcf1.pem"}),
    ],
)
def test_a_byte_that_is_not_utf_8_is_refused_in_one_line(text: str, defaults: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="it is not text in UTF-8") as refusal:
        read_url(text, defaults)

    assert "contrase" not in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1
