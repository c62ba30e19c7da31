"""`python -m services.gateway identity`: the id and public key of the gateway whose folder this is.

The private key is in the outbox, which a running gateway locks. So each start writes the public half beside it.
"""

import sqlite3
import sys
from argparse import ArgumentParser, Namespace
from contextlib import closing
from pathlib import Path

from services.gateway.outbox.database import OutboxFile
from shared.contracts.gateway_proof import GatewayKey
from shared.files import replace_file

_FILE = "gateway.pub"
_FAILED = 1


def write_identity(folder: Path, key: GatewayKey) -> None:
    """Write id and public key to `gateway.pub` in `folder`, unless they are there.

    Raises:
        OSError: it cannot be written.

    """
    path, content = folder / _FILE, f"{key.gateway_id} {key.public_key.hex()}\n".encode()
    if not path.exists() or path.read_bytes() != content:
        replace_file(path, content, mode=0o600)


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command line."""
    parser.add_argument(
        "--renew", action="store_true", help="take another key and id first; stop the gateway. Waiting events keep both"
    )


def run(folder: Path, arguments: Namespace) -> int:
    """Print id and public key of the gateway in `folder`; return the exit code."""
    try:
        if arguments.renew:
            _renew(folder)
        print((folder / _FILE).read_text(), end="")  # noqa: T201 - for an operator, and for `gateways add`
    except FileNotFoundError:
        return _failed(f"{folder}: no gateway has started there; PREDECIR_VAR chooses another folder")
    except OSError as error:
        return _failed(f"{folder}: {error}")
    return 0


def _renew(folder: Path) -> None:
    """Take another id in the outbox of `folder`.

    Raises:
        OSError: there is no outbox, or it cannot be written; also if a gateway has it open.

    """
    path = folder / "outbox.db"
    if not path.exists():
        raise FileNotFoundError(path)
    try:
        with closing(OutboxFile(path, keep_answers=0)) as file:
            file.renew_id()
            write_identity(folder, file.keys[file.gateway_id])
    except sqlite3.Error as error:
        raise OSError(f"the outbox cannot be opened ({error}); stop its gateway first") from error


def _failed(reason: str) -> int:
    print(f"identity: {reason}", file=sys.stderr)  # noqa: T201 - for an operator
    return _FAILED
