"""Which commit a version names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.registry.provenance import code_commit

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_an_image_without_git_names_the_commit_it_was_built_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("GIT_COMMIT", raising=False)
    assert code_commit() == ("unknown", None)
    monkeypatch.setenv("GIT_COMMIT", "0123abc")
    assert code_commit() == ("0123abc", False)
    monkeypatch.setenv("GIT_COMMIT", "0123abc-dirty")
    assert code_commit() == ("0123abc", True)
