"""Programs that the rig starts: what is missing is one line and an exit code, before anything is started."""

import subprocess

from tests.support.paths import ROOT

UNAVAILABLE = 69
"""Exit code when a program is missing: EX_UNAVAILABLE of sysexits(3)."""
SERVERS = ("rabbitmq-server", "postgresql", "haproxy")
CLOCK = "libfaketime"
TRACER = "strace"


class UnavailableError(Exception):
    """The rig cannot run on this machine; the message names what is missing and the remedy."""


def require(*packages: str) -> None:
    """Check that the programs of these Debian packages are installed.

    Raises:
        UnavailableError: names all that are missing.

    """
    command = [str(ROOT / "tests/install-servers"), "--check", *packages]
    checked = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - our own script
    if missing := checked.stdout.split():
        raise UnavailableError(f"missing: {', '.join(missing)}; `make servers` installs them (Debian packages)")
