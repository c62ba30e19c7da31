"""Made-up rows for a benchmark's database: they are like the rows that a recorder writes."""

import uuid

from tests.support.rows import feedback_of, made_up, repeated, repeated_feedback_of

LATER = 10_000
"""Number of rows after which they repeat."""


def test_the_first_ones_are_those_that_are_made_up() -> None:
    assert list(repeated(LATER - 2, 3)) == list(made_up(LATER - 2, 3))
    assert list(repeated_feedback_of(list(repeated(1, 9)))) == list(feedback_of(list(made_up(1, 9))))


def test_later_ones_have_the_same_content_and_ids_of_their_own_moment() -> None:
    early, late = list(repeated(1, 500)), list(repeated(1 + 30 * LATER, 500))
    assert [row.inputs for row in late] == [row.inputs for row in early]
    assert [row.seq for row in late] == [row.seq + 30 * LATER for row in early]
    assert {row.modelo_version for row in late} == {"2"}
    assert not {row.id for row in late} & {row.id for row in early}
    for row in late:
        assert uuid.UUID(row.id).version == 7
        assert uuid.UUID(row.id).int >> 80 == int(row.timestamp.timestamp() * 1000)


def test_later_feedback_refers_to_its_own_rows() -> None:
    rows = list(repeated(1 + LATER, 300))
    outcomes = list(repeated_feedback_of(rows))
    assert [outcome.prediccion_id for outcome in outcomes] == [row.id for row in rows if (row.seq - LATER) % 3 == 0]
    assert {outcome.id for outcome in outcomes}.isdisjoint(row.id for row in rows)
    assert all(outcome.seq - 10**9 in {row.seq for row in rows} for outcome in outcomes)
