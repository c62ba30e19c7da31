import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from shared.telemetry import configure_logging


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_a_line_is_json_with_event_level_time_and_service(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", service="gateway")
    log = structlog.get_logger()
    log.debug("not_said")
    log.warning("relay_blocked", pending=3)
    [line] = capsys.readouterr().err.splitlines()
    said = json.loads(line)
    assert said.pop("timestamp").endswith("Z")
    assert said == {"event": "relay_blocked", "pending": 3, "level": "warning", "service": "gateway"}


def test_a_log_that_cannot_be_written_ends_nothing() -> None:
    program = """
import structlog
from shared.telemetry import configure_logging
configure_logging("info", service="gateway")
structlog.get_logger().error("disk_full")
print("went on")
"""
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=full, text=True, check=False
        )
    assert run.stdout == "went on\n"
