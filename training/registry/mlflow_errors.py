"""What MLflow raises, told in one line."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING

from mlflow.exceptions import MlflowException

from training.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Iterator

_DISK = {errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.ENOENT, errno.ENOSPC, errno.EPERM, errno.EROFS}


@contextlib.contextmanager
def translated(uri: str) -> Iterator[None]:
    """Raise a RegistryError that names the registry at `uri`, without credentials, for whatever MLflow raises."""
    try:
        yield
    except (MlflowException, OSError) as error:
        message = f"model registry {uri.rpartition('@')[2]}: {_reason(error)}"
        raise RegistryError(message) from error


def _reason(error: BaseException) -> str:
    """Find what happened at the bottom of it, which MLflow wraps several times."""
    root = error
    while below := root.__cause__ or root.__context__:
        root = below
    if isinstance(root, OSError):
        return root.strerror if root.errno in _DISK and root.strerror else "cannot be reached"
    return str(root).strip().partition("\n")[0]
