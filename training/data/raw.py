"""Reader of `data/raw.csv`: rows as text by column name, with the line where each row ends.

An error in the file is one line without any of its content: a table that lost its header has a patient there.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from training.errors import DataError

RAW = Path("data/raw.csv")

_DECIMAL_COMMA = re.compile(r"\s*-?\d+,\d+\s*")


class RowError(Exception):
    """A row breaks a rule; the message names it, without any value."""


class Row(dict[str, str]):
    """One row by column name. Reading a column that the file lacks raises a RowError with a message."""

    def __missing__(self, column: str) -> str:
        """Handle a column that the file lacks.

        Raises:
            RowError: always.

        """
        message = f"from_row reads {column!r}, which is no column of the file"
        raise RowError(message)

    @property
    def has_decimal_comma(self) -> bool:
        """True if a value is a number with a decimal comma, as a Spanish spreadsheet writes it."""
        return any(_DECIMAL_COMMA.fullmatch(value) for value in self.values())


def rows(raw: Path) -> Iterator[tuple[int, Row]]:
    """Yield every row with its line; the header is line 1.

    Raises:
        DataError: the file cannot be read, is not a CSV table, or was cut off.

    """
    try:
        with raw.open(encoding="utf-8-sig", newline="") as file:
            yield from _table(raw, file)
    except OSError as error:
        message = f"{raw}: cannot be read ({error.strerror}); put the data there, one row per patient, with a header"
        raise DataError(message) from None
    except UnicodeDecodeError:
        message = f"{raw}: not text in UTF-8; save it as CSV in UTF-8"
        raise DataError(message) from None


def _table(raw: Path, file: TextIO) -> Iterator[tuple[int, Row]]:
    reader = csv.reader(file, strict=True)  # strict: an unclosed quote is an error, not one long value
    try:
        header = next(reader, None)
        if fault := _header_fault(header):
            message = f"{raw}: {fault}"
            raise DataError(message)
        for values in reader:
            if not values:
                continue
            if len(values) != len(header or ()):
                message = f"{raw}, line {reader.line_num}: {_count_fault(len(values), len(header or ()), file)}"
                raise DataError(message)
            yield reader.line_num, Row(zip(header or (), values, strict=True))
    except csv.Error as error:
        message = f"{raw}, line {reader.line_num}: not CSV ({error}); is a quote never closed, or the file cut off?"
        raise DataError(message) from None


def _header_fault(header: Sequence[str] | None) -> str | None:
    if not header:
        return "empty; it needs a header line, and one row per patient"
    if len(header) == 1:
        return "its header has one column; is it separated by commas?"
    positions: dict[str, int] = {}
    for position, name in enumerate(header, start=1):
        if positions.setdefault(name, position) != position:
            return f"columns {positions[name]} and {position} of its header have the same name"
    return None


def _count_fault(count: int, expected: int, file: TextIO) -> str:
    fault = f"{count} fields, where the header has {expected}"
    if count > expected:
        return f"{fault}; a text, or a number, with a comma in it must be in quotes"
    return fault if file.readline() else f"{fault}; it is the last line: was the file cut off?"
