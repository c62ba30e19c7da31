"""Command-line arguments that several commands declare."""

import argparse


def add_reason(parser: argparse.ArgumentParser) -> None:
    """Declare `--reason`, the required text that the promotion log stores."""
    parser.add_argument("--reason", type=_text, required=True, metavar="TEXT", help="stored in the promotion log")


def _text(text: str) -> str:
    """Return `text` without surrounding blanks; raise if nothing is left."""
    if not text.strip():
        raise argparse.ArgumentTypeError("must not be empty: the promotion log needs a reason")
    return text.strip()
