"""Translation of MLflow's exceptions to a RegistryError of one line."""

import contextlib
import errno
from collections.abc import Iterator

from mlflow.exceptions import MlflowException

from training.errors import RegistryError

_DISK_ERRORS = {errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.ENOENT, errno.ENOSPC, errno.EPERM, errno.EROFS}


@contextlib.contextmanager
def translate_errors(uri: str) -> Iterator[None]:
    """Raise a RegistryError in place of MLflow's exceptions. It names the registry at `uri`, without credentials."""
    try:
        yield
    except (MlflowException, OSError) as error:
        message = f"model registry {uri.rpartition('@')[2]}: {_root_cause(error)}"
        raise RegistryError(message) from error


def _root_cause(error: BaseException) -> str:
    """Describe the innermost exception; MLflow wraps it several times."""
    root = error
    while cause := root.__cause__ or root.__context__:
        root = cause
    if isinstance(root, OSError):
        return root.strerror if root.errno in _DISK_ERRORS and root.strerror else "cannot be reached"
    return str(root).strip().partition("\n")[0]
