"""Errors of bundles, and the read of a bundle's file that raises them.

BundleError
├── BundleMissingError      no bundle, or a file of it is missing
├── BundleTamperedError     signature, digest or size does not hold
├── BundleMisnamedError     sound, but sealed as another model or version
└── BundleMismatchError     sound, but for another patient class
"""

from pathlib import Path

from shared.files import FileTooLargeError, read_regular


class BundleError(Exception):
    """A bundle that must not serve. The message names the bundle, the reason and what to do."""


class BundleMissingError(BundleError):
    """There is no bundle, or it lacks a file."""


class BundleTamperedError(BundleError):
    """The signature, a digest or a size does not hold."""


class BundleMisnamedError(BundleError):
    """The bundle was sealed as another model or version than the one that it stands for."""


class BundleMismatchError(BundleError):
    """The bundle was trained for another patient class, or written by another release."""


def read_file(path: Path, most: int, *, advice: str = "train a model first (`make train`)") -> bytes:
    """Read the regular file `path`, of at most `most` bytes; its size is compared before it is read.

    Raises:
        BundleTamperedError: it is larger.
        BundleMissingError: it does not exist (the message ends with `advice`) or cannot be read.

    """
    try:
        return read_regular(path, most)
    except FileNotFoundError:
        raise BundleMissingError(f"{path}: not there; {advice}") from None
    except FileTooLargeError as error:
        raise BundleTamperedError(f"{path}: {error.strerror}; refused") from None
    except OSError as error:
        raise BundleMissingError(f"{path}: cannot be read ({error.strerror})") from error
