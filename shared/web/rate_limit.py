"""Rate limit per caller: a token bucket, kept as the generic cell rate algorithm of ITU-T I.371."""


class RateLimit:
    """One bucket per caller, stored as one number: the time at which the bucket is full again.

    It counts the requests of this process. With n replicas behind a balancer the limit is up to n times as high.
    """

    def __init__(self, rate: float, burst: int, most: int | None = None) -> None:
        """Allow each caller `rate` requests per second (0: any number), and `burst` at once after a rest.

        Of more than `most` callers those seen first are forgotten, as if they had rested.
        """
        self._most = most
        self._interval = 1 / rate if rate else 0.0
        # Half a request of slack: rounding of summed intervals must not reject the last request of a burst.
        self._ahead = self._interval * (burst - 0.5)
        self._full_at: dict[str, float] = {}

    def wait(self, caller: str, now: float) -> float:
        """Count a request made at `now` (seconds); return 0, or the seconds to wait if it is over the limit.

        A request over the limit is not counted.
        """
        full_at = max(self._full_at.get(caller, now), now)
        too_early = full_at - now - self._ahead
        if too_early > 0:
            return too_early
        if self._most is not None and caller not in self._full_at and len(self._full_at) >= self._most:
            del self._full_at[next(iter(self._full_at))]
        self._full_at[caller] = full_at + self._interval
        return 0.0
