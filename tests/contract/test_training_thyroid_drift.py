"""The trigger with the known drift of the thyroid data (docs/reference/model.md)."""

import csv
import datetime as dt

import numpy as np
import yaml

from shared.diseases.thyroid import DatosPaciente
from shared.patient import DiscardedRowError
from tests.support.data import ROOT, thyroid_csv
from training.config import read_parameters
from training.data.distribution import describe
from training.monitoring.drift import RecentPredictions


def cases() -> list[tuple[dt.date, list[float]]]:
    rows = []
    with thyroid_csv().open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            try:
                case = DatosPaciente.from_row(row)
            except DiscardedRowError:
                continue
            assert case.date is not None
            rows.append((case.date, case.patient.encode()))
    return rows


def test_what_changed_in_these_data_is_what_is_found() -> None:
    limits = read_parameters(ROOT / "params.yaml").trigger
    assert limits is not None
    since = dt.date.fromisoformat(yaml.safe_load((ROOT / "params.yaml").read_text())["split"]["date"])
    dated = cases()
    before = np.array([row for day, row in dated if day < since], dtype=np.float32)
    recent = RecentPredictions(describe(before, DatosPaciente.columns, {}))
    recent.add([row for day, row in dated if day >= since], [])
    figures = {finding.name: finding.figure or 0 for finding in recent.figures(limits)}
    largest = sorted(figures, key=lambda name: -figures[name])[:2]
    assert {name: round(figures[name], 3) for name in largest} == {"t3.missing_change": 0.174, "tsh.psi": 0.163}
    assert [finding.name for finding in recent.figures(limits) if finding.beyond] == ["t3.missing_change"]
