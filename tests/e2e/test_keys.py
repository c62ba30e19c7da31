"""Keys as an operator handles them: real commands, real services, one shared file."""

import json
import re
import shutil
import stat
import subprocess
from pathlib import Path

import httpx
import pytest

from shared.diseases.thyroid import DatosPaciente
from tests.support import plain_http
from tests.support.bundles import make_bundle
from tests.support.processes import command, refused, running
from tests.support.waiting import until_now

PATIENT = {"edad": 47, "sexo": "F", "tsh": 0.05}
SERVICES = ["services.local", "services.gateway", "services.inference", "services.recorder"]


def keys(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return command(["services.gateway", "keys", *arguments], folder, environment)


def new_key(folder: Path, role: str, **environment: str) -> str:
    made = keys(folder, "create", "--role", role, **environment)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_a_key_is_shown_once_and_stored_as_a_private_hash(tmp_path: Path) -> None:
    made = keys(tmp_path, "create", "--role", "medico", "--name", "Consulta 2")
    assert re.fullmatch(r"pdk_[\w-]{43}\n", made.stdout)
    file = tmp_path / "var" / "keys" / "access.json"
    assert made.stdout.strip() not in file.read_text() + made.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    shown = keys(tmp_path, "list").stdout
    assert "medico" in shown
    assert "Consulta 2" in shown
    assert made.stdout.strip() not in shown


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[31mred", "x" * 81])
def test_a_name_that_would_not_show_as_one_line_is_rejected(tmp_path: Path, name: str) -> None:
    made = keys(tmp_path, "create", "--role", "medico", "--name", name)
    assert (made.returncode, made.stdout) == (2, "")
    assert "at most 80 characters" in made.stderr
    assert not (tmp_path / "var").exists()


def test_a_revoked_key_stays_in_the_list_and_an_unknown_one_is_an_error(tmp_path: Path) -> None:
    new_key(tmp_path, "analista")
    [kept] = json.loads((tmp_path / "var" / "keys" / "access.json").read_text())["keys"]
    assert keys(tmp_path, "revoke", kept["id"]).returncode == 0
    first = keys(tmp_path, "list").stdout
    assert re.search(rf"{kept['id']}\s+analista\s+\S+Z\s+\S+Z", first)
    assert keys(tmp_path, "revoke", kept["id"]).returncode == 0
    assert keys(tmp_path, "list").stdout == first
    unknown = keys(tmp_path, "revoke", "0" * 12)
    assert (unknown.returncode, len(unknown.stderr.splitlines())) == (1, 1)


def test_a_wrong_setting_is_78_in_one_line(tmp_path: Path) -> None:
    ended = keys(tmp_path, "list", PORT="eighty")
    assert (ended.returncode, ended.stdout, len(ended.stderr.splitlines())) == (78, "", 1)
    assert ended.stderr.startswith("gateway: settings: PORT: ")


def test_a_host_name_is_an_address_beyond_loopback_unless_it_is_localhost(tmp_path: Path) -> None:
    code, said = refused("services.recorder", tmp_path, {"HOST": "predecir.example.org"})
    assert (code, len(said.splitlines())) == (78, 1)
    assert said.startswith("recorder: settings: HOST: without keys only a loopback address is allowed")
    with running("services.recorder", tmp_path, {"HOST": "localhost"}) as recorder:
        assert recorder.get("/health/live").status_code == 200


@pytest.mark.parametrize("service", SERVICES)
def test_without_keys_an_address_beyond_loopback_is_78_in_one_line(tmp_path: Path, service: str) -> None:
    code, said = refused(service, tmp_path, {"HOST": "0.0.0.0", "ALLOWED_HOSTS": "predecir.example.org"})  # noqa: S104 - what must not work
    assert (code, len(said.splitlines())) == (78, 1)
    assert "keys create" in said


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_whose_file_of_keys_is_not_there_is_78_in_one_line(tmp_path: Path, service: str) -> None:
    code, said = refused(service, tmp_path, {"PREDECIR_KEYS": "lost/access.json"})
    assert (code, len(said.splitlines())) == (78, 1)
    assert "PREDECIR_KEYS: lost/access.json is not there" in said


def test_a_file_of_keys_lost_while_stopped_closes_the_service(tmp_path: Path) -> None:
    ops = new_key(tmp_path, "ops")
    with running("services.recorder", tmp_path) as recorder:
        assert '"event": "keys_required"' in recorder.errors()
        assert plain_http.get(f"{recorder.url}/metrics", headers=bearer(ops)).status_code == 200
    shutil.rmtree(tmp_path / "var" / "keys")
    code, said = refused("services.recorder", tmp_path, {})
    assert (code, len(said.splitlines())) == (78, 1)
    assert "there were keys" in said
    assert keys(tmp_path, "reset").returncode == 0
    with running("services.recorder", tmp_path) as recorder:
        assert '"event": "keys_not_required"' in recorder.errors()
        assert recorder.get("/metrics").status_code == 200


def test_with_keys_an_address_beyond_loopback_needs_names_to_answer_to(tmp_path: Path) -> None:
    new_key(tmp_path, "medico")
    code, said = refused("services.gateway", tmp_path, {"HOST": "0.0.0.0"})  # noqa: S104 - what must not work
    assert (code, len(said.splitlines())) == (78, 1)
    assert "ALLOWED_HOSTS" in said


def test_with_keys_and_names_any_address_serves_those_names_and_those_keys(tmp_path: Path) -> None:
    ops = new_key(tmp_path, "ops")
    environment = {"HOST": "0.0.0.0", "ALLOWED_HOSTS": "predecir.example.org"}  # noqa: S104 - for the seconds of this test
    with running("services.recorder", tmp_path, environment) as recorder:
        url = recorder.url.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - the address it announced

        def status(host: str, headers: dict[str, str]) -> int:
            return plain_http.get(f"{url}/conciliacion", headers={"Host": host, **headers}).status_code

        assert status("predecir.example.org", bearer(ops)) == 200
        assert status("predecir.example.org", {}) == 401
        assert status("127.0.0.1", bearer(ops)) == 403


def test_a_damaged_file_of_keys_prevents_the_start(tmp_path: Path) -> None:
    file = tmp_path / "access.json"
    file.write_text('{"keys": []')
    code, said = refused("services.gateway", tmp_path, {"PREDECIR_KEYS": str(file)})
    assert (code, len(said.splitlines())) == (78, 1)
    assert str(file) in said
    assert keys(tmp_path, "create", "--role", "ops", PREDECIR_KEYS=str(file)).returncode == 1
    assert file.read_text() == '{"keys": []'


def test_a_revocation_reaches_a_running_service(tmp_path: Path) -> None:
    medico = new_key(tmp_path, "medico")
    ops = new_key(tmp_path, "ops")
    with running("services.recorder", tmp_path) as recorder:
        asked = f"{recorder.url}/predicciones/0"
        assert plain_http.get(asked, headers=bearer(medico)).status_code == 404
        assert plain_http.get(asked, headers=bearer(ops)).status_code == 403
        listed = keys(tmp_path, "list").stdout
        medico_id = next(line.split()[0] for line in listed.splitlines() if "medico" in line)
        keys(tmp_path, "revoke", medico_id)
        until_now(lambda: plain_http.get(asked, headers=bearer(medico)).status_code == 401)
        assert plain_http.get(asked, headers=bearer(ops)).status_code == 403
        assert recorder.stop() == 0
    assert medico not in recorder.errors()


def test_the_gateway_asks_inference_with_a_key_of_its_own(tmp_path: Path) -> None:
    make_bundle(tmp_path / "var", DatosPaciente)
    servicio, medico, other = (new_key(tmp_path, role) for role in ("servicio", "medico", "medico"))
    with running("services.inference", tmp_path) as inference:
        environment = {"INFERENCE_URL": inference.url, "INFERENCE_KEY": servicio}
        with running("services.gateway", tmp_path, environment) as gateway:
            until_now(lambda: gateway.get("/health/ready").status_code == 200)

            def predict(key: str) -> httpx.Response:
                headers = bearer(key) | {"Idempotency-Key": "caso 1"}
                return plain_http.post(f"{gateway.url}/predecir", json=PATIENT, headers=headers)

            first, again, elsewhere = predict(medico).json(), predict(medico).json(), predict(other).json()
            assert first == again
            assert first["id"] != elsewhere["id"]
            assert predict(servicio).status_code == 403


def test_a_stop_loses_no_line_of_the_trail_of_accesses(tmp_path: Path) -> None:
    make_bundle(tmp_path / "var", DatosPaciente)
    medico = new_key(tmp_path, "medico")
    with running("services.local", tmp_path, {"LOG_LEVEL": "error"}) as local:
        until_now(lambda: local.get("/health/ready").status_code == 200)
        answers = [plain_http.post(f"{local.url}/predecir", json=PATIENT, headers=bearer(medico)) for _ in range(70)]
        assert local.stop() == 0
    lines = [json.loads(line) for line in local.errors().splitlines() if "patients_accessed" in line]
    assert [line["prediction"] for line in lines] == [answer.json()["id"] for answer in answers]
    assert {(line["route"], line["status"], line["service"]) for line in lines} == {("POST /predecir", 200, "local")}
    assert {line["caller"] for line in lines} == {keys(tmp_path, "list").stdout.split("\n")[1].split()[0]}


@pytest.mark.parametrize("role", [None, "medico"])
def test_a_gateway_reports_that_inference_rejects_its_key(tmp_path: Path, role: str | None) -> None:
    make_bundle(tmp_path / "var", DatosPaciente)
    new_key(tmp_path, "servicio")
    ops = bearer(new_key(tmp_path, "ops"))
    wrong = {} if role is None else {"INFERENCE_KEY": new_key(tmp_path, role)}
    with (
        running("services.inference", tmp_path) as inference,
        running("services.gateway", tmp_path, {"INFERENCE_URL": inference.url, **wrong}) as gateway,
    ):

        def message() -> str:
            answer = plain_http.get(f"{gateway.url}/health/ready", headers=ops).json()
            return str(answer["mensajes_tecnicos"].get("modelo", ""))

        until_now(lambda: "INFERENCE_KEY" in message())
        assert gateway.get("/health/ready").json()["mensajes_tecnicos"] == {}
        until_now(lambda: "INFERENCE_KEY" in gateway.errors())


def test_readiness_reports_an_unreadable_file_without_its_path(tmp_path: Path) -> None:
    make_bundle(tmp_path / "var", DatosPaciente)
    with running("services.local", tmp_path) as local:
        until_now(lambda: local.get("/health/ready").status_code == 200)
        (tmp_path / "var" / "keys" / "access.json").write_text("[")
        until_now(lambda: local.get("/health/ready").status_code == 503)
        assert "Las claves no se pueden leer" in local.get("/health/ready").text
        assert "access.json" not in local.get("/health/ready").text
