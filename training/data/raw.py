"""Reader of `data/raw.csv`: rows as text by column name, with the line where each row ends.

An error in the file is one line without any of its content: a table that lost its header has a patient there.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from shared.files import read_regular
from training.errors import DataError

RAW = Path("data/raw.csv")
LARGEST = 1024 * 1024 * 1024
"""Bytes of the raw data, which are read into memory."""

_DECIMAL_COMMA = re.compile(r"\s*-?[\d.]*\d,\d+\s*")
_SEP_LINE = re.compile(r'\ufeff?"?sep=.?"?', re.IGNORECASE)
"""A first line for Excel alone: the separator of the lines after it."""
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_OTHER_FORMATS = {
    b"pk\x03\x04": "a workbook (xlsx, ods) or another zip file",
    b"\xd0\xcf\x11\xe0": "a workbook (xls)",
    b"\x1f\x8b": "compressed (gzip)",
    b"<!doc": "HTML",
    b"<html": "HTML",
    b"<table": "HTML",
    b"<?xml": "XML",
}
"""By first bytes, in lower case."""
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


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
        if any(_plain(name) == _plain(column) for name in self):
            message += "; one has that name but for spaces, or upper and lower case"
        raise RowError(message)

    @property
    def has_decimal_comma(self) -> bool:
        """True if a value is a number with a decimal comma, as a Spanish spreadsheet writes it."""
        return any(_DECIMAL_COMMA.fullmatch(value) for value in self.values())


def rows(raw: Path) -> Iterator[tuple[int, Row]]:
    """Yield every row that has a value, with its line; the header is line 1.

    Raises:
        DataError: the file cannot be read, is not a CSV table, or was cut off.

    """
    try:
        content = read_regular(raw, LARGEST)
    except OSError as error:
        message = f"{raw}: cannot be read ({error.strerror}); put the data there, one row per patient, with a header"
        raise DataError(message) from None
    if fault := _format_fault(content):
        message = f"{raw}: {fault}"
        raise DataError(message)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        remedy = 'save it as CSV in UTF-8: in Excel as "CSV UTF-8", not as "CSV"'
        message = f"{raw}: not text in UTF-8 (line {line}); {remedy}"
        raise DataError(message) from None
    yield from _table(raw, io.StringIO(text, newline=""))


def _format_fault(content: bytes) -> str | None:
    for start, kind in _OTHER_FORMATS.items():
        if content[: len(start)].lower() == start:
            return f"{kind}, not CSV; save it as CSV in UTF-8, separated by commas"
    if content.startswith(_UTF_16) or content.count(0) > len(content) // 4:
        return "text in UTF-16; save it as CSV in UTF-8, separated by commas"  # Excel's "Unicode text" has tabs
    if 0 in content:
        line = content.count(b"\n", 0, content.index(0)) + 1
        return f"line {line} has a NUL character, which no text has; export the file again"
    return None


def _table(raw: Path, file: TextIO) -> Iterator[tuple[int, Row]]:
    reader = csv.reader(file, strict=True)  # strict: an unclosed quote is an error, not one long value
    try:
        header = next(reader, None)
        if fault := _header_fault(header):
            message = f"{raw}: {fault}"
            raise DataError(message)
        for values in reader:
            if not any(values):  # an empty line, or cells that were emptied in a spreadsheet
                continue
            if len(values) != len(header or ()):
                message = f"{raw}, line {reader.line_num}: {_count_fault(len(values), header or (), file)}"
                raise DataError(message)
            yield reader.line_num, Row(zip(header or (), values, strict=True))
    except csv.Error as error:
        message = f"{raw}, line {reader.line_num}: not CSV ({error}); is a quote never closed, or the file cut off?"
        raise DataError(message) from None


def _header_fault(header: Sequence[str] | None) -> str | None:
    if header is None:
        return "empty; it needs a header line, and one row per patient"
    if not any(header):
        return "its first line is empty; the first line must be the header"
    if _SEP_LINE.fullmatch(",".join(header)):
        return 'its first line is "sep=", which is for Excel alone; delete that line and separate the others by commas'
    if len(header) == 1:
        return f"its header has one column{_other_separator(header) or '; is it separated by commas?'}"
    positions: dict[str, int] = {}
    for position, name in enumerate(header, start=1):
        if positions.setdefault(name, position) != position:
            fault = "have the same name" if name else "have no name; is the first line the header, or a title?"
            return f"columns {positions[name]} and {position} of its header {fault}"
    return None


def _count_fault(count: int, header: Sequence[str], file: TextIO) -> str:
    fault = f"{count} fields, where the header has {len(header)}"
    if separator := _other_separator(header):
        return f"{fault}{separator}"
    if count > len(header):
        return f"{fault}; a text, or a number, with a comma in it must be in quotes"
    return fault if file.readline() else f"{fault}; it is the last line: was the file cut off?"


def _other_separator(header: Sequence[str]) -> str | None:
    """Name the separator if the header has more of another one than commas, and the remedy."""
    for separator, name in _SEPARATORS.items():
        if sum(column.count(separator) for column in header) >= len(header):
            return f", with {name} in it; save the file with commas between columns, and numbers with a decimal point"
    return None


def _plain(name: str) -> str:
    return name.strip("\ufeff \t\xa0").casefold()
