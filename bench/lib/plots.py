"""Plots of the reports: SVG that reads on light and on dark pages. The same figures give the same bytes.

A plot has one or several panels: `draw(path, lines(…), bars(…))`.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from tests.support.paths import ROOT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Panel: TypeAlias = Callable[["Axes"], None]

Log = Literal["", "x", "y", "xy"]
"""Which axes are logarithmic."""

_INK = "#737b86"
"""Grey with a contrast above 4 : 1 on white as well as on the near-black of dark pages."""
_COLOURS = (
    "#2f81f7",
    "#d9730d",
    "#2da44e",
    "#a371f7",
    "#d1498b",
    "#17a2b8",
    "#b08800",
    "#e5534b",
    "#8c959f",
    "#5e60ce",
)
_MARKS = "os^Dv*PX<>"
_WIDTH, _HEIGHT = 6.4, 4.0
_STYLE: dict[Any, Any] = {  # matplotlib's type lists its 300 names
    "svg.fonttype": "none",
    "svg.hashsalt": "predecir",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.35,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK),
    "grid.color": _INK,
}


def draw(path: Path, *panels: Panel, height: float = _HEIGHT, columns: int | None = None) -> None:
    """Draw `panels` into `path`, an SVG file: side by side, or in `columns` columns; `height` is of each, in inches."""
    # The font cache is in this folder: the home folder may not be writable.
    os.environ.setdefault("MPLCONFIGDIR", str(ROOT / "var" / "matplotlib"))
    from matplotlib import rc_context  # noqa: PLC0415 - only after the line above
    from matplotlib.figure import Figure  # noqa: PLC0415 - the same

    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context(_STYLE):
        columns = columns or len(panels)
        rows = -(-len(panels) // columns)
        figure = Figure(figsize=(_WIDTH * columns, height * rows), layout="constrained")
        for number, panel in enumerate(panels):
            panel(figure.add_subplot(rows, columns, number + 1))
        figure.savefig(path, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")


def lines(title: str, x: str, y: str, series: Mapping[str, Sequence[tuple[float, float]]], *, log: Log = "") -> Panel:
    """Draw one line per series, through points (x, y); `x` and `y` name the quantities and their units."""

    def panel(axes: "Axes") -> None:
        for number, (name, points) in enumerate(series.items()):
            colour, mark = _COLOURS[number % len(_COLOURS)], _MARKS[number % len(_MARKS)]
            axes.plot(*zip(*points, strict=True), color=colour, marker=mark, markersize=5, label=name)
        axes.set(title=title, xlabel=x, ylabel=y)
        if "x" in log:
            axes.set_xscale("log")
        if "y" in log:
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.grid(visible=True)
        axes.legend(fontsize=9)

    return panel


def bars(title: str, unit: str, values: Mapping[str, float], *, log: Log = "") -> Panel:
    """Draw one horizontal bar per value, the first on top, with its figure beside it."""

    def panel(axes: "Axes") -> None:
        drawn = axes.barh(list(values), list(values.values()), color=_COLOURS[0], height=0.65)
        axes.bar_label(
            drawn, [f"{value:,.4g}" if value < 1000 else f"{value:,.0f}" for value in values.values()], padding=3
        )
        axes.set(title=title, xlabel=unit)
        axes.invert_yaxis()
        if "x" in log:
            axes.set_xscale("log")
        axes.margins(x=0.15)
        axes.grid(visible=True, axis="x")
        axes.set_axisbelow(True)

    return panel


def stacked(title: str, unit: str, rows: Mapping[str, Mapping[str, float]]) -> Panel:
    """Draw one horizontal bar per row, made of its parts one after the other; the same part has the same colour."""
    parts = list(dict.fromkeys(part for row in rows.values() for part in row))

    def panel(axes: "Axes") -> None:
        starts = dict.fromkeys(rows, 0.0)
        for number, part in enumerate(parts):
            sizes = [row.get(part, 0.0) for row in rows.values()]
            hatch = None if number < len(_COLOURS) else "//"
            axes.barh(
                list(rows),
                sizes,
                left=list(starts.values()),
                label=part,
                color=_COLOURS[number % len(_COLOURS)],
                hatch=hatch,
                height=0.65,
            )
            starts = {name: start + size for (name, start), size in zip(starts.items(), sizes, strict=True)}
        axes.set(title=title, xlabel=unit)
        axes.invert_yaxis()
        axes.grid(visible=True, axis="x")
        axes.set_axisbelow(True)
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=8, borderaxespad=0)

    return panel
