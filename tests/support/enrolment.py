"""The enrolment secret of a stack under test, by which its recorders believe its gateways."""

from pathlib import Path

SECRET = b"the enrolment secret of the stacks under test"


def enrolment(folder: Path) -> dict[str, str]:
    """Write the secret into `folder`, and return the setting of gateways and recorders that leads to it."""
    path = folder.resolve() / "enrolment.key"
    path.write_bytes(SECRET)
    return {"ENROLMENT_SECRET_FILE": str(path)}
