"""Comparison of the answers in the clients' files with the rows of the database."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from chaos.load.client import number_of
from tests.support.load import Request

_EXAMPLES = 20


class Row(NamedTuple):
    """The compared fields of a recorded prediction."""

    id: str
    tsh: float
    output: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Counts of a run. `lost`, `duplicated`, `altered` and `unfaithful` must be 0.

    `lost`: answers without a row, the first of which are `lost_answers`; `duplicated`: rows beyond the first of one
    patient, each of whom was sent once; `altered`: rows with another patient or diagnosis than in request and answer;
    `unfaithful`: keys with two different answers; `unanswered`: rows whose answer did not arrive, since the connection
    was cut.
    """

    answered: int
    recorded: int
    lost: int
    duplicated: int
    altered: int
    unfaithful: int
    unanswered: int
    repeated: int
    failed: Mapping[str, int]
    lost_answers: Sequence[Request]

    @property
    def holds(self) -> bool:
        """True if there were answers, and none is lost, doubled or altered."""
        return self.answered > 0 and not (self.lost or self.duplicated or self.altered or self.unfaithful)


def judge(requests: Iterable[Request], rows: Iterable[Row]) -> Verdict:
    """Compare the answers of `requests` with the recorded `rows`."""
    answers: dict[int, Request] = {}
    failed: Counter[str] = Counter()
    unfaithful = repeated = 0
    for each in requests:
        if each.failed:
            failed[each.failed] += 1
            continue
        before = answers.setdefault(each.number, each)
        unfaithful += (before.id, before.output) != (each.id, each.output)
        repeated += 1
    repeated -= len(answers)
    recorded_rows = {row.id: row for row in rows}
    patients = Counter(number_of(row.tsh) for row in recorded_rows.values())
    lost: list[Request] = []
    altered = 0
    for number, first in answers.items():
        row = recorded_rows.get(first.id)
        if row is None:
            lost.append(first)
        altered += row is not None and (number_of(row.tsh), row.output) != (number, first.output)
    return Verdict(
        answered=len(answers),
        recorded=len(recorded_rows),
        lost=len(lost),
        duplicated=sum(patients.values()) - len(patients),
        altered=altered,
        unfaithful=unfaithful,
        unanswered=len(recorded_rows.keys() - {first.id for first in answers.values()}),
        repeated=repeated,
        failed=dict(sorted(failed.items())),
        lost_answers=lost[:_EXAMPLES],
    )
