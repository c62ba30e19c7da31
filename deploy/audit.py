"""Known vulnerabilities in the locked packages, by pip-audit; `requirements/accepted.toml` accepts some until a date.

`python -m deploy.audit` checks every `requirements/*.txt`. It ends with 1 if a package has a vulnerability that is not
accepted, if the public database cannot be reached, or if an acceptance has ended.
"""

import subprocess
import sys
import tomllib
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

_REQUIREMENTS = Path(__file__).parents[1] / "requirements"
_ACCEPTED = _REQUIREMENTS / "accepted.toml"
_LONGEST = timedelta(days=180)


class AcceptedError(Exception):
    """The file of accepted vulnerabilities is not valid, or one of them has ended; the message names it."""


class Accepted(BaseModel):
    """A vulnerability that does not fail the audit up to and including the day `until`."""

    model_config = ConfigDict(extra="forbid")

    id: Annotated[str, Field(min_length=1)]
    reason: Annotated[str, Field(min_length=20)]
    until: date


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    accepted: list[Accepted] = []


def read_accepted(text: str, today: date) -> list[Accepted]:
    """Return the vulnerabilities that `text`, a TOML file, accepts on `today`.

    Raises:
        AcceptedError: an entry lacks its id, a reason or a day, has ended, or lasts more than half a year.

    """
    try:
        accepted = _File.model_validate(tomllib.loads(text)).accepted
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise AcceptedError(f"not valid: {error}") from None
    for each in accepted:
        if each.until < today:
            raise AcceptedError(f"{each.id} was accepted until {each.until}: upgrade the package, or decide again")
        if each.until > today + _LONGEST:
            raise AcceptedError(f"{each.id} is accepted until {each.until}: at most {_LONGEST.days} days from today")
    return accepted


def command(locked: Path, accepted: Sequence[Accepted]) -> list[str]:
    """Return the command that checks the file `locked`."""
    ignored = (option for each in accepted for option in ("--ignore-vuln", each.id))
    tool = str(Path(sys.executable).parent / "pip-audit")
    # Without --strict a package that the database does not have passes, and so does a database that has none.
    options = ("--strict", "--progress-spinner", "off", "--disable-pip", "--require-hashes")
    return [tool, *options, *ignored, "--requirement", str(locked)]


def main() -> int:
    """Check all locked packages; return the exit code."""
    try:
        accepted = read_accepted(_ACCEPTED.read_text(), datetime.now(UTC).date())
    except AcceptedError as error:
        sys.stderr.write(f"{_ACCEPTED.name}: {error}\n")
        return 1
    for each in accepted:
        sys.stdout.write(f"accepted until {each.until}: {each.id}: {each.reason}\n")
    failed = 0
    for locked in sorted(_REQUIREMENTS.glob("*.txt")):
        sys.stdout.write(f"{locked.name}\n")
        sys.stdout.flush()
        failed |= subprocess.run(command(locked, accepted), check=False).returncode  # noqa: S603 - our own arguments
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
