"""The servers that tests start: a stop ends them in every state."""

import os
import signal

import psutil

from tests.support.postgres import postgres_server
from tests.support.rabbitmq import rabbit_server


def test_a_rabbitmq_that_hangs_is_killed_when_it_is_stopped() -> None:
    with rabbit_server() as server:
        assert server.pid is not None
        process = psutil.Process(server.pid)
        server.stop_seconds = 1
        os.killpg(server.pid, signal.SIGSTOP)
        server.stop()
        assert not process.is_running()


def test_the_process_id_of_a_killed_postgresql_is_not_taken_for_a_server() -> None:
    with postgres_server() as server:
        assert server.runs()
        server.kill()
        assert not server.runs()
        file = server.data / "postmaster.pid"
        file.write_text(file.read_text().replace(str(server.pid), str(os.getpid()), 1))
        assert not server.runs()
