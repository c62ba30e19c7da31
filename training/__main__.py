"""Command line of training: `python -m training COMMAND`.

The module of a command is imported only when the command runs or shows its help: MLflow, scikit-learn and pandas take
seconds to import.
"""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback if Ctrl-C comes while a command's module is imported

import argparse
import os
import sys
from functools import partial
from importlib import import_module
from inspect import cleandoc
from pathlib import Path

from shared.private_files import UMASK, restrict
from training.context import TrainingContext
from training.data.pointer import POINTER
from training.data.raw import RAW
from training.stage_runner import heartbeat, log_line, run

STAGES = {
    "prepare": "read data/raw.csv through the patient class and write the cases",
    "check": "check the cases against `checks` of params.yaml",
    "train": "choose, calibrate and fit the model",
    "evaluate": "evaluate the model on the reported cases and compare ONNX with the pickle",
    "register": "register the model, sign its bundle, run its gates and promote it",
}
"""Commands that `pipeline` runs through DVC, in this order. They take no arguments."""
COMMANDS = {
    "pipeline": "run the stages whose inputs changed (`make train`)",
    **{name: f"stage {number}: {text}" for number, (name, text) in enumerate(STAGES.items(), start=1)},
    "params": "print a complete params.yaml for the patient class, with FILL_IN where its owner decides",
    "promote": "move staging or production to a version",
    "rollback": "move production back to the previous version",
    "history": "list the promotion log: every move of an alias with its user, time and reason",
    "trigger": "run the pipeline if recent patients or outcomes differ from the training data",
    "reproduce": "compute a recorded answer again with the version that gave it",
}
"""Each is a module of `training.commands` with `main(arguments, context)`; one with arguments has `add_arguments`."""
_EXIT_CODES = """\
exit codes:
  0    done
  1    a gate failed, an alias was not moved, or an answer was not reproduced
  2    wrong command line
  65   the data are missing or break a rule
  69   the model registry, a database, the disk or a file of DVC's cannot be used
  75   another run of the pipeline is active in this folder
  78   a setting or params.yaml is wrong
  130  interrupted (Ctrl-C)
"""


def main(words: list[str]) -> int:
    """Run the command in `words`; return its exit code. A stage prints a line at least every ten seconds."""
    if len(words) != 1 or words[0] not in STAGES:
        return _run(words)
    (stage,) = words
    log_line(stage, f"stage {list(STAGES).index(stage) + 1} of {len(STAGES)}: {STAGES[stage]}")
    with heartbeat(stage):
        return _run(words)


def _run(words: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description="Train, evaluate, promote and trace models.",
        epilog=f"`python -m training COMMAND --help` describes a command.\n\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter)
        if words[:1] == [name]:
            module = import_module(f"training.commands.{name}")
            command.description = f"{summary}\n\n{_details(module.__doc__)}"
            command.set_defaults(main=module.main)
            if hasattr(module, "add_arguments"):
                module.add_arguments(command)
    arguments = parser.parse_args(words)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return run(arguments.command, partial(_work, arguments, TrainingContext()))


def _work(arguments: argparse.Namespace, context: TrainingContext) -> str:
    """Run the command after taking the rights of other users from patients' files of before."""
    tracked = (RAW,) if POINTER.exists() else ()  # other data are their owner's
    var = context.settings.var
    folders = {var.resolve(): var, Path("var").resolve(): Path("var")}  # stages write to `var` whatever PREDECIR_VAR is
    if restricted := sum(restrict(folder, *tracked) for folder in folders.values()):
        log_line(arguments.command, f"{restricted} files and folders were open to other users; now to their owner only")
    summary: str = arguments.main(arguments, context)
    return summary


def _details(docstring: str | None) -> str:
    """Return what follows the first paragraph, which has the usage line that argparse prints itself."""
    return cleandoc(docstring or "").partition("\n\n")[2]


if __name__ == "__main__":
    os.umask(UMASK)
    sys.exit(main(sys.argv[1:]))
