"""The SQLite file of a local registry: checked before MLflow opens it, and adapted if its folder was moved.

MLflow stores the absolute address of every experiment, run, model and version. In a folder that was moved, copied or
restored at another path, the next run would write to the old place. So the addresses below the old folder of artifacts
are rewritten to the folder of artifacts beside the file.
"""

import shlex
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from training.errors import RegistryError

FILE, ARTIFACTS = "mlflow.db", "mlartifacts"
_LOCK_SECONDS = 5
_TEXT_COLUMNS = """
    SELECT tables.name, columns.name FROM sqlite_master AS tables, pragma_table_info(tables.name) AS columns
    WHERE tables.type = 'table' AND (columns.type LIKE '%CHAR%' OR columns.type LIKE '%TEXT%')
"""


def artifact_address(var: Path) -> str:
    """Return the address of the folder of artifacts in `var`, as MLflow stores it."""
    return (var.resolve() / ARTIFACTS).as_uri()


def is_file_of(uri: str, var: Path) -> bool:
    """Return whether `uri` names the registry in `var`, as MLflow's own tools need it."""
    scheme, _, path = uri.partition(":///")
    return scheme == "sqlite" and Path(path).resolve() == var.resolve() / FILE


def prepare_file(var: Path, name: str) -> None:
    """Check that the registry in `var` can be read, and adapt its addresses if the experiment `name` has another.

    Raises:
        sqlite3.Error: it is locked, or not a database.
        RegistryError: its artifacts are still in its old place, or it is no regular file.

    """
    file = var.resolve() / FILE
    if not file.exists():
        return
    if not file.is_file() and not file.is_dir():  # SQLite would wait for a pipe, and reports a folder
        message = f"{var / FILE}: not a regular file; it is the model registry's"
        raise RegistryError(message)
    here, changed = artifact_address(var), 0
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=_LOCK_SECONDS)) as database:
        if _moved_from(database, name, here) is None:
            return
        database.execute("BEGIN IMMEDIATE")  # read again: another process may have adapted it meanwhile
        if (old := _moved_from(database, name, here)) is not None:
            _check_artifacts(old, var)
            changed = _rewrite(database, old, here)
        database.commit()
    if changed:
        sys.stderr.write(f"registry  {var / FILE} was moved: its {changed} addresses lead to {here} now, not {old}\n")


def _moved_from(database: sqlite3.Connection, name: str, here: str) -> str | None:
    """Return the address of the old folder of artifacts of experiment `name`, or None if it is `here` or not a file."""
    tables = {table for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "experiments" not in tables:
        return None
    row = database.execute("SELECT artifact_location FROM experiments WHERE name = ?", (name,)).fetchone()
    return row[0] if row and row[0] != here and urlsplit(row[0]).scheme == "file" else None


def _check_artifacts(old: str, var: Path) -> None:
    """Raise a RegistryError if the artifacts are at `old` and not in `var`: the file was moved alone."""
    before, now = Path(unquote(urlsplit(old).path)), var / ARTIFACTS
    if before.is_dir() and not now.exists():
        command = shlex.join(("mv", str(before), str(now)))
        message = f"{var / FILE} was moved here without its artifacts; move them too: {command}"
        raise RegistryError(message)


def _rewrite(database: sqlite3.Connection, old: str, here: str) -> int:
    """Replace `old` by `here` in every address at or below it; return the number of addresses."""
    changed = 0
    for table, column in database.execute(_TEXT_COLUMNS).fetchall():
        changed += database.execute(
            f'UPDATE "{table}" SET "{column}" = :here || substr("{column}", length(:old) + 1) '  # noqa: S608 - MLflow's names
            f'WHERE "{column}" = :old OR substr("{column}", 1, length(:old) + 1) = :old || \'/\'',
            {"here": here, "old": old},
        ).rowcount
    return changed
