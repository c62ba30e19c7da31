"""The progress of a transfer, on a terminal and in a file."""

import io

from services.recorder.transfer.command import Progress


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_a_bar_that_ends_its_line() -> None:
    stream = Terminal()
    progress = Progress("predicciones copied", 4, stream)
    for _ in range(2):
        progress.advance(2)

    half, full = stream.getvalue().split("\r")[1:]
    assert half.startswith(f"[{'#' * 15}{'.' * 15}] predicciones copied       50%  2 of 4 rows, ")
    assert full.startswith(f"[{'#' * 30}] predicciones copied      100%  4 of 4 rows, ")
    assert full.endswith("\n")


def test_a_file_gets_a_line_at_every_tenth() -> None:
    stream = io.StringIO()
    progress = Progress("predicciones copied", 1000, stream)
    for _ in range(100):
        progress.advance(10)

    lines = stream.getvalue().splitlines()
    assert [line.split("%")[0].split()[-1] for line in lines] == [str(tenth) for tenth in range(10, 101, 10)]
