"""What the pipeline decides before DVC runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from shared.diseases.thyroid import DatosPaciente
from tests.bundles import RevisedThyroid, make_bundle
from training import pipeline
from training.errors import ParametersError

if TYPE_CHECKING:
    from pathlib import Path

    from shared.patient import Patient


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder without parameters: whoever wants to train there is told so."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREDECIR_PARAMS", raising=False)
    monkeypatch.setattr(sys, "argv", ["pipeline", "--unless-served"])
    return tmp_path


def test_nothing_is_trained_where_a_model_for_the_class_is_in_production(folder: Path) -> None:
    make_bundle(folder / "var", DatosPaciente, version="7", pickled=b"never opened")
    assert pipeline.main() == "version 7 is in production"


@pytest.mark.parametrize("patient", [None, RevisedThyroid])
def test_it_goes_on_to_train_where_nothing_or_a_model_for_another_class_is(
    folder: Path, patient: type[Patient] | None
) -> None:
    if patient:
        make_bundle(folder / "var", patient, pickled=b"never opened")
    with pytest.raises(ParametersError, match=r"params\.yaml: cannot be read"):
        pipeline.main()


def test_a_model_that_was_tampered_with_does_not_count_as_served(folder: Path) -> None:
    bundle = make_bundle(folder / "var", DatosPaciente, pickled=b"never opened")
    (bundle / "model.pkl").write_bytes(b"another")
    with pytest.raises(ParametersError):
        pipeline.main()
