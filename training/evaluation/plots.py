"""Plots of the evaluation (PNG). The same probabilities give the same bytes."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import confusion_matrix, precision_recall_curve, roc_curve

from training.data.cases import Floats, Labels
from training.evaluation.metrics import calibration_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_INCHES = (7.5, 6.0)


def draw_all(folder: Path, probabilities: Floats, labels: Labels, classes: Sequence[str], bins: int) -> None:
    """Write the plots of confusion matrix, calibration, ROC, and precision and recall to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    _draw(folder / "confusion.png", lambda axes: _confusion(axes, probabilities, labels, classes))
    _draw(folder / "calibration.png", lambda axes: _calibration(axes, probabilities, labels, bins))
    _draw(folder / "roc.png", lambda axes: _roc(axes, probabilities, labels, classes))
    _draw(folder / "precision_recall.png", lambda axes: _precision_recall(axes, probabilities, labels, classes))


def _draw(path: Path, content: Callable[["Axes"], None]) -> None:
    # The font cache is part of the run: the home folder may not be writable.
    os.environ.setdefault("MPLCONFIGDIR", str(path.parents[2] / "matplotlib"))
    from matplotlib.figure import Figure  # noqa: PLC0415 - it reads the variable above

    figure = Figure(figsize=_INCHES, layout="constrained")
    content(figure.add_subplot())
    figure.savefig(path, format="png", metadata={"Software": None})


def _confusion(axes: "Axes", probabilities: Floats, labels: Labels, classes: Sequence[str]) -> None:
    counts = confusion_matrix(labels, probabilities.argmax(axis=1), labels=range(len(classes)))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        shade = "white" if shares[row, column] > 0.5 else "black"  # noqa: PLR2004 - half of the scale
        axes.text(column, row, str(count), ha="center", va="center", color=shade)
    axes.set(title="Confusion matrix (shade: share of the row)", xlabel="predicted", ylabel="true")
    axes.set_xticks(range(len(classes)), classes, rotation=40, ha="right")
    axes.set_yticks(range(len(classes)), classes)


def _calibration(axes: "Axes", probabilities: Floats, labels: Labels, bins: int) -> None:
    confidence, share, size = calibration_curve(probabilities, labels, bins)
    axes.plot([0, 1], [0, 1], linestyle="--", color="grey", label="perfect")
    axes.plot(confidence, share, marker="o", label="model")
    for x, y, count in zip(confidence, share, size, strict=True):
        axes.annotate(str(count), (x, y), textcoords="offset points", xytext=(4, -12), fontsize=8)
    axes.set(title="Calibration of the top label (number of cases)", xlabel="confidence", ylabel="share that is right")
    axes.legend(loc="upper left")


def _roc(axes: "Axes", probabilities: Floats, labels: Labels, classes: Sequence[str]) -> None:
    for index, code in _present(labels, classes):
        false_rate, true_rate, _ = roc_curve(labels == index, probabilities[:, index])
        axes.plot(false_rate, true_rate, label=code)
    axes.plot([0, 1], [0, 1], linestyle="--", color="grey")
    axes.set(title="ROC, each class against the rest", xlabel="false positive rate", ylabel="recall")
    axes.legend(loc="lower right", fontsize=8)


def _precision_recall(axes: "Axes", probabilities: Floats, labels: Labels, classes: Sequence[str]) -> None:
    for index, code in _present(labels, classes):
        precision, recall, _ = precision_recall_curve(labels == index, probabilities[:, index])
        axes.step(recall, precision, where="post", label=code)
    axes.set(title="Precision and recall, each class against the rest", xlabel="recall", ylabel="precision")
    axes.legend(loc="lower left", fontsize=8)


def _present(labels: Labels, classes: Sequence[str]) -> list[tuple[int, str]]:
    counts = np.bincount(labels, minlength=len(classes))
    return [(index, code) for index, code in enumerate(classes) if 0 < counts[index] < len(labels)]
