import datetime as dt
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import pytest
from pydantic import model_validator

from shared.diseases.thyroid import DatosPaciente
from shared.patient import (
    Case,
    Diagnosis,
    DiscardedRowError,
    Disease,
    Patient,
    PatientClassError,
    flag,
    measure,
    rule_broken,
)
from tests.support.bundles import PacienteDePrueba
from tests.support.data import thyroid_csv
from tests.support.odd_files import ODD_FILES
from training.data.cases import Example, read_cases, read_lines, read_rule, write_cases
from training.data.preparation import prepare
from training.errors import DataError

PRIVATE = "4711"
"""A value that no error may repeat."""


class Gripe(Patient):
    disease: ClassVar[Disease] = Disease(
        "gripe", "Gripe", (Diagnosis("sin_gripe", "Sin gripe"), Diagnosis("gripe", "Gripe"))
    )
    temperatura: float | None = measure("Temperatura", unit="°C", limits=(30, 45))
    tos: bool = flag("Tos")

    @model_validator(mode="after")
    def _coughing(self) -> Self:
        if self.tos and self.temperatura is None:
            raise rule_broken("tos", "tos_sin_temperatura", "Con tos, indique la temperatura.")
        return self

    @classmethod
    def from_row(cls, row: Mapping[str, str]) -> Case:
        if row["t"] == "?":
            raise DiscardedRowError("no reading")
        patient = cls(temperatura=float(row["t"]) if row["t"] else None, tos=row["cough"] == "1")
        return Case(patient, {"y": "gripe", "n": "sin_gripe", "x": "resfriado"}[row["flu"]])


def table(folder: Path, *rows: str, header: str = "t,cough,flu") -> Path:
    path = folder / "raw.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_the_thyroid_data_are_cleaned_as_documented() -> None:
    examples, report = prepare(thyroid_csv(), DatosPaciente)
    assert (report.rows_read, len(examples)) == (9172, 8856)
    assert report.discarded == {"only TBG was measured": 306, "no laboratory value": 10}
    assert report.cases == {
        "sin_alteracion": 6540,
        "hipotiroidismo": 659,
        "enfermedad_no_tiroidea": 455,
        "seguimiento_tratamiento": 389,
        "proteinas_transportadoras": 388,
        "hipertiroidismo": 228,
        "resultados_discordantes": 197,
    }
    assert report.data_hash == "f6b5d875b949c15f3ddc92f096d39249"


class GripeConRegla(Gripe):
    def by_rule(self) -> str | None:
        if self.temperatura is None:
            return "resfriado"
        return None if self.temperatura < 36 else "gripe" if self.temperatura > 38 else "sin_gripe"


def test_the_rules_answer_is_stored_with_the_case(tmp_path: Path) -> None:
    examples, report = prepare(table(tmp_path, "36.6,0,n", "39.5,1,y", "37,0,y"), GripeConRegla)
    write_cases(tmp_path / "cases.csv", report.columns, examples)
    answers = read_rule(tmp_path / "cases.csv", report.classes)
    assert answers is not None
    assert answers.tolist() == [0, 1, 0]
    assert read_cases(tmp_path / "cases.csv", report.classes).labels.tolist() == [0, 1, 1]


def test_a_disease_without_a_rule_has_none_and_half_a_rule_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "cases.csv"
    write_cases(path, ["t", "cough"], prepare(table(tmp_path, "36.6,0,n", "39.5,1,y"), Gripe)[0])
    assert read_rule(path, ["sin_gripe", "gripe"]) is None
    write_cases(path, ["t", "cough"], prepare(table(tmp_path, "35,0,n", "39.5,1,y"), GripeConRegla)[0])
    with pytest.raises(DataError, match=r"by_rule has no answer for 1 of 2 cases"):
        read_rule(path, ["sin_gripe", "gripe"])


def test_a_rule_that_answers_what_the_disease_does_not_list_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"line 3: by_rule returns a diagnosis that GripeConRegla.disease does not list"
    ):
        prepare(table(tmp_path, "36.6,0,n", ",0,n"), GripeConRegla)


def test_rows_are_encoded_and_discarded_rows_counted_by_reason(tmp_path: Path) -> None:
    examples, report = prepare(table(tmp_path, "36.6,0,n", "?,0,n", "39.5,1,y", "?,1,y", ""), Gripe)
    assert examples == [Example([36.6, 0.0], "sin_gripe", None, 2), Example([39.5, 1.0], "gripe", None, 4)]
    assert (report.rows_read, report.discarded) == (4, {"no reading": 2})
    assert (report.columns, report.measured, report.classes) == (
        ["temperatura", "tos"],
        ["temperatura"],
        ["sin_gripe", "gripe"],
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (f"{PRIVATE},0,n", "temperatura: Input should be less than or equal to 45"),
        (f"{PRIVATE}x,0,n", "ValueError in line"),
        (f"37,0,{PRIVATE}", "KeyError in line"),
        (",1,n", "tos: tos_sin_temperatura"),
        ("37,0,x", "a diagnosis that Gripe.disease does not list"),
        (f'"{PRIVATE},5",0,n', "(a number of this row has a decimal comma)"),
        ("nan,0,n", "temperatura: Input should be a finite number"),
        ("-inf,0,n", "temperatura: Input should be"),
        ("37,0", "2 fields, where the header has 3; it is the last line: was the file cut off?"),
        (f"37,0,n,{PRIVATE}", "4 fields, where the header has 3; a text, or a number, with a comma in it must be"),
        (f'37,0,"{PRIVATE}', "not CSV (unexpected end of data); is a quote never closed, or the file cut off?"),
    ],
)
def test_a_row_that_breaks_a_rule_is_named_without_its_value(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        prepare(table(tmp_path, "36.6,0,n", row), Gripe)
    assert "raw.csv, line 3: " in str(caught.value)
    assert message in str(caught.value)
    assert PRIVATE not in str(caught.value)
    assert caught.value.exit_code == 65


def test_the_other_broken_rows_are_counted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 2: .* \(and 2 more rows\)"):
        prepare(table(tmp_path, "99,0,n", "37,0,n", "98,0,n", "97,0,n"), Gripe)


def test_every_rule_that_a_row_breaks_is_named_at_once_with_its_first_line(tmp_path: Path) -> None:
    path = table(tmp_path, "99,0,n", "37,0,x", "98,0,n", f"{PRIVATE}x,0,n", "37,0")
    with pytest.raises(DataError) as caught:
        prepare(path, Gripe)
    named = [line.removeprefix(f"{path}, ") for line in str(caught.value).splitlines()]
    assert named[0].startswith("line 2: temperatura: Input should be less than or equal to 45 (and 1 more rows); ")
    assert named[1].startswith("line 3: from_row returns a diagnosis that Gripe.disease does not list; ")
    assert named[2].startswith("line 5: ValueError in line ")
    assert named[3:] == ["line 6: 2 fields, where the header has 3; it is the last line: was the file cut off?"]
    assert PRIVATE not in str(caught.value)


def test_a_column_that_the_file_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="from_row reads 'cough', which is no column of the file"):
        prepare(table(tmp_path, "37,1,n", header="t,tos,flu"), Gripe)


def test_a_short_row_in_the_middle_is_no_sign_of_a_file_cut_off(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 2: 2 fields, where the header has 3$"):
        prepare(table(tmp_path, "37,1", "37,1,n"), Gripe)


def test_an_answer_that_is_no_case_is_named(tmp_path: Path) -> None:
    class Forgetful(Gripe):
        @classmethod
        def from_row(cls, row: Mapping[str, str]) -> Case:
            return super().from_row(row).patient  # type: ignore[return-value]

    with pytest.raises(DataError, match="from_row does not return a Case"):
        prepare(table(tmp_path, "37,1,n"), Forgetful)


def test_a_class_without_from_row_is_an_error_of_the_class_not_of_a_row(tmp_path: Path) -> None:
    with pytest.raises(PatientClassError, match=r"^PacienteDePrueba has no from_row: it cannot be trained$"):
        prepare(table(tmp_path, "37,1,n"), PacienteDePrueba)


@pytest.mark.parametrize("rows", [[], ["?,0,n"]])
def test_no_case_at_all_is_rejected(tmp_path: Path, rows: list[str]) -> None:
    with pytest.raises(DataError, match="no row is left"):
        prepare(table(tmp_path, *rows), Gripe)


@pytest.mark.parametrize("odd", ODD_FILES)
def test_raw_data_that_are_odd_or_too_large_are_rejected_unread(tmp_path: Path, odd: Callable[[Path], None]) -> None:
    odd(tmp_path / "raw.csv")
    with pytest.raises(DataError, match=r"raw\.csv: cannot be read \(.+\); put the data there"):
        prepare(tmp_path / "raw.csv", Gripe)


def test_a_missing_or_binary_file_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        prepare(tmp_path / "raw.csv", Gripe)
    (tmp_path / "raw.csv").write_bytes(b"t,cough,flu\n\xff\xfe,0,n\n")
    with pytest.raises(DataError, match="UTF-8"):
        prepare(tmp_path / "raw.csv", Gripe)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("", "empty; it needs a header line"),
        (f"t {PRIVATE}", "its header has one column; is it separated by commas?"),
        (f"t;cough;{PRIVATE}", "its header has one column, with semicolons in it; save the file with commas between"),
        (f"t\tcough\t{PRIVATE}", "its header has one column, with tabs in it; save the file with commas between"),
        (f"t,{PRIVATE},flu,{PRIVATE}", "columns 2 and 4 of its header have the same name"),
        (f"{PRIVATE},,,", "columns 2 and 3 of its header have no name; is the first line the header, or a title?"),
        (f"\n{PRIVATE},cough", "its first line is empty; the first line must be the header"),
        (f"sep=,\nt,{PRIVATE}", 'its first line is "sep=", which is for Excel alone; delete that line and'),
        (f'\ufeff"SEP=;"\r\nt;{PRIVATE}', 'its first line is "sep=", which is for Excel alone; delete that line and'),
        (f"<html>{PRIVATE}", "HTML, not CSV; save it as CSV in UTF-8"),
        (f"t,{PRIVATE}\n37,\0", "line 2 has a NUL character"),
    ],
)
def test_a_file_that_is_no_table_is_one_error_line_without_its_content(
    tmp_path: Path, header: str, message: str
) -> None:
    (tmp_path / "raw.csv").write_text(header)
    with pytest.raises(DataError, match=re.escape(f"raw.csv: {message}")) as caught:
        prepare(tmp_path / "raw.csv", Gripe)
    assert PRIVATE not in str(caught.value)


UTF_16 = "text in UTF-16; save it as CSV in UTF-8"


@pytest.mark.parametrize(
    ("encoding", "letter", "message"),
    [
        *[(encoding, letter, UTF_16) for encoding in ("utf-16", "utf-16-le", "utf-16-be") for letter in "nñ"],
        ("cp1252", "ñ", "not text in UTF-8 (line 3); save it as CSV in UTF-8: in Excel as"),
    ],
)
def test_the_encoding_of_another_spreadsheet_export_is_named(
    tmp_path: Path, encoding: str, letter: str, message: str
) -> None:
    path = table(tmp_path, "37,1,n", f"37,1,{letter}")
    path.write_bytes(path.read_text().encode(encoding))
    with pytest.raises(DataError, match=re.escape(f"raw.csv: {message}")):
        prepare(path, Gripe)


def test_semicolons_are_named_also_if_a_column_name_has_a_comma(tmp_path: Path) -> None:
    path = table(tmp_path, "36,6;1;1,5", header="t, axillary;cough;flu")
    with pytest.raises(DataError, match=r"line 2: 3 fields, where the header has 2, with semicolons in it; save"):
        prepare(path, Gripe)


def test_rows_that_were_emptied_in_a_spreadsheet_are_skipped(tmp_path: Path) -> None:
    assert prepare(table(tmp_path, "37,1,n", ",,", "", ","), Gripe)[1].rows_read == 1


def test_a_column_name_with_spaces_is_not_called_missing_without_a_hint(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'cough', which is no column of the file; one has that name but for spaces"):
        prepare(table(tmp_path, "37,1,n", header="t, Cough,flu"), Gripe)


def test_a_file_saved_by_a_spreadsheet_with_its_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = table(tmp_path, "37,1,n")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(prepare(path, Gripe)[0]) == 1


def test_what_is_written_is_read_back_to_the_last_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = (rng.lognormal(0, 4, size=(500, 2))).astype(np.float32)
    values[::7, 1] = np.nan
    days = [dt.date(1986, 1, 1) + dt.timedelta(days=n) for n in range(500)]
    path = tmp_path / "cases.csv"
    write_cases(path, ["a", "b"], map(Example, values.tolist(), ["x", "y"] * 250, days, range(2, 502)))
    cases = read_cases(path, ["y", "x"])
    assert cases.rows.tobytes() == values.tobytes()
    assert cases.labels[:2].tolist() == [1, 0]
    assert cases.days is not None
    assert cases.days.tolist() == days
    assert read_lines(path).tolist() == list(range(2, 502))


def test_one_case_without_a_date_leaves_the_table_without_dates(tmp_path: Path) -> None:
    path = tmp_path / "cases.csv"
    write_cases(path, ["a"], [Example([1.0], "x", dt.date(1986, 1, 1), 2), Example([math.nan], "x", None, 3)])
    assert read_cases(path, ["x"]).days is None


def test_the_table_is_plain_csv(tmp_path: Path) -> None:
    path = tmp_path / "cases.csv"
    write_cases(path, ["a", "b"], [Example([0.1, math.nan], "x", dt.date(1986, 1, 2), 7)])
    assert path.read_text() == "line,by_rule,a,b,diagnosis,date\n7,,0.1,,x,1986-01-02\n"
