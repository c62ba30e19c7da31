"""`python -m training prepare`: read the raw CSV through the patient class and write the encoded cases."""

import argparse

from training.context import TrainingContext
from training.data.cases import write_cases
from training.data.pointer import check_raw_data
from training.data.preparation import prepare
from training.data.raw import RAW
from training.stage_files import CASES


def main(_: argparse.Namespace, context: TrainingContext) -> str:
    """Run the stage; return its summary."""
    check_raw_data()  # here too: `dvc pull` and `dvc repro` by hand do not compute the digest
    examples, report = prepare(RAW, context.patient)
    CASES.parent.mkdir(parents=True, exist_ok=True)
    write_cases(CASES, report.columns, examples)
    report.write()
    left_out = ", ".join(f"{count:,} ({reason})" for reason, count in report.discarded.items())
    return f"{len(examples):,} cases of {report.rows_read:,} rows" + (f"; left out: {left_out}" if left_out else "")
