"""`python -m training params [--write]`: print a complete params.yaml for the patient class of `PREDECIR_PACIENTE`.

The file has FILL_IN where only the owner of the data can decide: the number of cases, and the gates. Training names
each FILL_IN that is left. `--write` creates params.yaml in the current folder, unless there is one.
"""

import argparse
import sys
from pathlib import Path
from string import Template

from ruamel.yaml import YAML

from shared.patient import Feature, Patient
from training.config import FILE, PLACEHOLDER
from training.context import TrainingContext
from training.errors import ParametersError

_TEMPLATE = Path(__file__).parents[1] / "params_template.yaml"
_MEASURED = {"number", "integer"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--write", action="store_true", help=f"create {FILE} in the current folder")


def main(arguments: argparse.Namespace, context: TrainingContext) -> str:
    """Print or write the parameters; return a summary, empty if they were printed.

    Raises:
        ParametersError: there is a `params.yaml` already, which is not overwritten.

    """
    text = template_for(context.patient)
    if not arguments.write:
        sys.stdout.write(text)
        return ""
    try:
        with FILE.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        message = f"{FILE}: there is one in this folder; it is not overwritten"
        raise ParametersError(message) from None
    return f"wrote {FILE.absolute()}; write a value in place of every {PLACEHOLDER}"


def template_for(patient: type[Patient]) -> str:
    """Return the text of a `params.yaml` for `patient`, with placeholders."""
    classes = [_as_text(code) for code in patient.disease.classes]
    measured = [feature for feature in patient.features if feature.kind in _MEASURED]
    example = measured[0] if measured else None
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=patient.disease.title,
        classes=", ".join(classes),
        measurements=", ".join(feature.name for feature in measured) or "none",
        column=_as_text(patient.columns[0]),
        measurement=_as_text(example.name) if example else "COLUMN",
        end=_middle(example) if example else "1",
        recalls=", ".join(f"{code}: {PLACEHOLDER}" for code in classes),
        **{"class": classes[0]},
    )


def _as_text(name: str) -> str:
    """Return `name` as YAML reads it as a text, in quotes where they are needed, as for `1`."""
    return name if isinstance(YAML(typ="safe").load(name), str) else f'"{name}"'


def _middle(feature: Feature) -> str:
    low, high = feature.limits or (0.0, 2.0)
    return f"{(low + high) / 2:g}"
