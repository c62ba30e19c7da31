"""Free ports of loopback, for servers that are restarted on the same port."""

import os
import random
import socket
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST, _USUAL_END = 10_000, 32_768


def free_ports(count: int) -> list[int]:
    """Return `count` distinct TCP ports without a listener.

    They lie below the ports that the system uses for outgoing connections: one of these could take the port of a
    server while it restarts. Test processes that run side by side (pytest-xdist) choose from different ports.
    """
    end = int(_RANGE.read_text().split()[0]) if _RANGE.exists() else _USUAL_END
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    ours = range(_LOWEST + worker, max(end, _LOWEST + 1000 * workers), workers)
    candidates = random.SystemRandom().sample(ours, 20 * count)
    return [port for port in candidates if _is_free(port)][:count]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
