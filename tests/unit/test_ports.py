"""Free ports are distinct, also across concurrent test processes."""

import pytest

from tests.support.ports import free_ports


def test_processes_side_by_side_never_choose_the_same_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "3")
    chosen: set[int] = set()
    for number in range(3):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", f"gw{number}")
        ports = free_ports(40)
        assert len(set(ports)) == 40
        assert {(port - ports[0]) % 3 for port in ports} == {0}
        chosen.add(ports[0] % 3)
    assert chosen == {0, 1, 2}
