"""The contract of the analysts' view and dictionary on SQLite."""

from pathlib import Path

import pytest

from shared.diseases.thyroid import DatosPaciente
from tests.support.analysts_suite import *  # noqa: F403 - the suite itself
from tests.support.analysts_suite import described, query
from tests.support.targets import SqliteTarget, Target


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return SqliteTarget(tmp_path / "predicciones.db")


@pytest.mark.parametrize(
    ("condition", "index"),
    [
        ("timestamp >= '2026-04-01' AND timestamp < '2026-05-01'", "timestamp"),
        ("timestamp >= '2026-04-01' AND dia_local = '2026-04-01' AND embarazo = '1'", "timestamp"),
        ("output = 'hipotiroidismo' AND timestamp >= '2026-04-01'", "output_timestamp"),
        ("modelo_version = '10'", "modelo_version_timestamp"),
        ("modelo_version = '10' AND concluyente = '1'", "modelo_version_timestamp"),
    ],
)
async def test_a_filter_of_the_view_uses_its_index(target: Target, condition: str, index: str) -> None:
    sql = f"EXPLAIN QUERY PLAN SELECT dia, count(*) FROM predicciones_tiroides WHERE {condition} GROUP BY dia"  # noqa: S608 - ours
    async with described(target, DatosPaciente) as database:
        plan = [row["detail"] for row in await query(database, sql)]

    assert any(f"SEARCH predicciones USING INDEX ix_predicciones_{index} " in step for step in plan), plan
