"""Schema of the table of cases (pandera), derived from the patient class."""

from collections.abc import Sequence

import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

from shared.patient import Feature, Patient
from training.data.cases import Labels, Rows


def schema(patient: type[Patient]) -> pa.DataFrameSchema:
    """Return the schema of encoded rows of `patient`: columns in order, float32, within limits, NaN where missing."""
    return pa.DataFrameSchema(
        {
            feature.name: pa.Column("float32", _rules(feature), nullable=feature.kind != "flag")
            for feature in patient.features
        },
        strict=True,
        ordered=True,
    )


def schema_violations(rows: Rows, columns: Sequence[str], lines: Labels, patient: type[Patient]) -> list[str]:
    """Return the violations of the schema: line of the raw file, column and rule, never a value.

    The class validates a row before it is encoded. The schema checks the encoded row, and so what `derived` computes.
    """
    try:
        schema(patient).validate(pd.DataFrame(rows, columns=list(columns)), lazy=True)
    except SchemaErrors as error:
        failures = error.failure_cases
    else:
        return []
    in_rows = failures[failures["index"].notna()].sort_values(["index", "column"])
    by_line = [
        f"line {lines[int(index)]}: {column}: {rule}"
        for index, column, rule in zip(in_rows["index"], in_rows["column"], in_rows["check"], strict=True)
    ]
    in_columns = failures[failures["index"].isna()]
    return [*(f"the columns: {rule}" for rule in in_columns["check"]), *by_line]


def _rules(feature: Feature) -> list[pa.Check]:
    rules = []
    if feature.kind == "flag":
        rules.append(pa.Check.isin([0.0, 1.0], error="neither yes nor no"))
    if feature.kind == "choice":
        codes = [float(index) for index in range(len(feature.choices))]
        rules.append(pa.Check.isin(codes, error="none of its choices"))
    if feature.kind == "integer":
        rules.append(pa.Check(lambda values: values % 1 == 0, error="not a whole number"))
    if feature.limits is not None:
        rules.append(pa.Check.in_range(*feature.limits, error="outside its limits"))
    return rules
