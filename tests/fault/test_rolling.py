"""Rolling restart under load: each service stops, drains and starts again, and no request fails."""

from pathlib import Path

from chaos.scenarios.rolling import roll


async def test_a_restart_of_each_service_under_load_fails_no_request(tmp_path: Path) -> None:
    rolled = await roll(tmp_path, restarts=1)
    assert rolled.restarts == {"gateway": 1, "inference": 1, "recorder": 1}
    assert rolled.codes == [0]
    assert rolled.asked > 50
    assert (rolled.failed, rolled.rows) == (0, rolled.asked)
