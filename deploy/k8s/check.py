"""Validate the Kubernetes overlays: `python -m deploy.k8s.check`, part of `make check`. Needs no cluster.

kustomize builds every overlay, and every object must match the schema of its kind; unknown fields are errors. The
schemas of Kubernetes' own kinds come from the package kubernetes-validate, those of the operators' kinds from
`schemas/` beside this module.
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

HERE = Path(__file__).parent
KUBERNETES = "1.33"
"""The oldest supported version (docs/operations/kubernetes.md); all used features are stable or on by default in it."""


class ManifestError(Exception):
    """An overlay cannot be built, or an object does not match its schema; one line with name, place and reason."""


def main() -> int:
    """Check every overlay; print each problem and return 1 if there is one."""
    wrong = [problem for overlay in overlays() for problem in problems(overlay)]
    for problem in wrong:
        print(problem, file=sys.stderr)  # noqa: T201 - the output of the check
    return 1 if wrong else 0


def overlays() -> list[Path]:
    """Return the folders that an operator may apply."""
    return sorted((HERE / "overlays").iterdir())


def built(overlay: Path) -> list[dict[str, Any]]:
    """Build an overlay into its objects.

    Raises:
        ManifestError: kustomize fails.

    """
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run([kubectl, "kustomize", overlay], capture_output=True, text=True, check=False)  # noqa: S603 - our own folder
    if done.returncode:
        raise ManifestError(f"{overlay}: {done.stderr.strip().splitlines()[-1]}")
    return list(yaml.safe_load_all(done.stdout))


def problems(overlay: Path) -> Iterator[str]:
    """Yield the problems of an overlay, one line each."""
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
    """Validate one object with the schema of its kind.

    Raises:
        ManifestError: it does not match, or its kind has no schema.

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
