"""Check what `kubectl apply -k` would send: `python -m deploy.k8s.check`, part of `make check`. Needs no cluster.

Every overlay is built by kustomize, and every object of it must fit the schema of its kind, in which an unknown field
is an error: for Kubernetes' own kinds the JSON schemas of one version (those of the package kubernetes-validate), for
those of the operators the files beside this one.
"""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import kubernetes_validate
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HERE = Path(__file__).parent
KUBERNETES = "1.33"
"""The oldest version it is meant for, as docs/kubernetes.md says; what is used is stable there or on by default."""


class ManifestError(Exception):
    """An overlay cannot be built, or an object does not fit its kind; one line that says which, where and why."""


def main() -> int:
    """Check every overlay; returns 1 and says what is wrong if anything is."""
    wrong = [problem for overlay in overlays() for problem in problems(overlay)]
    for problem in wrong:
        print(problem, file=sys.stderr)  # noqa: T201 - whoever runs the check reads it
    return 1 if wrong else 0


def overlays() -> list[Path]:
    """Give the folders that an operator may apply."""
    return sorted((HERE / "overlays").iterdir())


def built(overlay: Path) -> list[dict[str, Any]]:
    """Build an overlay into its objects.

    Raises:
        ManifestError: kustomize refuses it.

    """
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run([kubectl, "kustomize", overlay], capture_output=True, text=True, check=False)  # noqa: S603 - our own folder
    if done.returncode:
        raise ManifestError(f"{overlay}: {done.stderr.strip().splitlines()[-1]}")
    return list(yaml.safe_load_all(done.stdout))


def problems(overlay: Path) -> Iterator[str]:
    """Say what is wrong with an overlay, a line each."""
    try:
        objects = built(overlay)
    except ManifestError as error:
        yield str(error)
        return
    for thing in objects:
        try:
            fits(thing)
        except ManifestError as error:
            yield f"{overlay.name}: {error}"


def fits(thing: Mapping[str, Any]) -> None:
    """Hold one object against the schema of its kind.

    Raises:
        ManifestError: it does not fit, or its kind has no schema here.

    """
    name = f"{thing['kind']} {thing['metadata']['name']}"
    ours = HERE / "schemas" / f"{thing['kind']}.yaml"
    try:
        if ours.exists():
            _validator(ours).validate(thing)
        else:
            kubernetes_validate.validate(thing, KUBERNETES, strict=True)
    except jsonschema.ValidationError as error:
        raise ManifestError(f"{name}: {error.json_path}: {error.message}") from None
    except kubernetes_validate.SchemaNotFoundError:
        raise ManifestError(f"{name}: no schema for {thing['apiVersion']}; write one beside {ours}") from None


@cache
def _validator(schema: Path) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(yaml.safe_load(schema.read_text()))


if __name__ == "__main__":
    sys.exit(main())
