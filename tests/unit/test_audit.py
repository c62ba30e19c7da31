"""Accepted vulnerabilities: each needs an id, a reason and an end."""

from datetime import date
from pathlib import Path

import pytest

from deploy.audit import AcceptedError, command, read_accepted

TODAY = date(2026, 12, 1)
ONE = """
[[accepted]]
id = "PYSEC-2026-1"
reason = "Only its server is affected; no service starts it."
until = 2026-12-01
"""


def test_an_accepted_vulnerability_is_ignored_up_to_its_last_day() -> None:
    accepted = read_accepted(ONE, TODAY)
    words = command(Path("run.txt"), accepted)
    assert words[words.index("--ignore-vuln") + 1] == "PYSEC-2026-1"
    assert "--strict" in words  # otherwise a package that could not be checked passes
    assert "--ignore-vuln" not in command(Path("run.txt"), read_accepted("", TODAY))


@pytest.mark.parametrize(
    ("right", "wrong", "reason"),
    [
        ("2026-12-01", "2026-11-30", "PYSEC-2026-1 was accepted until 2026-11-30"),
        ("2026-12-01", "2027-12-01", "at most 180 days"),
        ("until = 2026-12-01", "", "until"),
        ("Only its server is affected; no service starts it.", "", "reason"),
        ("until =", "forever = true\nuntil =", "forever"),
        ("[[accepted]]", "[[accepted", "not valid"),
    ],
)
def test_an_acceptance_without_reason_or_end_fails_the_audit(right: str, wrong: str, reason: str) -> None:
    with pytest.raises(AcceptedError, match=reason):
        read_accepted(ONE.replace(right, wrong), TODAY)
