"""Errors of bundles, and the read of a bundle's file that raises them.

BundleError
├── BundleMissingError      no bundle, or a file of it is missing
├── BundleTamperedError     signature or digest does not hold
└── BundleMismatchError     sound, but for another patient class
"""

from pathlib import Path


class BundleError(Exception):
    """A bundle that must not serve. The message names the bundle, the reason and what to do."""


class BundleMissingError(BundleError):
    """There is no bundle, or it lacks a file."""


class BundleTamperedError(BundleError):
    """The signature or a digest does not hold."""


class BundleMismatchError(BundleError):
    """The bundle was trained for another patient class, or written by another release."""


def read_file(path: Path, *, advice: str = "train a model first (`make train`)") -> bytes:
    """Read `path`.

    Raises:
        BundleMissingError: it does not exist (the message ends with `advice`) or cannot be read.

    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise BundleMissingError(f"{path}: not there; {advice}") from None
    except OSError as error:
        raise BundleMissingError(f"{path}: cannot be read ({error.strerror})") from error
