"""The rig on a machine without its servers."""

import subprocess
import sys

import pytest

from chaos.programs import SERVERS, require
from tests.support.paths import ROOT

HIDING = 'mount -t tmpfs none /usr/lib/rabbitmq && mount -t tmpfs none /usr/lib/postgresql && exec "$@"'


def without_servers(*words: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m words…` where RabbitMQ and PostgreSQL are not installed."""
    namespace = ["unshare", "--mount", "--map-root-user", "sh", "-c", HIDING, "sh"]
    return subprocess.run(
        [*namespace, sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("module", ["chaos", "chaos.long"])
def test_missing_servers_are_named_in_one_line_with_exit_code_69(module: str) -> None:
    ended = without_servers(module)
    assert (ended.returncode, ended.stdout) == (69, "")
    named = "missing: rabbitmq-server, postgresql; `make servers` installs them (Debian packages)"
    assert ended.stderr == f"chaos: {named}\n"


def test_what_is_installed_is_not_named() -> None:
    require(*SERVERS)
    with pytest.raises(subprocess.CalledProcessError):
        require("no-such-package")
