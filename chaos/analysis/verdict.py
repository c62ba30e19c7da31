"""Answers that clients wrote down, held against the rows of the database."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from chaos.load.client import number_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.support.load import Request

_EXAMPLES = 20


class Row(NamedTuple):
    """What is compared of a recorded prediction."""

    id: str
    tsh: float
    output: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The account. What must be 0 is `lost`, `duplicated`, `altered` and `unfaithful`.

    `lost`: answers without a row, the first of which are `lost_answers`; `duplicated`: rows beyond the first of one
    patient, every one of whom was asked about once; `altered`: rows that hold another patient or diagnosis than was
    asked and answered; `unfaithful`: keys that got two different answers; `unanswered`: rows whose answer did not
    arrive, since the connection was cut.
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
        """Whether there were answers, and none is lost, doubled or altered."""
        return self.answered > 0 and not (self.lost or self.duplicated or self.altered or self.unfaithful)


def judge(asked: Iterable[Request], rows: Iterable[Row]) -> Verdict:
    """Compare what was answered with what is recorded."""
    answers: dict[int, Request] = {}
    failed: Counter[str] = Counter()
    unfaithful = repeated = 0
    for each in asked:
        if each.failed:
            failed[each.failed] += 1
            continue
        before = answers.setdefault(each.number, each)
        unfaithful += (before.id, before.output) != (each.id, each.output)
        repeated += 1
    repeated -= len(answers)
    found = {row.id: row for row in rows}
    patients = Counter(number_of(row.tsh) for row in found.values())
    lost: list[Request] = []
    altered = 0
    for number, first in answers.items():
        row = found.get(first.id)
        if row is None:
            lost.append(first)
        altered += row is not None and (number_of(row.tsh), row.output) != (number, first.output)
    return Verdict(
        answered=len(answers),
        recorded=len(found),
        lost=len(lost),
        duplicated=sum(patients.values()) - len(patients),
        altered=altered,
        unfaithful=unfaithful,
        unanswered=len(found.keys() - {first.id for first in answers.values()}),
        repeated=repeated,
        failed=dict(sorted(failed.items())),
        lost_answers=lost[:_EXAMPLES],
    )
