"""HAProxy in front of replicas on loopback, as deploy/haproxy/haproxy.cfg puts it, without the names of containers."""

from __future__ import annotations

import shutil
import socket
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.ports import free_ports
from tests.waiting import until_now

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_STOP_SECONDS = 60
_GENERAL = """
global
    maxconn 8192
defaults
    mode http
    timeout connect 1s
    timeout client 30s
    timeout http-request 10s
    timeout http-keep-alive 60s
    timeout queue 2s
    timeout server 15s
    option httpchk
    http-check send meth GET uri /health/ready ver HTTP/1.1 hdr Host localhost
    http-check expect status 200
    retries 3
    retry-on conn-failure
    option redispatch 1
    balance leastconn
    default-server check inter 1s fall 2 rise 1 observe layer4 error-limit 3 on-error mark-down
"""
_REPEATABLE = """    option http-buffer-request
    retry-on all-retryable-errors
    timeout server 3s
"""


@dataclass(frozen=True, slots=True)
class Pool:
    """Replicas, by their ports, behind `port`. `repeatable`: a request may be sent again after it had left."""

    name: str
    port: int
    replicas: Sequence[int]
    repeatable: bool = False


def haproxy_command(folder: Path, *pools: Pool) -> list[str]:
    """Write the configuration into `folder`; returns the command that runs HAProxy in the foreground."""
    binary = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if binary is None:
        pytest.fail("no HAProxy: install Debian's package `haproxy`", pytrace=False)
    configuration = folder / "haproxy.cfg"
    configuration.write_text(_GENERAL + "".join(map(_section, pools)))
    return [binary, "-db", "-f", str(configuration)]


@contextmanager
def haproxy(folder: Path, name: str, replicas: Sequence[int], *, repeatable: bool = False) -> Iterator[str]:
    """Run HAProxy in front of `replicas`; yields its URL once it listens."""
    [port] = free_ports(1)
    with (folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen(
            haproxy_command(folder, Pool(name, port, replicas, repeatable)), stdout=log, stderr=log
        )
    try:
        until_now(lambda: _listens(port) or process.poll() is not None, seconds=30)
        if process.poll() is not None:
            pytest.fail(f"HAProxy ended at its start: {(folder / 'haproxy.log').read_text()}", pytrace=False)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(_STOP_SECONDS)


def _section(pool: Pool) -> str:
    servers = "".join(f"    server {pool.name}-{port} 127.0.0.1:{port}\n" for port in pool.replicas)
    return (
        f"frontend {pool.name}-in\n    bind 127.0.0.1:{pool.port}\n    default_backend {pool.name}\n"
        f"backend {pool.name}\n{_REPEATABLE if pool.repeatable else ''}{servers}"
    )


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
