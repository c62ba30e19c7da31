"""`python -m services.gateway keys`: create, list, revoke and reset the API keys that all services share.

Only a new key goes to standard output, for scripts. Everything else goes to standard error.
"""

import secrets
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from shared.files import locked, make_private_folder, replace_file, sync_folder
from shared.web.api_keys import ApiKey, ApiKeyFile, KeyFileError, Role, digest, read_keys, write_mark

PREFIX = "pdk_"
"""Prefix of every key, by which secret scanners recognise a leaked one."""
_KEY_BYTES = 32
_ID_BYTES = 6
_LONGEST_NAME = 80
_FAILED = 1


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command line."""
    commands = parser.add_subparsers(dest="action", required=True)
    create = commands.add_parser("create", help="make a key and show it, once")
    create.add_argument("--role", required=True, choices=[role.value for role in Role])
    create.add_argument("--name", type=_name, default="", help="its owner, shown in the list")
    commands.add_parser("list", help="show all keys ever made, without the keys themselves")
    revoke = commands.add_parser("revoke", help="revoke a key; takes effect within seconds wherever the file is shared")
    revoke.add_argument("id", help="its id, as shown by list")
    commands.add_parser(
        "reset", help="delete all keys: services started afterwards need none, and serve this machine only"
    )


def run(path: Path, arguments: Namespace, mark: Path | None = None) -> int:
    """Run the command of `arguments` on the file at `path`; return the exit code. `mark` records that keys exist."""
    try:
        match arguments.action:
            case "create":
                key, entry = create(path, Role(arguments.role), arguments.name)
                print(key)  # noqa: T201 - the only place where it is shown
                if mark is not None:
                    write_mark(mark)
                _print(f"keys: created {entry.id} for {entry.role}; the key is shown only this once")
            case "list":
                _show(read_keys(path) or ApiKeyFile())
            case "reset":
                reset(path, mark)
                _print("keys: deleted all; running services reject every request until they are restarted")
            case _:
                revoke(path, arguments.id)
                _print(f"keys: revoked {arguments.id}")
    except KeyFileError as error:
        _print(f"keys: {error}")
        return _FAILED
    except OSError as error:
        _print(f"keys: {path.parent} cannot be written: {error.strerror}")
        return _FAILED
    return 0


def create(path: Path, role: Role, name: str = "") -> tuple[str, ApiKey]:
    """Create a key; return it, and its entry in the file.

    Raises:
        KeyFileError: the file exists and cannot be used.
        OSError: the folder cannot be written.

    """
    key = PREFIX + secrets.token_urlsafe(_KEY_BYTES)
    entry = ApiKey(id=secrets.token_hex(_ID_BYTES), role=role, name=name, sha256=digest(key.encode()), created=_now())
    with _changed(path) as keys:
        keys.append(entry)
    return key, entry


def revoke(path: Path, key_id: str) -> None:
    """Revoke the key with the id `key_id`; a key revoked before keeps its time.

    Raises:
        KeyFileError: there is no such key, or the file cannot be used.
        OSError: the folder cannot be written.

    """
    with _changed(path) as keys:
        if key_id not in {key.id for key in keys}:
            raise KeyFileError(f"no key has the id {key_id}; `keys list` shows them")
        keys[:] = [
            key.model_copy(update={"revoked": key.revoked or _now()}) if key.id == key_id else key for key in keys
        ]


def reset(path: Path, mark: Path | None) -> None:
    """Delete the file of keys, also a damaged one, and then `mark`: after a crash between the two, keys are needed.

    Raises:
        KeyFileError: one of them cannot be deleted.

    """
    for file in (path, mark):
        try:
            if file is not None and file.exists():
                file.unlink()
                sync_folder(file.parent)
        except OSError as error:
            raise KeyFileError(f"{file} cannot be deleted: {error.strerror}") from None


def _show(listed: ApiKeyFile) -> None:
    print(f"{'ID':12}  {'ROLE':8}  {'CREATED':20}  {'REVOKED':20}  NAME")  # noqa: T201 - for a person
    for key in listed.keys:
        revoked = "" if key.revoked is None else _shown(key.revoked)
        print(f"{key.id:12}  {key.role:8}  {_shown(key.created):20}  {revoked:20}  {key.name}")  # noqa: T201 - as above


def _name(text: str) -> str:
    """Return a name that fits one line of a terminal."""
    if len(text) > _LONGEST_NAME or not text.isprintable():
        raise ArgumentTypeError(f"a name has at most {_LONGEST_NAME} characters, all printable")
    return text


@contextmanager
def _changed(path: Path) -> Iterator[list[ApiKey]]:
    """Yield the keys to change, and replace the file; meanwhile a lock on its folder excludes other commands.

    Services do not run as root: a file written by root must stay readable to them.
    """
    make_private_folder(path.parent)
    with locked(path.parent):
        keys = list((read_keys(path) or ApiKeyFile()).keys)
        yield keys
        content = ApiKeyFile(keys=tuple(keys)).model_dump_json(indent=1).encode() + b"\n"
        replace_file(path, content, mode=0o600, folder_owner=True)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _print(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201 - for a person
