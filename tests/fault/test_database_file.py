"""The database file of the local profile is moved, replaced and copied under load: every answer is recorded once."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.diseases.thyroid import DatosPaciente
from tests.fault.test_backup import answering, more
from tests.support.bundles import make_bundle
from tests.support.database import is_drained, is_settled, query
from tests.support.processes import Process, running
from tests.support.waiting import until_now

ANSWERS = 100


def moved(database: Path) -> None:
    """Move the file away and, while answers are given, back."""
    database.rename(database.with_name("away.db"))


def returned(database: Path) -> None:
    database.with_name("away.db").rename(database)


def copied_back(database: Path) -> None:
    shutil.copy(database.with_name("away.db"), database)


def without_wal(database: Path) -> None:
    for kind in ("wal", "shm"):
        database.with_name(f"{database.name}-{kind}").unlink()


def nothing(_: Path) -> None:
    """Leave the file as it is."""


def is_ready(process: Process) -> bool:
    return process.get("/health/ready").status_code == 200


@pytest.mark.parametrize(
    ("harm", "heal"), [(moved, returned), (moved, copied_back), (without_wal, nothing)], ids=lambda act: act.__name__
)
def test_no_answer_is_lost_while_the_database_file_changes(
    tmp_path: Path, harm: Callable[[Path], None], heal: Callable[[Path], None]
) -> None:
    make_bundle(tmp_path / "var", DatosPaciente)
    database = tmp_path / "predicciones.db"
    with running("services.local", tmp_path) as process:
        with answering(process.url) as answered:
            for _ in range(3):
                more(answered, ANSWERS)
                harm(database)
                more(answered, ANSWERS)
                heal(database)
                until_now(lambda: is_ready(process), seconds=60)
        until_now(lambda: is_settled(process), seconds=60)
        assert sorted(row[0] for row in query(tmp_path, "SELECT id FROM predicciones")) == sorted(answered)
        (account,) = process.get("/conciliacion").json()["gateways"]
        assert (account["registradas"], account["diferencia"]) == (len(answered), 0)
    assert query(tmp_path, "PRAGMA integrity_check") == [("ok",)]


def test_a_copy_of_the_file_alone_soon_has_every_answer(tmp_path: Path) -> None:
    make_bundle(tmp_path / "var", DatosPaciente)
    copy = tmp_path / "copy"
    copy.mkdir()
    with running("services.local", tmp_path) as process:
        with answering(process.url) as answered:
            more(answered, ANSWERS)
        until_now(lambda: is_settled(process), seconds=60)
        wal = tmp_path / "predicciones.db-wal"
        until_now(lambda: wal.stat().st_size == 0, seconds=30)
        shutil.copy(tmp_path / "predicciones.db", copy)
    assert sorted(row[0] for row in query(copy, "SELECT id FROM predicciones")) == sorted(answered)


def test_a_replacing_file_gets_the_answers_and_those_of_the_former_are_missing(tmp_path: Path) -> None:
    make_bundle(tmp_path / "var", DatosPaciente)
    database, former = tmp_path / "predicciones.db", tmp_path / "former"
    former.mkdir()
    with running("services.local", tmp_path) as process:
        with answering(process.url) as answered:
            more(answered, ANSWERS)
            shutil.move(database, former)
            database.touch(0o600)
            more(answered, ANSWERS)
        until_now(lambda: is_ready(process), seconds=60)
        until_now(lambda: is_drained(process), seconds=60)
        account = process.get("/conciliacion").json()
    in_former, in_new = (
        {row[0] for row in query(folder, "SELECT id FROM predicciones")} for folder in (former, tmp_path)
    )
    assert in_former | in_new == set(answered)
    assert account["diferencia"] == len(in_former - in_new)
    assert in_former
    assert in_new
