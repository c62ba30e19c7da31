"""`python -m services.recorder` as a process: exit codes, error lines, read API."""

from pathlib import Path

import pytest

from tests.support.processes import refused, running


def test_it_serves_an_empty_history_and_stops_on_sigterm(tmp_path: Path) -> None:
    with running("services.recorder", tmp_path, {"DATABASE_URL": "sqlite:///./predicciones.db"}) as process:
        assert process.get("/predicciones").json() == {"predicciones": [], "ilegibles": [], "siguiente": None}
        assert process.stop() == 0
    assert {path.name for path in tmp_path.iterdir()} - {"stderr.log"} == {"predicciones.db", "predicciones.db-lock"}


def test_a_second_recorder_on_one_sqlite_file_is_one_line_and_exit_69(tmp_path: Path) -> None:
    with running("services.recorder", tmp_path):
        ended_with, errors = refused("services.recorder", tmp_path, {})
    assert ended_with == 69
    assert errors.count("\n") == 1
    assert "predicciones.db: another Predecir has this database open; stop it first" in errors


@pytest.mark.parametrize(
    ("url", "code", "message"),
    [
        ("mysql://u:secreto@localhost/db", 78, "recorder: settings: DATABASE_URL: expected"),
        ("sqlite:///./nowhere/p.db", 69, "recorder: cannot use the database ./nowhere/p.db: "),
        ("postgresql://u:secreto@127.0.0.1:1/db", 69, "recorder: cannot use the database db on 127.0.0.1 port 1: "),
    ],
)
def test_an_unusable_database_is_one_line_and_an_exit_code(tmp_path: Path, url: str, code: int, message: str) -> None:
    ended_with, errors = refused("services.recorder", tmp_path, {"DATABASE_URL": url})
    assert ended_with == code
    assert errors.startswith(message)
    assert errors.count("\n") == 1
    assert "secreto" not in errors
