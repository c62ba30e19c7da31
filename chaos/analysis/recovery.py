"""How long each fault was felt, from what clients and the watcher saw."""

from __future__ import annotations

import statistics
from bisect import bisect_left
from collections import Counter
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from chaos.analysis.backlog import Sample
    from chaos.faults.schedule import Injected
    from tests.support.load import Request

_SLACK = 1000
"""Events waiting that count as none: about what is answered within the time it takes to hand over a batch."""


def recoveries(
    injected: Sequence[Injected],
    asked: Iterable[Request],
    samples: Sequence[Sample],
    readied: Mapping[str, Sequence[float]],
) -> dict[str, dict[str, float]]:
    """Say by kind of fault how often it was, and the median and longest seconds to recover from it.

    `answered`: from its end until the answer to a request that began after it; `drained`: until no more waited than
    before it, or next to nothing; `restarted`: until the process that was killed said that it was ready again.
    """
    answers = sorted((each.start, each.end) for each in asked if not each.failed)
    starts = [start for start, _ in answers]
    # The first answer to any request that began at or after this one.
    ends = list(accumulate((end for _, end in reversed(answers)), min))[::-1]
    kinds: dict[str, dict[str, list[float]]] = {}
    times = Counter(fault.kind for fault in injected)
    for fault in injected:
        seen = kinds.setdefault(fault.kind, {"answered": [], "drained": [], "restarted": []})
        place = bisect_left(starts, fault.over)
        if place < len(ends):
            seen["answered"].append(ends[place] - fault.over)
        again = next((at for at in readied.get(fault.target, ()) if at > fault.over), None)
        if again is not None and fault.over == fault.start:
            seen["restarted"].append(again - fault.over)
        drained = _drained(fault, again or fault.healed, samples)
        if drained is not None:
            seen["drained"].append(drained - fault.over)
    return {kind: {"times": times[kind], **_summed(seen)} for kind, seen in sorted(kinds.items())}


def _drained(fault: Injected, up: float, samples: Sequence[Sample]) -> float | None:
    """Say when, once everything was `up` again, no more waited than before `fault`."""
    known = [(sample.at, sample.backlog) for sample in samples if sample.backlog is not None]
    enough = max(next((backlog for at, backlog in reversed(known) if at < fault.start), 0), _SLACK)
    return next((at for at, backlog in known if at >= up and backlog <= enough), None)


def _summed(seen: Mapping[str, list[float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, seconds in seen.items():
        if seconds:
            found |= {f"{name}_median": statistics.median(seconds), f"{name}_max": max(seconds)}
    return found
