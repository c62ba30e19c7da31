"""Translation of the exceptions of MLflow and of its database to a RegistryError of one line."""

import contextlib
import errno
import sqlite3
from collections.abc import Iterator

from alembic.util import CommandError
from google.protobuf.json_format import ParseError
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from training.errors import RegistryError

_DISK_ERRORS = {errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.ENOENT, errno.ENOSPC, errno.EPERM, errno.EROFS}
_LONGEST_TEXT = 300
_RESTORE = "restore it from the backup (docs/operations/running.md)"
_REMEDIES = {
    sqlite3.SQLITE_BUSY: "end the other program that uses it, or wait for it, and repeat the command",
    sqlite3.SQLITE_CANTOPEN: "it must be a file that this user can read and write",
    sqlite3.SQLITE_CORRUPT: _RESTORE,
    sqlite3.SQLITE_NOTADB: _RESTORE,
}


@contextlib.contextmanager
def translate_errors(uri: str) -> Iterator[None]:
    """Raise a RegistryError in place of exceptions of MLflow and its database; it names `uri` without credentials."""
    try:
        yield
    except (MlflowException, CommandError, SQLAlchemyError, sqlite3.Error, OSError, ParseError) as error:
        message = f"model registry {uri.rpartition('@')[2]}: {_root_cause(error)}"
        raise RegistryError(message) from error


def _root_cause(error: BaseException) -> str:
    """Describe the innermost exception; MLflow wraps it several times."""
    root = error
    while cause := root.__cause__ or root.__context__:
        root = cause
    if isinstance(error, CommandError):
        return f"its tables are of another program, or of a newer MLflow; {_RESTORE}"
    if isinstance(root, OSError):
        return root.strerror if root.errno in _DISK_ERRORS and root.strerror else "cannot be reached"
    if isinstance(error, ParseError):
        return "does not answer as MLflow does"
    text = str(root).strip().partition("\n")[0][:_LONGEST_TEXT]  # a server's text may have any length
    remedy = _REMEDIES.get(getattr(root, "sqlite_errorcode", 0) & 0xFF)  # the rest is the extended code
    return f"{text}; {remedy}" if remedy else text
