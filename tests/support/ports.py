"""Free ports of loopback, for servers that are started anew on the port they had."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST, _USUAL_END = 10_000, 32_768


def free_ports(count: int) -> list[int]:
    """Give `count` different TCP ports that nothing listens on now.

    They lie below those that the system gives to outgoing connections, or else one of these could take the port of a
    server while it restarts.
    """
    end = int(_RANGE.read_text().split()[0]) if _RANGE.exists() else _USUAL_END
    candidates = random.SystemRandom().sample(range(_LOWEST, max(end, _LOWEST + 1000)), 20 * count)
    return [port for port in candidates if _is_free(port)][:count]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
