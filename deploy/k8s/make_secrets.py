"""Create the secrets of deploy/k8s: `python -m deploy.k8s.make_secrets [FOLDER]`. Existing values are kept.

The folder (`var/k8s`) holds the sources, readable by its owner only: passwords, the key pair that signs models, the
HMAC key of references, the file of access keys. Every run writes `secrets.yaml` from them, to be applied with
kubectl. Do not commit any of it; keep a copy with your passwords.
"""

import json
import os
import runpy
import secrets
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

import yaml

from services.gateway import key_admin
from services.gateway.api.patient_reference import open_patient_references
from shared.artifacts.errors import BundleError
from shared.artifacts.signing import signing_key
from shared.files import replace_file
from shared.settings import BAD_SETTINGS, SettingsError
from shared.web.api_keys import KeyFileError, Role

ROOT = Path(__file__).parent.parent.parent
FOLDER = Path("var/k8s")
NAMESPACE = "predecir"
S3_USER = "predecir"
BROKER, BROKER_API = "rabbitmq:5672/predecir", f"rabbitmq.{NAMESPACE}.svc:15672/predecir"
DATABASE = "postgres-rw:5432/mlops_db"
SCALER = {"configure": "^$", "write": "^$", "read": "^$"}
"""KEDA reads message counts from the management API; it may neither consume nor publish."""
_PASSWORDS = (
    "RABBITMQ_OPS_PASSWORD",
    "RABBITMQ_GATEWAY_PASSWORD",
    "RABBITMQ_RECORDER_PASSWORD",
    "RABBITMQ_SCALER_PASSWORD",
    "POSTGRES_RECORDER_PASSWORD",
    "POSTGRES_ANALYST_PASSWORD",
    "S3_SECRET_KEY",
    "ENROLMENT_SECRET",
)


def main(folder: Path) -> int:
    """Create missing values in `folder` and write its `secrets.yaml`; return the exit code."""
    before = os.umask(0o077)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        content = manifests(folder, _known(folder))
        replace_file(folder / "secrets.yaml", yaml.safe_dump_all(content, sort_keys=False).encode())
    except (OSError, SettingsError, BundleError, KeyFileError, json.JSONDecodeError) as error:
        sys.stderr.write(f"secrets: {folder}: {error}\n")
        return BAD_SETTINGS
    finally:
        os.umask(before)  # a test calls this, and goes on to make files for others
    sys.stdout.write(f"kubectl apply --server-side -f {folder / 'secrets.yaml'}\n")
    return 0


def manifests(folder: Path, known: dict[str, str]) -> list[dict[str, Any]]:
    """Return every secret that deploy/k8s refers to, from the files of `folder` and the passwords in `known`."""
    signing, public = folder / "signing/bundle.key", folder / "signing/bundle.pub"
    broker = {
        user: f"amqp://{user}:{known[f'RABBITMQ_{user.upper()}_PASSWORD']}@{BROKER}" for user in ("gateway", "recorder")
    }
    database = f"postgresql://recorder:{known['POSTGRES_RECORDER_PASSWORD']}@{DATABASE}"
    return [
        _secret("predecir-access", {"access.json": (folder / "access/access.json").read_text()}),
        _secret("predecir-reference", {"reference.key": (folder / "reference.key").read_text()}),
        _secret("predecir-enrolment", {"enrolment.key": known["ENROLMENT_SECRET"]}),
        _secret("predecir-signing", {"bundle.key": signing.read_text(), "bundle.pub": public.read_text()}),
        _secret("predecir-trust", {"bundle.pub": public.read_text()}),
        _secret("predecir-gateway", {"INFERENCE_KEY": known["INFERENCE_KEY"], "BROKER_URL": broker["gateway"]}),
        _secret("predecir-recorder", {"DATABASE_URL": database, "BROKER_URL": broker["recorder"]}),
        _secret("predecir-scaler", {"host": f"http://scaler:{known['RABBITMQ_SCALER_PASSWORD']}@{BROKER_API}"}),
        _secret("predecir-rabbitmq", {"rabbitmq.json": json.dumps(_broker_users(known), indent=1)}),
        _secret(
            "predecir-s3",
            {"AWS_ACCESS_KEY_ID": known["S3_ACCESS_KEY"], "AWS_SECRET_ACCESS_KEY": known["S3_SECRET_KEY"]},
        ),
        _login("predecir-postgres-recorder", "recorder", known["POSTGRES_RECORDER_PASSWORD"]),
        _login("predecir-postgres-analista", "analista", known["POSTGRES_ANALYST_PASSWORD"]),
    ]


def _known(folder: Path) -> dict[str, str]:
    """Return the passwords and keys by name, after creating missing ones."""
    path = folder / "passwords.json"
    known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    for name in _PASSWORDS:
        known.setdefault(name, secrets.token_hex(24))
    known.setdefault("S3_ACCESS_KEY", S3_USER)
    if "INFERENCE_KEY" not in known or not (folder / "access/access.json").exists():
        known["INFERENCE_KEY"], _ = key_admin.create(folder / "access/access.json", Role.SERVICIO, "gateway")
    open_patient_references(folder / "reference.key", first_start=True)
    signing_key(folder / "signing")
    replace_file(path, json.dumps(known, indent=1).encode() + b"\n")
    return known


def _broker_users(known: dict[str, str]) -> dict[str, Any]:
    """RabbitMQ's users as in docker compose, and the user of KEDA."""
    compose = runpy.run_path(str(ROOT / "deploy/make-secrets"))
    rights, tags = {**compose["RIGHTS"], "scaler": SCALER}, {**compose["TAGS"], "scaler": ["management"]}
    users: dict[str, Any] = compose["definitions"](known, rights, tags)
    return users


def _secret(name: str, content: dict[str, str], *, kind: str = "Opaque") -> dict[str, Any]:
    encoded = {key: b64encode(value.encode()).decode() for key, value in content.items()}
    about = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": about, "type": kind, "data": encoded}


def _login(name: str, user: str, password: str) -> dict[str, Any]:
    """Return a secret in the form of CloudNativePG; its label makes the operator reload a changed password."""
    secret = _secret(name, {"username": user, "password": password}, kind="kubernetes.io/basic-auth")
    secret["metadata"]["labels"] = {"cnpg.io/reload": "true"}
    return secret


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER))
