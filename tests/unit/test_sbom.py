"""Bills of materials: valid CycloneDX with every package, and none that is not locked."""

import json
import re
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from deploy.sbom import LOCKS, Contents, NotLockedError, bill, read_lock

ROOT = Path(__file__).parents[2]
LOCK = """\
Some_Package==1.1 ; python_full_version < '3.11' \\
    --hash=sha256:00
Some_Package==1.2 ; python_full_version >= '3.11' \\
    --hash=sha256:11
other==3 \\
    --hash=sha256:22
"""
CONTENTS = Contents(
    "3.11.9", "debian-12", [("some.package", "1.2"), ("other", "3")], [("openssl", "3.0.17-1~deb12u2", "amd64")]
)


def test_a_bill_is_valid_cyclonedx_with_every_package() -> None:
    written = bill("gateway", "sha256:abc", CONTENTS, read_lock(LOCK))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(written) is None
    seen = json.loads(written)
    assert {component["purl"] for component in seen["components"]} == {
        "pkg:generic/python@3.11.9",
        "pkg:pypi/some-package@1.2",
        "pkg:pypi/other@3",
        "pkg:deb/debian/openssl@3.0.17-1~deb12u2?arch=amd64&distro=debian-12",
    }
    assert (seen["metadata"]["component"]["name"], seen["specVersion"]) == ("predecir-gateway", "1.6")


@pytest.mark.parametrize("lock", ["other==3\n", LOCK.replace("1.2", "1.3")])
def test_a_package_that_is_not_locked_is_named(lock: str) -> None:
    with pytest.raises(NotLockedError, match=r"gateway: not of its locked requirements: some\.package 1\.2"):
        bill("gateway", "sha256:abc", CONTENTS, read_lock(lock))


def test_every_image_of_the_dockerfile_has_the_lock_that_it_installs() -> None:
    stages = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    installs = {stage.split()[2]: re.findall(r"-r (\w+)\.txt", stage) for stage in stages if "$INSTALL" in stage}
    assert {name: tuple(files) for name, files in installs.items()} == {
        f"{service}-packages": tuple(files) for service, files in LOCKS.items()
    }
