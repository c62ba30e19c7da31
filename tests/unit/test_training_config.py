from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.diseases.thyroid import DatosPaciente
from tests.support.bundles import PacienteDePrueba
from tests.support.odd_files import ODD_FILES
from training.config import RandomSplit, TimeSplit, read_parameters, read_yaml
from training.errors import ParametersError

ROOT = Path(__file__).parents[2]
OUR_TEXT = (ROOT / "params.yaml").read_text()
OURS = yaml.safe_load(OUR_TEXT)


def written(folder: Path, text: str) -> Path:
    path = folder / "params.yaml"
    path.write_text(text)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ParametersError) as caught:
        read_parameters(path)
    assert caught.value.exit_code == 78
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("odd", ODD_FILES)
def test_a_file_that_is_odd_or_too_large_is_one_line(tmp_path: Path, odd: Callable[[Path], None]) -> None:
    odd(tmp_path / "params.yaml")
    assert refusal(tmp_path / "params.yaml").startswith(f"{tmp_path}/params.yaml: cannot be read (")


def changed(section: str, **values: Any) -> str:  # noqa: ANN401
    return yaml.safe_dump(OURS | {section: OURS[section] | values})


def test_ours_are_read_as_they_are_written() -> None:
    parameters = read_parameters(ROOT / "params.yaml")
    assert isinstance(parameters.split, TimeSplit)
    assert parameters.split.date.isoformat() == OURS["split"]["date"]
    parameters.check_names(DatosPaciente.disease.classes, DatosPaciente.features)


def test_data_without_dates_are_split_at_random(tmp_path: Path) -> None:
    split = {"method": "random", "test_share": 0.25, "seed": 7}
    parameters = read_parameters(written(tmp_path, yaml.safe_dump(OURS | {"split": split})))
    assert parameters.split == RandomSplit(method="random", test_share=0.25, seed=7)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (changed("gates", acuracy=0.9), "gates.acuracy: unknown key"),
        (changed("gates", accuracy="0.9"), "gates.accuracy: must be a number"),
        (changed("gates", accuracy=92), "gates.accuracy: Input should be less than or equal to 1"),
        (changed("gates", accuracy=float("nan")), "gates.accuracy"),
        (changed("parity", tolerance="tiny"), "parity.tolerance: must be a number"),
        (changed("conformal", level=1.0), "conformal.level"),
        (changed("subgroups", bands={"edad": [40, 18]}), "subgroups.bands: each end must be above the one before"),
        (changed("split", date=1986), "split.date: must be year, month and day in quotes"),
        (changed("split", date=86400), "split.date: must be year, month and day in quotes"),
        (changed("split", date="86400"), "split.date: must be year, month and day in quotes"),
        (changed("split", date="July"), "split.date"),
        (changed("split", method="forward"), "method must be time or random"),
        (changed("model", max_iter=0), "model.max_iter"),
        (yaml.safe_dump({name: part for name, part in OURS.items() if name != "model"}), "model: missing"),
        ("", "the whole file"),
        ("a: [1", "not YAML (line"),
        ("a: !!int x", "not YAML"),
        ("a: !!bool x", "not YAML"),
        ("[" * 10_000, "nested too deeply"),
        (f"{OUR_TEXT}conformal: {{level: 0.9}}\n", "a key is there twice (line "),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in refusal(written(tmp_path, text))


def test_every_wrong_key_is_named_at_once(tmp_path: Path) -> None:
    message = refusal(written(tmp_path, changed("gates", accuracy=2, acuracy=1)))
    assert "gates.accuracy" in message
    assert "gates.acuracy" in message


def test_a_date_without_quotes_is_rejected_because_dvc_cannot_read_it(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text().replace('"1986-07-01"', "1986-07-01")
    assert 'put the date in quotes, "1986-07-01"' in refusal(written(tmp_path, text))


SPELLINGS = (
    *("010", "08", "0o10", "0x1F", "0b11", "1_000", "1e3", "1e-3", "1.e-3", ".5", "+1", "-0.0", "1:30", "1:30.5"),
    *("yes", "no", "on", "off", "Yes", "y", "true", "True", "~", "null", ".inf", "1986-07-01", "'010'", "!!int '010'"),
)


def test_every_spelling_is_read_as_dvc_reads_it(tmp_path: Path) -> None:
    from dvc.utils.serialize import load_yaml  # noqa: PLC0415 - a second, for this test alone

    path = written(tmp_path, "".join(f"v{number}: {text}\n" for number, text in enumerate(SPELLINGS)))
    assert repr(read_yaml(path)) == repr(load_yaml(str(path)))
    path = written(tmp_path, "\n".join(f"{text}: 1" for text in ("no", "010", "1e3", "~", "1:30")))
    assert repr(read_yaml(path)) == repr(load_yaml(str(path)))


def test_a_seed_with_a_leading_zero_is_the_one_that_dvc_locks(tmp_path: Path) -> None:
    text = OUR_TEXT.replace("  seed: 0\n", "  seed: 010\n").replace("1.0e-5", "1e-5")
    parameters = read_parameters(written(tmp_path, text))
    assert (parameters.model.seed, parameters.evaluation.seed, parameters.parity.tolerance) == (10, 10, 1e-5)


def test_parameters_in_another_encoding_are_one_line(tmp_path: Path) -> None:
    path = written(tmp_path, "")
    path.write_bytes("# de la clínica".encode("cp1252"))
    assert refusal(path).endswith("params.yaml: not text in UTF-8")


def test_the_error_of_a_missing_file_names_both_remedies(tmp_path: Path) -> None:
    assert "run the command in its folder, or write a new one with `make params`" in refusal(tmp_path / "params.yaml")


def test_a_gate_for_a_class_that_does_not_exist_is_rejected() -> None:
    with pytest.raises(ParametersError, match="no such class: hipertiroidismo; the classes are sano, enfermo"):
        read_parameters(ROOT / "params.yaml").check_names(["sano", "enfermo"], DatosPaciente.features)


def test_bands_of_an_unmeasured_column_are_rejected() -> None:
    parameters = read_parameters(ROOT / "params.yaml")
    text = "no such measurement: edad; known: glucosa"
    with pytest.raises(ParametersError, match=text):
        parameters.check_names(
            DatosPaciente.disease.classes, [f for f in PacienteDePrueba.features if f.name != "edad"]
        )


def test_a_limit_for_a_column_that_does_not_exist_is_rejected() -> None:
    parameters = read_parameters(ROOT / "params.yaml")
    with pytest.raises(ParametersError, match=r"checks\.missing_by_column: no such column: t3"):
        parameters.check_names(DatosPaciente.disease.classes, [f for f in DatosPaciente.features if f.name != "t3"])
