"""The local profile as a real process: its answers, its commands, kills, and a full disk."""

import json
import os
import shutil
import signal
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from shared.diseases.thyroid import DatosPaciente
from tests.support import plain_http
from tests.support.bundles import PacienteDePrueba, RevisedThyroid, make_bundle
from tests.support.database import is_settled, query
from tests.support.private_files import open_to_others
from tests.support.processes import Process, command, interrupted, refused, running
from tests.support.waiting import until_now

HYPER = {"edad": 47, "sexo": "F", "tsh": 0.05, "t3": 4.1, "t4_total": 210, "captacion_t4": 0.9}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_bundle(tmp_path / "var", DatosPaciente)
    return tmp_path


@pytest.fixture
def local(folder: Path) -> Iterator[Process]:
    with running("services.local", folder) as process:
        yield process


def predict(process: Process) -> httpx.Response:
    return plain_http.post(f"{process.url}/predecir", json=HYPER)


def reasons(process: Process) -> dict[str, str]:
    response = process.get("/health/ready")
    return {} if response.status_code == 200 else response.json()["motivos"] | response.json()["mensajes_tecnicos"]


def test_the_start_line_leads_a_doctor_to_the_page(local: Process) -> None:
    assert local.start_line.endswith(f"Abra {local.url} en el navegador")


def test_an_answer_becomes_a_row_by_itself(local: Process, folder: Path) -> None:
    answer = predict(local)
    assert answer.status_code == 200
    given = answer.json()
    columns = "id, output, probabilidad, inputs, modelo, modelo_version, seq, timestamp"
    until_now(lambda: bool(query(folder, f"SELECT {columns} FROM predicciones")))  # noqa: S608
    [row] = query(folder, f"SELECT {columns} FROM predicciones")  # noqa: S608
    assert row[:3] == (given["id"], given["prediccion"], given["probabilidad"])
    assert json.loads(row[3])["tsh"] == 0.05
    assert row[4:7] == (given["modelo"]["nombre"], given["modelo"]["version"], 1)
    read_back = local.get(f"/predicciones/{given['id']}").json()
    assert read_back["probabilidades"] == given["probabilidades"]
    until_now(lambda: is_settled(local))


def test_a_doctor_finds_a_patient_again_and_corrects_what_was_answered(folder: Path) -> None:
    with running("services.local", folder) as process, httpx.Client(base_url=process.url, timeout=60) as doctor:
        given = doctor.post("/predecir", json=HYPER, headers={"Referencia-Paciente": "HC%20Z%C3%BA%C3%B1iga"}).json()
        predict(process)
        explained = doctor.post("/explicar", json=HYPER).json()
        corrected = {"aceptada": False, "diagnostico": "resultados_discordantes", "motivo": "otra prueba"}
        for outcome in ({"aceptada": True}, corrected):
            assert doctor.post(f"/predicciones/{given['id']}/resultado", json=outcome).status_code == 200
        process.kill()
    with running("services.local", folder) as process, httpx.Client(base_url=process.url, timeout=60) as doctor:
        until_now(lambda: is_settled(process))
        asked = doctor.post("/referencias", json={"referencia": " hc ZÚÑIGA "}).json()["hash"]
        [found] = doctor.get("/predicciones", params={"referencia": asked}).json()["predicciones"]
        whole = doctor.get(f"/predicciones/{given['id']}").json()
    assert (explained["prediccion"], explained["probabilidad"]) == (given["prediccion"], given["probabilidad"])
    assert found["id"] == given["id"]
    assert {name: found["resultado"][name] for name in corrected} == corrected
    assert [each["aceptada"] for each in whole["resultados"]] == [False, True]
    view = "SELECT id, aceptada, diagnostico_medico FROM predicciones_tiroides WHERE aceptada IS NOT NULL"
    assert query(folder, view) == [(given["id"], 0, "resultados_discordantes")]
    assert "iga" not in str(query(folder, "SELECT * FROM predicciones"))


def test_a_promotion_reaches_the_running_process_without_failures(folder: Path) -> None:
    with running("services.local", folder, {"INFERENCE_POLL_SECONDS": "0.1"}) as process:
        assert predict(process).json()["modelo"]["version"] == "1"
        make_bundle(folder / "var", DatosPaciente, version="2", seed=1)

        def swapped() -> bool:
            answer = predict(process)
            assert answer.status_code == 200
            return bool(answer.json()["modelo"]["version"] == "2")

        until_now(swapped)


def test_a_start_restricts_the_files_of_earlier_ones_and_its_own(tmp_path: Path) -> None:
    var = tmp_path / "var"
    make_bundle(var, DatosPaciente)
    for path in (var, var / "models"):
        path.chmod(0o755)
    before = len(open_to_others(var))
    under_022 = ["sh", "-c", 'umask 022; exec "$@"', "sh"]
    with running("services.local", tmp_path, prefix=under_022) as process:
        until_now(lambda: process.get("/health/ready").status_code == 200)
        logged = [json.loads(line) for line in process.errors().splitlines()]
        [line] = [line for line in logged if line["event"] == "private_files_restricted"]
    assert line["count"] == before >= 2
    assert (var / "gateway/outbox.db").exists()
    assert open_to_others(var, *tmp_path.glob("predicciones.db*")) == []


def test_every_service_of_the_process_answers(local: Process) -> None:
    assert local.get("/health/live").status_code == 200
    until_now(lambda: reasons(local) == {})
    assert local.get("/v2/models/tiroides").json()["versions"] == ["1"]
    assert local.get("/predicciones").json() == {"predicciones": [], "ilegibles": [], "siguiente": None}
    metrics = local.get("/metrics").text
    assert "predecir_outbox_pending 0.0" in metrics


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_hands_over_what_was_answered_and_ends_with_0(folder: Path, signum: int) -> None:
    with running("services.local", folder, {"RELAY_LINGER_MS": "5000"}) as process:
        given = {predict(process).json()["id"] for _ in range(20)}
        assert process.stop(signum) == 0
    assert {row[0] for row in query(folder, "SELECT id FROM predicciones")} == given


@pytest.mark.parametrize("seconds", [0.1, 0.3, 0.6, 1.0])
def test_ctrl_c_while_it_starts_is_quiet(folder: Path, seconds: float) -> None:
    code, errors = interrupted("services.local", folder, seconds)
    assert code in {-signal.SIGINT, 0}
    assert "Traceback" not in errors


def test_a_killed_process_hands_over_after_the_next_start(folder: Path) -> None:
    with running("services.local", folder, {"RELAY_LINGER_MS": "60000"}) as process:
        given = {predict(process).json()["id"] for _ in range(20)}
        process.kill()
    with running("services.local", folder) as process:
        until_now(lambda: is_settled(process))
    assert {row[0] for row in query(folder, "SELECT id FROM predicciones")} == given


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("HOST", "0.0.0.0", "HOST"),  # noqa: S104 - refused, which is the point
        ("PORT", "eighty", "PORT"),
        ("OUTBOX_MAX_EVENTS", "-1", "OUTBOX_MAX_EVENTS"),
        ("DATABASE_URL", "mysql://u:secreto@db/x", "DATABASE_URL"),
        ("PREDECIR_PACIENTE", "nowhere:Class", "PREDECIR_PACIENTE"),
    ],
)
def test_a_wrong_setting_is_one_line_and_exit_78(folder: Path, setting: str, value: str, said: str) -> None:
    code, errors = refused("services.local", folder, {setting: value})
    assert code == 78
    assert len(errors.splitlines()) == 1
    assert said in errors
    assert "secreto" not in errors


def test_a_used_port_is_one_line(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as used:
        port = used.getsockname()[1]
        code, errors = refused("services.local", folder, {"PORT": str(port)})
    assert code == 69
    assert len(errors.splitlines()) == 1
    assert f"port {port}" in errors
    assert "PORT=" in errors


def test_a_second_process_on_the_same_folder_is_one_line(local: Process, folder: Path) -> None:
    predict(local)
    code, errors = refused("services.local", folder, {})
    assert code == 69
    assert len(errors.splitlines()) == 1
    assert "another Predecir runs here" in errors


@pytest.mark.parametrize(
    ("arguments", "code"),
    [([], 69), (["migrate"], 69), (["quarantine", "replay", "1"], 69), (["quarantine", "list"], 0)],
)
def test_only_reading_commands_may_use_the_database_of_the_process(
    local: Process, folder: Path, arguments: list[str], code: int
) -> None:
    predict(local)
    ended = command(["services.recorder", *arguments], folder)
    assert (ended.returncode, ended.stdout) == (code, "")
    if code:
        assert len(ended.stderr.splitlines()) == 1
        assert "predicciones.db: another Predecir has this database open; stop it first" in ended.stderr


def test_a_database_that_cannot_be_opened_is_one_line(folder: Path) -> None:
    (folder / "predicciones.db").write_bytes(b"a letter, not a database; long enough to be looked at" * 20)
    code, errors = refused("services.local", folder, {})
    assert code == 69
    assert len(errors.splitlines()) == 1
    assert "predicciones.db" in errors


def test_answers_continue_while_the_database_is_locked(local: Process, folder: Path) -> None:
    until_now(lambda: reasons(local) == {})
    blocker = sqlite3.connect(folder / "predicciones.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    given = predict(local)
    until_now(lambda: "base_de_datos" in reasons(local), seconds=30)
    blocker.execute("ROLLBACK")
    blocker.close()
    until_now(lambda: is_settled(local), seconds=30)
    assert given.status_code == 200
    assert query(folder, "SELECT id FROM predicciones") == [(given.json()["id"],)]
    until_now(lambda: reasons(local) == {})


def test_answers_continue_while_the_database_file_is_elsewhere(local: Process, folder: Path) -> None:
    """It is moved away and back; then a complete copy of it takes its place."""
    answered = [predict(local).json()["id"]]
    until_now(lambda: is_settled(local))
    database, away = folder / "predicciones.db", folder / "away.db"
    for put_back in (shutil.move, shutil.copy):
        database.rename(away)
        answered.append(predict(local).json()["id"])
        until_now(lambda: "base_de_datos" in reasons(local), seconds=30)
        message = local.get("/health/ready").json()["mensajes_tecnicos"]["base_de_datos"]
        assert "predicciones.db was moved or deleted while in use; put it back" in message
        assert local.get("/conciliacion").status_code == 503
        put_back(away, database)
        until_now(lambda: reasons(local) == {}, seconds=30)
        until_now(lambda: is_settled(local), seconds=30)
    assert sorted(row[0] for row in query(folder, "SELECT id FROM predicciones")) == sorted(answered)
    assert query(folder, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        ("missing", "make train"),
        ("tampered", "refused"),
        ("another model", "sealed as model prueba"),
        ("other patient", "PREDECIR_PACIENTE"),
    ],
)
def test_a_model_that_must_not_serve_is_503_with_the_reason(tmp_path: Path, harm: str, reason: str) -> None:
    if harm != "missing":
        bundle = make_bundle(tmp_path / "var", DatosPaciente)
    if harm == "tampered":
        model = bundle / "model.onnx"
        model.write_bytes(model.read_bytes()[:-1] + b"\x00")
    if harm in {"another model", "other patient"}:
        patient = PacienteDePrueba if harm == "another model" else RevisedThyroid
        make_bundle(tmp_path / "other", patient, version="2").rename(bundle.parent / "2")
        (bundle.parent / "production").unlink()
        (bundle.parent / "production").symlink_to("2")
        (tmp_path / "var/keys/bundle.pub").write_bytes((tmp_path / "other/keys/bundle.pub").read_bytes())
    with running("services.local", tmp_path) as process:
        until_now(lambda: reason in reasons(process).get("modelo", ""))
        answer = predict(process)
        assert answer.status_code == 503
        assert answer.json()["type"].endswith("modelo")
        assert "Traceback" not in process.errors()


def test_a_folder_that_cannot_be_used_is_one_line(folder: Path) -> None:
    (folder / "file").write_text("in the way")
    code, errors = refused("services.local", folder, {"PREDECIR_VAR": "file/var"})
    place = "file/var/keys/access.json cannot be read: Not a directory"
    assert (code, errors) == (78, f"local: settings: PREDECIR_VAR: {place}\n")


def test_a_full_disk_is_left_by_what_is_recorded_elsewhere(folder: Path) -> None:
    """Answers wait for the database on a full disk: deleting the reserve file lets them leave the outbox."""
    environment = {"RELAY_LINGER_MS": "0"}
    with running("services.local", folder, environment, prefix=_on_small_disk(folder / "var/gateway")) as process:
        until_now(lambda: reasons(process) == {})
        blocker = sqlite3.connect(folder / "predicciones.db", isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        given = {predict(process).json()["id"] for _ in range(20)}
        disk = f"/proc/{process.popen.pid}/root{folder}/var/gateway"
        _fill(os.path.join(disk, "filler"))  # noqa: PTH118 - a path of another mount namespace
        blocker.execute("ROLLBACK")
        blocker.close()
        until_now(lambda: is_settled(process), seconds=30)
        assert predict(process).status_code == 503
    assert {row[0] for row in query(folder, "SELECT id FROM predicciones")} == given


def test_a_full_disk_rejects_recovers_and_loses_no_answer(folder: Path) -> None:
    """The disk is a real one of 24 MiB, in its own mount namespace."""
    with running("services.local", folder, prefix=_on_small_disk(folder / "var/gateway")) as process:
        until_now(lambda: reasons(process) == {})
        given = {predict(process).json()["id"] for _ in range(5)}
        disk = f"/proc/{process.popen.pid}/root{folder}/var/gateway"
        filler = os.path.join(disk, "filler")  # noqa: PTH118 - a path of another mount namespace
        _fill(filler)
        until_now(lambda: "disco" in reasons(process))
        refusal = predict(process)
        assert refusal.status_code == 503
        assert refusal.headers["retry-after"]
        os.unlink(filler)  # noqa: PTH108
        until_now(lambda: reasons(process) == {})
        given.add(predict(process).json()["id"])
        until_now(lambda: is_settled(process))
    assert {row[0] for row in query(folder, "SELECT id FROM predicciones")} == given


def _on_small_disk(path: Path) -> list[str]:
    path.mkdir(parents=True)
    script = f'mount -t tmpfs -o size=24m none "{path}" && exec "$@"'
    return ["unshare", "--mount", "--map-root-user", "sh", "-c", script, "sh"]


def _fill(path: str) -> None:
    with open(path, "wb", buffering=0) as file:  # noqa: PTH123
        try:
            while True:
                file.write(bytes(64 * 1024))
        except OSError:
            return
