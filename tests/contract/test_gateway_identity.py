"""`python -m services.gateway identity`: id and public key for an operator, and another key on request."""

from argparse import ArgumentParser
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from services.gateway import identity
from services.gateway.outbox.outbox import Outbox
from services.gateway.settings import GatewaySettings
from shared.contracts.gateway_proof import gateway_id_of, read_public_key
from shared.settings import SettingsError
from tests.support.gateway import gateway
from tests.support.old_outbox import OLD_ID, old_outbox


def run(folder: Path, *arguments: str) -> int:
    parser = ArgumentParser()
    identity.add_arguments(parser)
    return identity.run(folder / "gateway", parser.parse_args(arguments))


def printed(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    gateway_id, key = capsys.readouterr().out.splitlines()[-1].split()  # below the log
    assert gateway_id_of(read_public_key(key)) == gateway_id
    return gateway_id, key


async def test_a_running_gateway_shows_its_id_and_public_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with gateway(tmp_path) as client:
        assert run(tmp_path) == 0
        gateway_id, key = printed(capsys)
        assert gateway_id == client.gateway.outbox.gateway_id
        assert key == client.gateway.outbox.keys[gateway_id].public_key.hex()
        private = client.gateway.outbox.keys[gateway_id].private_bytes()
    assert private.hex().encode() not in (tmp_path / "gateway" / "gateway.pub").read_bytes()


async def test_a_stopped_gateway_takes_another_key_and_keeps_that_of_waiting_events(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gateway" / "outbox.db"
    outbox = await Outbox.open(path, keep_answers=60)
    await outbox.append(b"event")
    assert run(tmp_path, "--renew") == 1
    assert "stop its gateway first" in capsys.readouterr().err
    await outbox.close()
    assert run(tmp_path, "--renew") == 0
    gateway_id, _ = printed(capsys)
    again = await Outbox.open(path, keep_answers=60)
    assert again.gateway_id == gateway_id != outbox.gateway_id
    ((waiting,),) = await again.segments(1000)
    assert waiting.gateway_id == outbox.gateway_id
    assert waiting.gateway_id in again.keys
    await again.close()


def test_a_folder_without_a_gateway_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ((), ("--renew",)):
        assert run(tmp_path, *arguments) == 1
        assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


async def test_a_gateway_of_an_earlier_version_logs_its_new_id_once(tmp_path: Path) -> None:
    await old_outbox(tmp_path / "gateway" / "outbox.db")
    with capture_logs() as logs:
        for _ in range(2):
            async with gateway(tmp_path) as client:
                gateway_id = client.gateway.outbox.gateway_id
    made = [line for line in logs if line["event"] == "gateway_id_made"]
    assert [(line["gateway_id"], line["replaces"]) for line in made] == [(gateway_id, OLD_ID)]


def test_an_unusable_enrolment_secret_is_named(tmp_path: Path) -> None:
    path = tmp_path / "enrolment.key"
    for content in (None, b"", b"  short \n"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(SettingsError, match="ENROLMENT_SECRET_FILE"):
            GatewaySettings(enrolment_secret_file=path).enrolment_secret()
    assert GatewaySettings().enrolment_secret() is None
