"""HAProxy in front of replicas on loopback, with deploy/haproxy/haproxy.cfg without the names of containers."""

import re
import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.ports import free_ports
from tests.support.processes import Process, clean_environment, spawn, stop
from tests.support.waiting import until_now

DEPLOYED = ROOT / "deploy/haproxy/haproxy.cfg"
_GENERAL = """
global
    maxconn 8192
    tune.bufsize 65536
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


@dataclass(frozen=True, slots=True)
class Pool:
    """Replicas, by their ports, behind `port`; `name` is that of a backend of the deployed file, whose rules hold."""

    name: str
    port: int
    replicas: Sequence[int]


def haproxy_command(folder: Path, *pools: Pool) -> list[str]:
    """Write the configuration into `folder`; return the command that runs HAProxy in the foreground."""
    return _command(folder, "".join(map(_section, pools)))


def _command(folder: Path, sections: str) -> list[str]:
    return _command_for(folder, _GENERAL + sections)


def _command_for(folder: Path, content: str) -> list[str]:
    binary = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if binary is None:
        pytest.fail("no HAProxy: install Debian's package `haproxy`", pytrace=False)
    configuration = folder / "haproxy.cfg"
    configuration.write_text(content)
    return [binary, "-db", "-f", str(configuration)]


@contextmanager
def haproxy(folder: Path, name: str, replicas: Sequence[int]) -> Iterator[Process]:
    """Run HAProxy in front of `replicas`, by the rules of backend `name`; yields it once it listens."""
    [port] = free_ports(1)
    with haproxy_with(folder, _section(Pool(name, port, replicas)), port) as process:
        yield process


@contextmanager
def haproxy_with(folder: Path, sections: str, port: int) -> Iterator[Process]:
    """Run HAProxy with these frontends and backends; yields it once it listens on `port`."""
    with _running(folder, _command(folder, sections), port, {}) as process:
        yield process


@dataclass(frozen=True, slots=True)
class Deployed:
    """HAProxy with the deployed file: its process, and its public ports."""

    process: Process
    clear: int
    tls: int


@contextmanager
def haproxy_deployed(
    folder: Path, gateways: Sequence[int], *, certificates: Path | None = None, proxies: str | None = None
) -> Iterator[Deployed]:
    """Run HAProxy with the whole deployed file in front of `gateways`; only addresses and names are replaced.

    `certificates` is a folder and turns TLS on; `proxies` are the addresses of proxies in front of this one.
    """
    clear, tls, inference = free_ports(3)
    text = DEPLOYED.read_text().replace(" resolvers dns init-addr none", "")
    for before, port in (("8000", clear), ("8443", tls), ("8001", inference)):
        text = text.replace(f"bind :{before}", f"bind 127.0.0.1:{port}")
    text = text.replace("/usr/local/etc/haproxy/tls/", f"{certificates}/")
    replicas = {"gateway": gateways}
    text = re.sub(r" +server-template (\w+) .*\n", lambda line: _servers(line[1], replicas.get(line[1], ())), text)
    environment = ({"PREDECIR_TLS": "1"} if certificates else {}) | ({"PREDECIR_PROXIES": proxies} if proxies else {})
    with _running(folder, _command_for(folder, text), clear, environment) as process:
        yield Deployed(process, clear, tls)


def _servers(name: str, ports: Sequence[int]) -> str:
    return "".join(f"    server {name}-{port} 127.0.0.1:{port}\n" for port in ports)


@contextmanager
def _running(folder: Path, command: Sequence[str], port: int, environment: Mapping[str, str]) -> Iterator[Process]:
    started, log = time.perf_counter(), folder / "haproxy.log"
    popen = spawn(command, folder, clean_environment(environment), log)
    try:
        until_now(lambda: _listens(port) or popen.poll() is not None, seconds=30)
        if popen.poll() is not None:
            pytest.fail(f"HAProxy ended at its start: {log.read_text()}", pytrace=False)
        yield Process(popen, f"http://127.0.0.1:{port}", log, time.perf_counter() - started)
    finally:
        stop(popen)


def _section(pool: Pool) -> str:
    return (
        f"frontend {pool.name}-in\n    bind 127.0.0.1:{pool.port}\n    default_backend {pool.name}\n"
        f"backend {pool.name}\n{_rules(pool.name)}{_servers(pool.name, pool.replicas)}"
    )


def _rules(backend: str) -> str:
    """Read the deployed backend's lines, all but those that name its containers."""
    section = DEPLOYED.read_text().partition(f"\nbackend {backend}\n")[2].partition("\n\n")[0]
    assert section, f"{DEPLOYED} has no backend {backend}"
    return "".join(f"{line}\n" for line in section.splitlines() if "server-template" not in line)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
