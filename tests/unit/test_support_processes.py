"""Readings of the processes that a benchmark measures."""

import subprocess
import sys

import psutil

from tests.support.processes import cpu_seconds, total


def test_a_process_that_ended_since_it_was_found_stops_no_measurement() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as short:
        gone = psutil.Process(short.pid)
    here = psutil.Process()
    assert total([here, gone], cpu_seconds) > 0
    assert total([gone], cpu_seconds) == 0
