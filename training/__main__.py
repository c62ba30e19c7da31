"""`python -m training COMMAND`: the stages of the pipeline, promotion and rollback, and reports on both."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from importlib import import_module

from training.stage_runner import run

COMMANDS = {
    "pipeline": "run the stages whose inputs changed (`make train`)",
    "prepare": "stage: read data/raw.csv through the patient class and write the cases",
    "check": "stage: validate the cases against `checks` of params.yaml",
    "train": "stage: choose, calibrate and fit the model",
    "evaluate": "stage: report on the later cases and compare ONNX with the pickle",
    "register": "stage: register the model, sign its bundle and promote it if it passes its gates",
    "promote": "move staging or production to a version",
    "rollback": "move production back to the version before",
    "history": "list who moved which alias, when and why",
    "trigger": "start the pipeline if recent patients or outcomes differ from the training data",
    "reproduce": "compute a recorded answer again with the version that gave it",
}
"""Each is a module of `training.commands` with `main(arguments)`, and `add_arguments(parser)` if it takes any."""


def main(words: list[str]) -> int:
    """Run the command in `words`; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m training", description="Train, promote and trace models.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen = next((word for word in words if not word.startswith("-")), None)
    for name, help_text in COMMANDS.items():
        command = commands.add_parser(name, help=help_text, description=help_text)
        if name != chosen:
            continue  # its module is not imported: MLflow and scikit-learn take seconds
        module = import_module(f"training.commands.{name}")
        if hasattr(module, "add_arguments"):
            module.add_arguments(command)
    arguments = parser.parse_args(words)
    return run(arguments.command, partial(module.main, arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
