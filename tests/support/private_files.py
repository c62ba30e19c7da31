"""Files and folders that other users of the machine may use."""

import stat
from pathlib import Path


def open_to_others(*places: Path) -> list[str]:
    """Return the files and folders at and below `places` that others have rights to.

    DVC's objects are left out: their mode 0444 marks them as verified, in folders that others cannot enter.
    """
    paths = (path for place in places for path in (place, *place.rglob("*")))
    return [
        str(path)
        for path in paths
        if not path.is_symlink()
        and stat.S_IMODE(path.stat().st_mode) & 0o077
        and not (path.is_file() and "dvc/cache" in path.as_posix())
    ]
