"""`bench.against`: errors of its command line."""

import pytest

from bench.against import main


@pytest.mark.parametrize("asked", [[], ["--help"], ["HEAD", "RELAY_LINGER_MS"]], ids=" ".join)
def test_a_wrong_command_line_prints_the_usage(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(asked) == 2
    assert capsys.readouterr().err == "usage: python -m bench.against REVISION [SETTING=VALUE …]\n"
