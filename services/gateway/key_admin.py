"""`python -m services.gateway keys`: create, list and revoke the keys that all services share.

A new key goes to standard output alone, for a script to take; all else is said on standard error.
"""

from __future__ import annotations

import secrets
import sys
from argparse import ArgumentTypeError
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from shared.files import locked, replace_file
from shared.web.api_keys import ApiKeyFile, Key, KeyFileError, Role, digest, read_keys

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator
    from pathlib import Path

PREFIX = "pdk_"
"""Begins every key, so that one that leaked is recognised by whoever searches for secrets."""
_KEY_BYTES = 32
_ID_BYTES = 6
_LONGEST_NAME = 80
_FAILED = 1


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the command line."""
    commands = parser.add_subparsers(dest="action", required=True)
    create = commands.add_parser("create", help="make a key and show it, once")
    create.add_argument("--role", required=True, choices=[role.value for role in Role])
    create.add_argument("--name", type=_name, default="", help="whose it is, to recognise it in the list")
    commands.add_parser("list", help="show all keys ever made, without the keys themselves")
    revoke = commands.add_parser("revoke", help="end a key; holds within seconds wherever the file is shared")
    revoke.add_argument("id", help="its id, as shown by list")


def run(path: Path, asked: Namespace) -> int:
    """Do what was `asked` with the file at `path`; returns the exit code."""
    try:
        match asked.action:
            case "create":
                key, made = create(path, Role(asked.role), asked.name)
                print(key)  # noqa: T201 - its holder, or a script, reads it here and nowhere else
                _say(f"keys: created {made.id} for {made.role}; the key is shown only this once")
            case "list":
                _show(read_keys(path) or ApiKeyFile())
            case _:
                revoke(path, asked.id)
                _say(f"keys: revoked {asked.id}")
    except KeyFileError as error:
        _say(f"keys: {error}")
        return _FAILED
    except OSError as error:
        _say(f"keys: {path.parent} cannot be written: {error.strerror}")
        return _FAILED
    return 0


def create(path: Path, role: Role, name: str = "") -> tuple[str, Key]:
    """Make a key, and give it together with what the file keeps of it.

    Raises:
        KeyFileError: the file is there and cannot be used.
        OSError: the folder cannot be written.

    """
    key = PREFIX + secrets.token_urlsafe(_KEY_BYTES)
    made = Key(id=secrets.token_hex(_ID_BYTES), role=role, name=name, sha256=digest(key.encode()), created=_now())
    with _locked(path):
        listed = read_keys(path) or ApiKeyFile()
        _write(path, ApiKeyFile(keys=(*listed.keys, made)))
    return key, made


def revoke(path: Path, wanted: str) -> None:
    """End the key whose id is `wanted`; one that has ended keeps its time.

    Raises:
        KeyFileError: there is no such key, or the file cannot be used.
        OSError: the folder cannot be written.

    """
    with _locked(path):
        listed = (read_keys(path) or ApiKeyFile()).keys
        if wanted not in {key.id for key in listed}:
            raise KeyFileError(f"no key has the id {wanted}; `keys list` shows them")
        ended = (
            key.model_copy(update={"revoked": key.revoked or _now()}) if key.id == wanted else key for key in listed
        )
        _write(path, ApiKeyFile(keys=tuple(ended)))


def _show(listed: ApiKeyFile) -> None:
    print(f"{'ID':12}  {'ROLE':8}  {'CREATED':20}  {'REVOKED':20}  NAME")  # noqa: T201 - a person reads this
    for key in listed.keys:
        revoked = "" if key.revoked is None else _shown(key.revoked)
        print(f"{key.id:12}  {key.role:8}  {_shown(key.created):20}  {revoked:20}  {key.name}")  # noqa: T201 - the same


def _name(text: str) -> str:
    """Take a name that shows as one line in a terminal."""
    if len(text) > _LONGEST_NAME or not text.isprintable():
        raise ArgumentTypeError(f"a name has at most {_LONGEST_NAME} characters, all printable")
    return text


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other commands off the file. The folder bears the lock: the file is replaced as a whole at each change."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(path.parent):
        yield


def _write(path: Path, listed: ApiKeyFile) -> None:
    """Replace the file. The services do not run as root: a file that root writes must stay theirs to read."""
    content = listed.model_dump_json(indent=1).encode() + b"\n"
    replace_file(path, content, mode=0o600, folder_owner=True)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _say(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201 - whoever typed the command reads it
