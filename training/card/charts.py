"""Charts of the model card as SVG, without script or style: their classes are styled by the page."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from training.stage_files import CalibrationBin, Interval

_LEFT, _TOP, _SIZE = 44.0, 10.0, 260.0
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
_LARGEST_DOT, _SMALLEST_DOT = 9.0, 2.5


def interval_bar(value: float, interval: Interval, low: float) -> Markup:
    """Draw a figure and its 95 % interval on the scale from `low` to 1; the page has the numbers as text."""
    start, end, middle = (100 * (x - low) / (1 - low) for x in (*interval, value))
    return Markup(
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        '<line class="scale" x1="0" y1="5" x2="100" y2="5"/>'
        '<line class="span" x1="{:.1f}" y1="5" x2="{:.1f}" y2="5"/>'
        '<line class="mark" x1="{:.1f}" y1="0" x2="{:.1f}" y2="10"/></svg>'
    ).format(start, end, middle, middle)


def calibration(bins: Sequence[CalibrationBin], least: int) -> Markup:
    """Draw accuracy over confidence; the area of a dot is proportional to the number of cases.

    The line joins the bins with `least` cases or more; smaller bins are noise.
    """
    most = max(bin_.cases for bin_ in bins)
    points = [(_x(bin_.confidence), _y(bin_.right)) for bin_ in bins]
    dots = [
        Markup('<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"/>').format(x, y, _radius(bin_.cases, most))
        for bin_, (x, y) in zip(bins, points, strict=True)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for bin_, (x, y) in zip(bins, points, strict=True) if bin_.cases >= least)
    return Markup(
        '<svg class="plot" viewBox="0 0 320 320" role="img" aria-labelledby="calibracion-titulo calibracion-texto">'
        '<title id="calibracion-titulo">Curva de calibración</title>'
        '<desc id="calibracion-texto">Aciertos según la probabilidad de la respuesta. La diagonal es la calibración '
        "perfecta; los valores están en la tabla que sigue.</desc>{}"
        '<line class="ideal" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/><polyline class="curve" points="{}"/>{}'
        '<text class="axis" x="{:.1f}" y="314" text-anchor="middle">probabilidad de la respuesta</text>'
        '<text class="axis" transform="translate(11 {:.1f}) rotate(-90)" text-anchor="middle">aciertos</text></svg>'
    ).format(
        Markup().join(_tick(value) for value in _TICKS),
        _x(0),
        _y(0),
        _x(1),
        _y(1),
        line,
        Markup().join(dots),
        _x(0.5),
        _y(0.5),
    )


def _tick(value: float) -> Markup:
    label = f"{value:g}".replace(".", ",")
    return Markup(
        '<line class="grid" x1="{x:.1f}" y1="{top:.1f}" x2="{x:.1f}" y2="{bottom:.1f}"/>'
        '<line class="grid" x1="{left:.1f}" y1="{y:.1f}" x2="{right:.1f}" y2="{y:.1f}"/>'
        '<text class="tick" x="{x:.1f}" y="{under:.1f}" text-anchor="middle">{label}</text>'
        '<text class="tick" x="{beside:.1f}" y="{middle:.1f}" text-anchor="end">{label}</text>'
    ).format(
        x=_x(value),
        y=_y(value),
        left=_x(0),
        right=_x(1),
        top=_y(1),
        bottom=_y(0),
        under=_y(0) + 16,
        beside=_x(0) - 6,
        middle=_y(value) + 4,
        label=label,
    )


def _x(share: float) -> float:
    return _LEFT + _SIZE * share


def _y(share: float) -> float:
    return _TOP + _SIZE * (1 - share)


def _radius(cases: int, most: int) -> float:
    return max(_LARGEST_DOT * math.sqrt(cases / most), _SMALLEST_DOT)
