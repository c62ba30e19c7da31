"""The soak's criterion of growth."""

import random

from chaos.scenarios.soak import judged

SECONDS = range(0, 1800, 5)


def test_what_only_grows_while_it_warms_up_holds() -> None:
    seen = judged([(at, min(at, 300) + at % 3) for at in SECONDS], most=1)
    assert seen["holds"]
    assert seen["largest"] == 302


def test_a_leak_is_detected_in_noise_much_larger_than_its_steps() -> None:
    noise = random.Random(18)  # noqa: S311 - the same every time
    leak = [(at, 100 + at / 120 + noise.uniform(-3, 3)) for at in SECONDS]
    steady = [(at, 100 + noise.uniform(-3, 3)) for at in SECONDS]
    assert not judged(leak, most=8)["holds"]
    assert 8 < judged(leak, most=8)["rise"] < 12
    assert judged(steady, most=8)["holds"]


def test_what_falls_holds() -> None:
    assert judged([(at, 100 - at / 100) for at in SECONDS], most=0)["holds"]
