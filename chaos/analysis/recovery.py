"""Recovery times of each fault, from the records of clients and the samples of the backlog."""

import statistics
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

from chaos.analysis.backlog import Sample
from chaos.faults.schedule import Injected
from tests.support.load import Request

_SLACK = 1000
"""A backlog that counts as none: about the answers during the relay of one batch."""


def recoveries(
    injected: Sequence[Injected],
    requests: Iterable[Request],
    samples: Sequence[Sample],
    readied: Mapping[str, Sequence[float]],
) -> dict[str, dict[str, float]]:
    """Return by kind of fault the number of times, and the median and longest seconds of recovery.

    `answered`: from its end to the answer to a later request; `drained`: until the backlog is as small as before it, or
    next to nothing; `restarted`: until the killed process announced that it was ready again.
    """
    answers = sorted((each.start, each.end) for each in requests if not each.failed)
    starts = [start for start, _ in answers]
    # The first answer to any request that began at or after this one.
    ends = list(accumulate((end for _, end in reversed(answers)), min))[::-1]
    kinds: dict[str, dict[str, list[float]]] = {}
    times = Counter(fault.kind for fault in injected)
    for fault in injected:
        seconds_of = kinds.setdefault(fault.kind, {"answered": [], "drained": [], "restarted": []})
        place = bisect_left(starts, fault.over)
        if place < len(ends):
            seconds_of["answered"].append(ends[place] - fault.over)
        again = next((at for at in readied.get(fault.target, ()) if at > fault.over), None)
        if again is not None and fault.over == fault.start:
            seconds_of["restarted"].append(again - fault.over)
        drained = _drained(fault, again or fault.healed, samples)
        if drained is not None:
            seconds_of["drained"].append(drained - fault.over)
    return {kind: {"times": times[kind], **_summed(seconds_of)} for kind, seconds_of in sorted(kinds.items())}


def _drained(fault: Injected, up: float, samples: Sequence[Sample]) -> float | None:
    """Return the first time after `up` at which the backlog was as small as before `fault`."""
    known = [(sample.at, sample.backlog) for sample in samples if sample.backlog is not None]
    enough = max(next((backlog for at, backlog in reversed(known) if at < fault.start), 0), _SLACK)
    return next((at for at, backlog in known if at >= up and backlog <= enough), None)


def _summed(seconds_of: Mapping[str, list[float]]) -> dict[str, float]:
    summary: dict[str, float] = {}
    for name, seconds in seconds_of.items():
        if seconds:
            summary |= {f"{name}_median": statistics.median(seconds), f"{name}_max": max(seconds)}
    return summary
