"""DVC's pointer file of the raw data, `data/raw.csv.dvc`: the digest of the file that DVC tracks.

DVC takes the name of an object in a remote or in its cache for its digest, so a damaged object passes as the tracked
file. Here the digest is computed from the bytes.
"""

import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.files import read_regular
from training.config import read_yaml
from training.data.raw import LARGEST, RAW
from training.errors import DataError, ParametersError

POINTER = RAW.with_name(f"{RAW.name}.dvc")


@dataclass(frozen=True, slots=True)
class TrackedFile:
    """The file that DVC tracks: its MD5, the remote that has it (None: the default one), and the kind of its MD5.

    DVC 2 computed the MD5 of a text with LF line ends: `dos2unix`.
    """

    md5: str
    remote: str | None
    dos2unix: bool

    def is_here(self) -> bool:
        """Return whether the raw data are that file."""
        content = read_regular(RAW, LARGEST)
        contents = [content, content.replace(b"\r\n", b"\n")] if self.dos2unix else [content]
        return self.md5 in {hashlib.md5(each, usedforsecurity=False).hexdigest() for each in contents}


def tracked_file() -> TrackedFile | None:
    """Read the pointer file; return None if DVC does not track the raw data.

    Raises:
        DataError: it is not as DVC writes it.

    """
    if not POINTER.exists():
        return None
    try:
        content: Any = read_yaml(POINTER)
        [out] = content["outs"]
        return TrackedFile(out["md5"], out.get("remote"), dos2unix="hash" not in out)
    except (ParametersError, KeyError, TypeError, ValueError, AttributeError, OSError):
        message = f"{POINTER}: not as DVC writes it; restore it from version control"
        raise DataError(message) from None


def check_raw_data() -> None:
    """Check that the raw data are the file that DVC tracks, if it tracks them.

    Raises:
        DataError: they are another file, and DVC would take that for an intended change; or the pointer is malformed.

    """
    tracked = tracked_file()
    if tracked is not None and not tracked.is_here():
        raise changed_data()


def changed_data() -> DataError:
    """Return the error of raw data that are another file than the one that DVC tracks."""
    dvc = os.path.relpath(Path(sys.executable).with_name("dvc"))
    return DataError(
        f"{RAW}: not the file of {POINTER}; `{dvc} add {RAW}` if the change is intended; "
        "otherwise delete it, and `make train` fetches that file"
    )
