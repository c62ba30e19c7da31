from argparse import ArgumentParser
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from services.gateway import key_admin
from services.gateway.key_admin import create
from shared.settings import ServiceSettings, SettingsError
from shared.web.api_keys import Role
from shared.web.key_requirement import log_requirement, open_keys
from tests.support.waiting import until_now


def settings(folder: Path, **values: object) -> ServiceSettings:
    """Return the settings of a service whose folder is `folder`."""
    return ServiceSettings.model_validate({"PREDECIR_VAR": folder / "var", **values})


def keys(folder: Path, *words: str) -> int:
    """Run the command `keys` as an operator does, on the default path."""
    parser = ArgumentParser()
    key_admin.add_arguments(parser)
    chosen = settings(folder)
    return key_admin.run(chosen.keys_file, parser.parse_args(words), chosen.keys_mark)


@pytest.mark.parametrize(
    "hosts",
    [
        "predecir.example.org,localhost",
        "localhost, clinic",
        "localhost.example.org",
        "0.0.0.0",  # noqa: S104 - a name that must not be taken for loopback
        "10.1.2.3",
        "[2001:db8::1]",
    ],
)
def test_a_name_beyond_loopback_needs_keys(tmp_path: Path, hosts: str) -> None:
    with pytest.raises(SettingsError, match=r"^settings: ALLOWED_HOSTS: .* keys create --role medico --name OWNER$"):
        open_keys(settings(tmp_path, allowed_hosts=hosts))
    create(settings(tmp_path).keys_file, Role.OPS)
    assert open_keys(settings(tmp_path, allowed_hosts=hosts)).required


@pytest.mark.parametrize("hosts", ["localhost,127.0.0.1,[::1]", "LOCALHOST, 127.0.0.2,", "[::1]"])
def test_names_of_loopback_need_no_keys(tmp_path: Path, hosts: str) -> None:
    assert not open_keys(settings(tmp_path, allowed_hosts=hosts)).required


@pytest.mark.parametrize(("content", "state"), [(None, "is not there"), ('{"version": 1, "keys": []}', "has no keys")])
def test_a_chosen_file_of_keys_must_have_one(tmp_path: Path, content: str | None, state: str) -> None:
    file = tmp_path / "shared" / "access.json"
    if content is not None:
        file.parent.mkdir()
        file.write_text(content)
    with pytest.raises(SettingsError) as caught:
        open_keys(settings(tmp_path, PREDECIR_KEYS=file))
    assert str(caught.value).startswith(f"settings: PREDECIR_KEYS: {file} {state}; mount or restore")
    assert "keys create" in str(caught.value)
    create(file, Role.OPS)
    assert open_keys(settings(tmp_path, PREDECIR_KEYS=file)).required
    assert not (tmp_path / "var").exists()  # a chosen file needs no mark


@pytest.mark.parametrize("loss", ["file", "folder", "emptied"])
def test_a_lost_file_of_keys_prevents_the_next_start(tmp_path: Path, loss: str) -> None:
    assert keys(tmp_path, "create", "--role", "ops") == 0
    chosen = settings(tmp_path)
    match loss:
        case "file":
            chosen.keys_file.unlink()
        case "folder":
            chosen.keys_file.unlink()
            chosen.keys_file.parent.rmdir()
        case _:
            chosen.keys_file.write_text('{"version": 1, "keys": []}')
    with pytest.raises(SettingsError) as caught:
        open_keys(chosen)
    [line] = str(caught.value).splitlines()
    assert "restore it, or create a key with" in line
    assert "keys reset" in line
    assert keys(tmp_path, "create", "--role", "ops") == 0
    assert open_keys(chosen).required


@pytest.mark.parametrize("folder", ["gateway", "keys"])
def test_a_folder_that_cannot_be_searched_for_keys_prevents_a_start(tmp_path: Path, folder: str) -> None:
    chosen = settings(tmp_path)
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / folder).symlink_to(folder)  # as a folder of another user: what is in it is not known
    with pytest.raises(SettingsError) as caught:
        open_keys(chosen)
    [line] = str(caught.value).splitlines()
    assert str(tmp_path / "var" / folder) in line


@pytest.mark.parametrize("place", ["keys/access.json", "gateway/keys-required"])
def test_a_link_to_a_file_that_is_not_mounted_prevents_a_start(tmp_path: Path, place: str) -> None:
    link = tmp_path / "var" / place
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "not mounted")
    with pytest.raises(SettingsError, match=f"{link.name}"):
        open_keys(settings(tmp_path))


def test_keys_of_before_the_mark_existed_are_marked_at_a_start(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    create(chosen.keys_file, Role.OPS)
    open_keys(chosen)
    chosen.keys_file.unlink()
    with pytest.raises(SettingsError, match="there were keys"):
        open_keys(chosen)


def test_a_key_made_while_a_service_runs_is_marked(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    running = open_keys(chosen)
    create(chosen.keys_file, Role.OPS)  # not by the command, which writes the mark itself

    def seen() -> bool:
        running.refresh()
        return running.required

    until_now(seen)
    assert chosen.keys_mark is not None
    assert chosen.keys_mark.exists()


def test_only_the_command_reset_goes_back_to_no_keys(tmp_path: Path) -> None:
    keys(tmp_path, "create", "--role", "ops")
    chosen = settings(tmp_path)
    chosen.keys_file.write_text("[")  # a damaged file is deleted, too
    assert keys(tmp_path, "reset") == 0
    assert not open_keys(chosen).required
    assert keys(tmp_path, "reset") == 0


def test_a_revoked_last_key_is_no_way_back(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    _, made = create(chosen.keys_file, Role.OPS)
    keys(tmp_path, "revoke", made.id)
    assert open_keys(chosen).required


def test_each_start_logs_in_one_line_whether_keys_are_needed(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    with capture_logs() as logs:
        log_requirement(chosen, open_keys(chosen))
    assert [line["event"] for line in logs] == ["keys_not_required"]
    keys(tmp_path, "create", "--role", "ops")
    with capture_logs() as logs:
        log_requirement(chosen, open_keys(chosen))
    assert [(line["event"], line["active"]) for line in logs] == [("keys_required", 1)]


def test_a_mark_that_cannot_be_written_is_logged(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    create(chosen.keys_file, Role.OPS)
    (tmp_path / "var" / "gateway").write_bytes(b"")  # a file in the place of the folder
    with capture_logs() as logs:
        assert open_keys(chosen).required
    assert [line["event"] for line in logs] == ["keys_mark_not_written"]
