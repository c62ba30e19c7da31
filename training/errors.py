"""Errors of training that are not bugs. Each message is for people, a line for each problem, without patients' values.

    TrainingError               exit code
    ├── ParametersError         78  params.yaml or a setting is wrong or missing
    ├── DataError               65  the data are missing, or do not fit the patient class or the split
    ├── BusyError               75  another run of the pipeline is active in this folder
    ├── DvcFileError            69  a file that DVC writes in this folder is damaged
    ├── RegistryError           69  the model registry cannot be used
    ├── DatabaseError           69  the recorder's database cannot be read
    ├── GatesFailedError        1   the version is registered, but failed a gate of production
    ├── NotReproducedError      1   a recorded answer cannot be reproduced
    ├── PromotionError          1   an alias cannot be moved; it keeps its version
    │   └── AlreadyMovedError       another process moved it meanwhile
    └── StageFailedError        that of the stage, which has printed its error

`shared.patient.PatientClassError` and `shared.settings.SettingsError` also end with 78; `ModelStoreError`,
`BundleError` and the system's OSError (a disk that is full) with 69.
"""


class TrainingError(Exception):
    """A command failed; the message names the cause, the place and the remedy."""

    exit_code: int = 1


class ParametersError(TrainingError):
    """`params.yaml` or a setting is wrong: EX_CONFIG of sysexits(3)."""

    exit_code = 78


class DataError(TrainingError):
    """The data cannot be used: EX_DATAERR of sysexits(3)."""

    exit_code = 65


class BusyError(TrainingError):
    """Another run is active and nothing was done; a retry may succeed: EX_TEMPFAIL of sysexits(3)."""

    exit_code = 75


class DvcFileError(TrainingError):
    """A file that DVC writes in this folder is damaged: EX_UNAVAILABLE of sysexits(3)."""

    exit_code = 69


class RegistryError(TrainingError):
    """The registry or its files cannot be read or written: EX_UNAVAILABLE of sysexits(3)."""

    exit_code = 69


class DatabaseError(TrainingError):
    """The recorder's database cannot be read: EX_UNAVAILABLE of sysexits(3)."""

    exit_code = 69


class NotReproducedError(TrainingError):
    """The same inputs give an answer that differs from the recorded one."""


class GatesFailedError(TrainingError):
    """The version failed a gate; production keeps its version."""


class PromotionError(TrainingError):
    """An alias cannot be moved; aliases, links and the promotion log are unchanged."""


class AlreadyMovedError(PromotionError):
    """Another process moved the alias since it was read."""


class StageFailedError(TrainingError):
    """A stage of the pipeline failed and has printed its error; later stages did not run."""

    def __init__(self, stage: str, exit_code: int) -> None:
        """Name the stage and the exit code of its process."""
        super().__init__(f"stopped at {stage}")
        self.exit_code = exit_code
