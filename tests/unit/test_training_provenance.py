"""The commit that a version names, and its mark if files differed from that commit."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.builds import MadeUpPatient
from training import dvc_project
from training.registry import provenance
from training.registry.provenance import code_commit


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit; the code under test is made to believe that it is part of it."""
    for name in ("dvc.lock", "dvc.yaml", "training/registry/provenance.py", "anemia/anemia.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("committed")
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    for words in (("init", "--quiet"), ("add", "."), (*identity, "commit", "--quiet", "-m", "first")):
        subprocess.run(["git", "-C", tmp_path, *words], check=True)
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "training/registry/provenance.py"))
    return tmp_path


def test_what_the_pipeline_writes_leaves_a_clone_clean(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit, dirty = code_commit()
    assert (len(commit), dirty) == (40, False)
    (clone / "dvc.lock").write_text("another processor's")
    (clone / "anemia/dvc.lock").write_text("first run there")
    monkeypatch.chdir(clone / "anemia")
    assert dvc_project.write_project(MadeUpPatient, "anemia:Anemia")
    assert code_commit() == (commit, False)


@pytest.mark.parametrize(
    "name", ["dvc.yaml", "params.yaml", "anemia/anemia.py", "anemia/dvc.yaml", "notes/dvc.lock.txt"]
)
def test_any_other_file_makes_a_clone_dirty(clone: Path, name: str) -> None:
    (clone / name).parent.mkdir(exist_ok=True)
    (clone / name).write_text("changed by hand")
    assert code_commit()[1] is True


def test_a_file_that_was_removed_makes_a_clone_dirty(clone: Path) -> None:
    (clone / "dvc.yaml").unlink()
    assert code_commit()[1] is True


def test_code_outside_a_repository_has_no_commit(clone: Path) -> None:
    shutil.rmtree(clone / ".git")
    assert code_commit() == ("unknown", None)


def test_an_archive_inside_of_another_repository_has_no_commit(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = clone / "predecir/training/registry/provenance.py"
    archive.parent.mkdir(parents=True)
    archive.write_text("unpacked")
    monkeypatch.setattr(provenance, "__file__", str(archive))
    monkeypatch.delenv("GIT_COMMIT", raising=False)
    assert code_commit() == ("unknown", None)
    monkeypatch.setenv("GIT_COMMIT", "0123abc")
    assert code_commit() == ("0123abc", False)


def test_a_commit_is_found_in_a_folder_with_spaces_and_accents(
    clone: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = tmp_path_factory.mktemp("moved") / "Datos clínicos ñ"
    clone.rename(moved)
    monkeypatch.setattr(provenance, "__file__", str(moved / "training/registry/provenance.py"))
    assert code_commit()[1] is False
    (moved / "año nuevo.txt").write_text("new")
    assert code_commit()[1] is True


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
