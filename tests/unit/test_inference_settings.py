"""The registry that inference follows, by its settings."""

from pathlib import Path

import pytest

from services.inference.settings import InferenceSettings
from shared.settings import SettingsError, read_settings
from tests.support.odd_files import huge

SERVER = "https://ana:geheim@mlflow.example.org/base"


@pytest.mark.parametrize(
    ("uri", "bundle", "followed"),
    [
        (None, None, None),
        ("sqlite:///var/mlflow.db", None, None),  # training's, in a file: its model store is what counts
        (SERVER, None, SERVER),
        (SERVER, Path("var/chosen"), None),  # a chosen folder excludes every other model
    ],
)
def test_a_registry_is_followed_if_it_is_a_server_and_no_folder_was_chosen(
    uri: str | None, bundle: Path | None, followed: str | None
) -> None:
    assert InferenceSettings(mlflow_tracking_uri=uri, inference_bundle=bundle).followed_registry == followed


@pytest.mark.parametrize(
    "uri",
    [
        *("http://", "https:mlflow:5000", "http://ana:geheim@", "httpx://mlflow:5000"),
        *("http://mlflow:99999", "http://mlflow:0", "http://ana:geheim@mlflow:port", "http://ana:geheim@[mlflow"),
    ],
)
def test_a_server_without_a_host_is_one_error_line_without_its_url(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(SettingsError, match=r"MLFLOW_TRACKING_URI: .*must be like http://mlflow:5000") as refused:
        read_settings(InferenceSettings)
    assert "geheim" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_settings_file_that_is_not_utf_8_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_bytes("# contraseña\nPORT=8001\n".encode("latin-1"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=r"^settings: \.env is not UTF-8 text; save it as UTF-8$"):
        read_settings(InferenceSettings)


def test_settings_in_a_file_of_another_size_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    huge(tmp_path / ".env")
    with pytest.raises(SettingsError, match=r"^settings: \.env has more than 1048576 bytes; is it another file\?$"):
        read_settings(InferenceSettings)
