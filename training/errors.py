"""What can go wrong in training, through no fault of the code; each message is one line for a person, without values.

    TrainingError               exit code
    ├── ParametersError         78  params.yaml, or a setting, is wrong or missing
    ├── DataError               65  the data are missing, or do not fit the patient class or the split
    ├── BusyError               75  another run of the pipeline is under way in this folder
    ├── RegistryError           69  the model registry cannot be used
    ├── DatabaseError           69  what was recorded cannot be read
    ├── GatesFailedError        1   registered, but not good enough for production
    ├── NotReproducedError      1   the answer of then is not the answer of now
    ├── PromotionError          1   an alias cannot be moved as asked; it stays where it was
    │   └── AlreadyMovedError       somebody else moved it meanwhile
    └── StageFailedError        that of the stage, which has said why

`shared.patient.PatientClassError` and `shared.settings.SettingsError` also end with 78; `ModelStoreError`,
`BundleError` and the system's OSError (a disk that is full) with 69.
"""

from __future__ import annotations


class TrainingError(Exception):
    """A stage cannot do its work; the message says what, where and what to do."""

    exit_code: int = 1


class ParametersError(TrainingError):
    """`params.yaml` or a setting is wrong: EX_CONFIG of sysexits(3)."""

    exit_code = 78


class DataError(TrainingError):
    """The data cannot be used: EX_DATAERR of sysexits(3)."""

    exit_code = 65


class BusyError(TrainingError):
    """Another run is in the way, and nothing was done; worth another try: EX_TEMPFAIL of sysexits(3)."""

    exit_code = 75


class RegistryError(TrainingError):
    """The registry or its files cannot be read or written: EX_UNAVAILABLE of sysexits(3)."""

    exit_code = 69


class DatabaseError(TrainingError):
    """The recorder's database cannot be read: EX_UNAVAILABLE of sysexits(3)."""

    exit_code = 69


class NotReproducedError(TrainingError):
    """The same inputs give another answer than the one that was recorded."""


class GatesFailedError(TrainingError):
    """The model is in staging; production keeps what it had."""


class PromotionError(TrainingError):
    """What was asked cannot be done; aliases, links and history are as before."""


class AlreadyMovedError(PromotionError):
    """Somebody else moved the alias since it was looked at."""


class StageFailedError(TrainingError):
    """A stage of the pipeline failed, and has said why; nothing after it was run."""

    def __init__(self, stage: str, exit_code: int) -> None:
        """Name the stage, and how its process ended."""
        super().__init__(f"stopped at {stage}")
        self.exit_code = exit_code
