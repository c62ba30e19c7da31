"""Registry sync: which files are fetched, which versions are rejected and why, and a registry that does not answer.

`tests/fault/test_swap_under_load.py` does the same against a real MLflow server.
"""

import asyncio
import base64
import contextlib
import hashlib
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.inference.rollout import registry_sync
from shared.artifacts.bundle import MANIFEST, ONNX, SIGNATURE
from shared.artifacts.store import FORCED_TAG, forced_past
from tests.support.bundles import PacienteDePrueba, RevisedThyroid, make_bundle, reseal
from tests.support.inference import Running, running
from tests.support.waiting import until

MISSING = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "not found"}


class Mlflow:
    """A stand-in for MLflow's server: the version of the alias, and the files of a run."""

    def __init__(self, folder: Path) -> None:
        self.var = folder / "registry"
        self.runs: dict[str, Path] = {}
        self.production: tuple[str, str] | None = None
        self.requests = 0
        self.fetched: list[str] = []
        self.error_pages: set[str] = set()
        self.slow: set[str] = set()
        self.compressed: set[str] = set()
        self.released = asyncio.Event()
        self.cookies: set[str | None] = set()
        self.tags: list[dict[str, str]] = []
        self.authorization: set[str | None] = set()
        self.instead: Callable[[], Awaitable[web.Response]] | None = None

    def register(self, version: str, *, seed: int = 0, run: str | None = None) -> Path:
        folder = make_bundle(self.var, PacienteDePrueba, version=version, seed=seed)
        reseal(folder, run_id=run or f"run-{version}")
        self.runs[run or f"run-{version}"] = folder
        return folder

    def promote(self, version: str, *, run: str | None = None) -> None:
        self.production = (version, run or f"run-{version}")

    async def alias(self, request: web.Request) -> web.Response:
        self.requests += 1
        self.cookies.add(request.headers.get("Cookie"))
        self.authorization.add(request.headers.get("Authorization"))
        if self.instead is not None:
            return await self.instead()
        assert request.query == {"name": "prueba", "alias": "production"}
        if self.production is None:
            return web.json_response({"error_code": "INVALID_PARAMETER_VALUE", "message": "no such alias"}, status=400)
        version, run = self.production
        return web.json_response(
            {"model_version": {"name": "prueba", "version": version, "run_id": run, "tags": self.tags}}
        )

    async def artifact(self, request: web.Request) -> web.StreamResponse:
        folder, _, name = request.query["path"].partition("/")
        self.fetched.append(name)
        if request.query["run_uuid"] not in self.runs:
            return web.Response(status=500)  # as if the storage of its artifacts were away
        if name in self.error_pages:
            return web.Response(text="<html>" * 1000, status=502)  # of a proxy, longer than the file
        path = self.runs[request.query["run_uuid"]] / name
        if folder != "bundle" or not path.exists():
            return web.json_response(MISSING, status=404)
        if name in self.slow:
            return await self.byte_by_byte(request, path.read_bytes())
        response = web.Response(body=path.read_bytes())
        response.set_cookie("c", name)
        if name in self.compressed:
            response.enable_compression(web.ContentCoding.gzip)
        return response

    async def byte_by_byte(self, request: web.Request, content: bytes) -> web.StreamResponse:
        """Send a byte from time to time, and the rest once it is released."""
        response = web.StreamResponse()
        await response.prepare(request)
        sent = 0
        while not self.released.is_set() and sent < len(content):
            await response.write(content[sent : sent + 1])
            sent += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.released.wait(), 0.1)
        await response.write(content[sent:])
        return response


@asynccontextmanager
async def listening(mlflow: Mlflow) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/api/2.0/mlflow/registered-models/alias", mlflow.alias)
    app.router.add_get("/get-artifact", mlflow.artifact)
    server = TestServer(app)
    await server.start_server()
    try:
        yield str(server.make_url("/")).rstrip("/")
    finally:
        await server.close()


@asynccontextmanager
async def following(var: Path, url: str, *, key: Path | None) -> AsyncIterator[Running]:
    """Run inference on the folder `var`, where the operator has placed `key`."""
    if key is not None:
        (var / "keys").mkdir(parents=True, exist_ok=True)
        shutil.copy(key, var / "keys")
    async with running(var, url) as service:
        yield service


@pytest.fixture
def mlflow(tmp_path: Path) -> Mlflow:
    return Mlflow(tmp_path)


@pytest.fixture
def key(mlflow: Mlflow) -> Path:
    return mlflow.var / "keys/bundle.pub"


@pytest.fixture
def model_store(tmp_path: Path) -> Path:
    return tmp_path / "var/models/prueba"


async def test_the_registry_s_production_serves_from_the_start_and_is_cached(
    tmp_path: Path, mlflow: Mlflow, key: Path, model_store: Path
) -> None:
    mlflow.register("1")
    mlflow.promote("1")
    async with listening(mlflow) as url, following(tmp_path / "var", url, key=key) as service:
        assert await service.version() == "1"
        state = await service.state()
        assert (state["sirve"]["version"], state["produccion"], state["rechazada"]) == ("1", "1", None)
        assert state["registro"].pop("visto") is not None
        assert state["registro"] == {"url": url, "callado_desde": None, "motivo": None}
        labels = {"alias": "production"}
        assert (service.registry.get_sample_value("inference_registry_seen_timestamp_seconds", labels) or 0) > 1e9
    assert (model_store / "production").resolve() == model_store / "1"


async def test_a_version_that_the_registry_tags_as_forced_is_noted_in_the_store(
    tmp_path: Path, mlflow: Mlflow, key: Path, model_store: Path
) -> None:
    mlflow.register("1")
    mlflow.promote("1")
    mlflow.tags = [{"key": "build", "value": "b"}, {"key": FORCED_TAG, "value": "accuracy"}]
    async with listening(mlflow) as url, following(tmp_path / "var", url, key=key) as service:
        await until(lambda: service.shows("1"))
        assert forced_past(model_store / "1") == "accuracy"
        mlflow.tags = []
        await until(lambda: forced_past(model_store / "1") == "")


async def test_a_promotion_is_fetched_once_and_a_rollback_not_at_all(tmp_path: Path, mlflow: Mlflow, key: Path) -> None:
    mlflow.register("1")
    mlflow.register("2", seed=1)
    mlflow.promote("1")
    async with listening(mlflow) as url, following(tmp_path / "var", url, key=key) as service:
        mlflow.fetched.clear()
        for version in ("2", "1", "2"):
            mlflow.promote(version)
            await until(partial(service.serves, version))
        assert sorted(mlflow.fetched) == sorted(path.name for path in mlflow.runs["run-2"].iterdir())


def changed_model(folder: Path) -> None:
    content = bytearray((folder / ONNX).read_bytes())
    content[-1] ^= 1
    (folder / ONNX).write_bytes(content)


def longer_model(folder: Path) -> None:
    (folder / ONNX).write_bytes((folder / ONNX).read_bytes() + b"\0")


def changed_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_bytes((folder / MANIFEST).read_bytes().replace(b'"accuracy": 0.5', b'"accuracy": 0.9'))


def endless_signature(folder: Path) -> None:
    (folder / SIGNATURE).write_bytes(b"\0" * 10_000)


def no_model(folder: Path) -> None:
    (folder / ONNX).unlink()


def another_version(folder: Path) -> None:
    reseal(folder, version="1")


def another_model(folder: Path) -> None:
    reseal(folder, name="otra")


def another_run(folder: Path) -> None:
    reseal(folder, run_id="run-1")


def another_patient(folder: Path) -> None:
    reseal(folder, patient_digest=RevisedThyroid.digest)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (changed_model, f"version 2/{ONNX}: its SHA-256 is not the one that was signed"),
        (longer_model, f"version 2/{ONNX}: more than the "),
        (no_model, f"version 2/{ONNX}: not there"),
        (changed_manifest, f"version 2: the signature of {MANIFEST} does not hold"),
        (endless_signature, f"version 2/{SIGNATURE}: more than the 1024 bytes"),
        (another_version, "version 2: sealed as version 1, not 2"),
        (another_model, "version 2: sealed as model otra, not prueba"),
        (another_run, "version 2: sealed in run run-1, but registered as of run run-2"),
        (another_patient, "version 2: trained for patient"),
    ],
)
async def test_a_version_that_is_not_as_signed_never_serves(  # noqa: PLR0913, PLR0917 - four are fixtures
    tmp_path: Path, mlflow: Mlflow, key: Path, model_store: Path, harm: Callable[[Path], None], reason: str
) -> None:
    mlflow.register("1")
    harm(mlflow.register("2", seed=1))
    mlflow.promote("1")
    async with listening(mlflow) as url, following(tmp_path / "var", url, key=key) as service:
        mlflow.promote("2")
        await until(lambda: service.refused("2") == 1)
        state = await service.state()
        assert await service.version() == "1"
        fetched, before = len(mlflow.fetched), mlflow.requests
        await until(lambda: mlflow.requests > before + 2)
        assert len(mlflow.fetched) == fetched  # it is left alone for a while
    assert (state["sirve"]["version"], state["produccion"], state["rechazada"]["version"]) == ("1", "2", "2")
    assert f"{url}, {reason}" in state["rechazada"]["motivo"]
    assert str(tmp_path) not in state["rechazada"]["motivo"].replace(str(tmp_path / "var/keys"), "")
    assert not (model_store / "2").exists()
    assert (model_store / "production").resolve() == model_store / "1"


async def test_without_the_operator_s_key_only_the_manifest_is_fetched(
    tmp_path: Path, mlflow: Mlflow, key: Path
) -> None:
    mlflow.register("1")
    mlflow.promote("1")
    async with listening(mlflow) as url, following(tmp_path / "var", url, key=None) as service:
        assert "bundle.pub: not there" in service.inference.part.unready()["modelo"].message
        assert sorted(mlflow.fetched) == [MANIFEST, SIGNATURE]
        (tmp_path / "var/keys").mkdir(parents=True)
        shutil.copy(key, tmp_path / "var/keys")
        await until(lambda: service.serves("1"))


async def test_a_version_that_misses_its_golden_rows_is_not_linked(
    tmp_path: Path, mlflow: Mlflow, key: Path, model_store: Path
) -> None:
    mlflow.register("1")
    mlflow.runs["run-2"] = make_bundle(mlflow.var, PacienteDePrueba, version="2", golden_error=1e-3)
    reseal(mlflow.runs["run-2"], run_id="run-2")
    mlflow.promote("1")
    async with listening(mlflow) as url, following(tmp_path / "var", url, key=key) as service:
        mlflow.promote("2")
        await until(lambda: service.refused("2") == 1)
        assert "golden" in (await service.state())["rechazada"]["motivo"]
        assert await service.version() == "1"
        async with following(tmp_path / "var", url, key=None) as restarted:
            assert await restarted.version() == "1"
            assert restarted.refused("2")
    assert (model_store / "production").resolve() == model_store / "1"


async def test_a_version_that_the_store_cannot_take_is_rejected(
    tmp_path: Path, mlflow: Mlflow, key: Path, model_store: Path
) -> None:
    mlflow.register("1")
    mlflow.register("2", seed=1)
    mlflow.promote("1")
    async with listening(mlflow) as url, following(tmp_path / "var", url, key=key) as service:
        (model_store / ".2.partial").touch()  # in the way of the new version
        mlflow.promote("2")
        await until(lambda: service.refused("2") == 1)
        reason = (await service.state())["rechazada"]["motivo"]
        assert reason == f"{model_store / '2'}: cannot be written (Not a directory)"
        assert await service.version() == "1"


async def test_each_bundle_is_read_and_checked_once(
    tmp_path: Path, mlflow: Mlflow, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Count the digests that are computed of the model's file, from the fetch to the swap and afterwards."""
    mlflow.register("1")
    size, sha256 = len((mlflow.runs["run-1"] / ONNX).read_bytes()), hashlib.sha256
    hashed: list[int] = []

    def counting(content: bytes = b"") -> Any:  # noqa: ANN401 - hashlib's object, whose class has no public name
        hashed.append(len(content))
        return sha256(content)

    monkeypatch.setattr(hashlib, "sha256", counting)
    mlflow.promote("1")
    async with listening(mlflow) as url, following(tmp_path / "var", url, key=key) as service:
        assert await service.version() == "1"
        before = mlflow.requests
        await until(lambda: mlflow.requests > before + 2)
    assert hashed.count(size) == 1
    async with listening(mlflow) as url, following(tmp_path / "var", url, key=None) as service:
        assert await service.version() == "1"  # from the model store
        before = mlflow.requests
        await until(lambda: mlflow.requests > before + 2)
    assert hashed.count(size) == 2


async def test_a_new_registry_that_reuses_a_version_number_does_not_replace_the_signed_version(
    tmp_path: Path, mlflow: Mlflow, key: Path, model_store: Path
) -> None:
    first = mlflow.register("1")
    mlflow.promote("1")
    async with listening(mlflow) as url, following(tmp_path / "var", url, key=key) as service:
        before = (await service.state())["sirve"]["digest"]
        shutil.rmtree(first)
        mlflow.register("1", seed=1, run="run-of-another-day")
        mlflow.promote("1", run="run-of-another-day")
        await until(lambda: service.refused("1") == 1)
        state = await service.state()
        assert state["rechazada"]["motivo"].startswith(f"{model_store}/1: another version 1 is there, which recorded")
        assert (
            state["sirve"]["digest"]
            == before
            == hashlib.sha256((model_store / "1" / MANIFEST).read_bytes()).hexdigest()
        )
        mlflow.register("2", seed=1)
        mlflow.promote("2")
        await until(lambda: service.serves("2"))


async def no_alias() -> web.Response:
    return web.json_response({"error_code": "INVALID_PARAMETER_VALUE", "message": "no such alias"}, status=400)


async def no_model_of_that_name() -> web.Response:
    return web.json_response(MISSING, status=404)


@pytest.mark.parametrize("answer", [no_alias, no_model_of_that_name])
async def test_a_registry_without_production_is_not_silent_and_the_version_stays(
    tmp_path: Path,
    mlflow: Mlflow,
    key: Path,
    answer: Callable[[], Awaitable[web.Response]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    mlflow.register("1")
    mlflow.promote("1")
    async with listening(mlflow) as url, following(tmp_path / "var", url, key=key) as service:
        mlflow.instead = answer

        async def without_production() -> bool:
            state = await service.state()
            return state["produccion"] is None and state["registro"]["callado_desde"] is None

        await until(without_production)
        assert await service.version() == "1"
        reason = (await service.state())["registro"]["motivo"]
        assert reason.startswith(f"{url} has no version in production; none was promoted, or it was deleted in MLflow;")
        before = mlflow.requests
        await until(lambda: mlflow.requests > before + 2)
        async with following(tmp_path / "var", url, key=None) as restarted:
            assert await restarted.version() == "1"
            assert (await restarted.state())["registro"]["motivo"] == reason
        mlflow.instead = None
        mlflow.register("2", seed=1)
        mlflow.promote("2")
        await until(lambda: service.serves("2"))
        assert (await service.state())["registro"]["motivo"] is None
    logged = capsys.readouterr()
    assert (logged.out + logged.err).count("registry_without_production") == 2, "once per process"


async def failing() -> web.Response:
    return web.Response(status=500)


async def elsewhere() -> web.Response:
    return web.Response(status=302, headers={"Location": "http://127.0.0.1:9/"})


async def another_service() -> web.Response:
    return web.Response(text="<html>", status=404)


async def endless() -> web.Response:
    return web.Response(body=b" " * 2_000_000)


async def a_path_for_a_version() -> web.Response:
    return web.json_response({"model_version": {"version": "../../x", "run_id": "run-1"}})


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (failing, "answered 500"),
        (elsewhere, "answered 302"),
        (another_service, "does not answer as MLflow does"),
        (endless, "does not answer as MLflow does"),
        (a_path_for_a_version, "does not answer as MLflow does"),
    ],
)
async def test_a_registry_with_unexpected_answers_is_silent_until_it_recovers(
    tmp_path: Path, mlflow: Mlflow, key: Path, answer: Callable[[], Awaitable[web.Response]], reason: str
) -> None:
    mlflow.register("1")
    mlflow.register("2", seed=1)
    mlflow.promote("1")
    async with listening(mlflow) as url, following(tmp_path / "var", url, key=key) as service:
        mlflow.instead = answer

        async def silent() -> bool:
            return (await service.state())["registro"]["callado_desde"] is not None

        await until(silent)
        assert (await service.state())["registro"]["motivo"] == f"{url} {reason}"
        assert await service.version() == "1"
        mlflow.instead = None
        mlflow.promote("2")
        await until(lambda: service.serves("2"))
        assert not await silent()


async def test_a_withdrawn_version_stays_out_though_the_link_is_not_written(
    tmp_path: Path, mlflow: Mlflow, key: Path, model_store: Path
) -> None:
    mlflow.register("1")
    mlflow.register("2", seed=1)
    mlflow.promote("1")
    async with listening(mlflow) as url, following(tmp_path / "var", url, key=key) as service:
        mlflow.promote("2")
        await until(lambda: (model_store / "production").resolve() == model_store / "2")
        (model_store / ".production.fresh").mkdir()  # in the way of the next link
        mlflow.promote("1")
        await until(lambda: service.serves("1"))
        mlflow.instead = failing
        before = mlflow.requests
        await until(lambda: mlflow.requests > before + 2)
        assert await service.version() == "1"
        mlflow.instead = None
        (model_store / ".production.fresh").rmdir()
        await until(lambda: (model_store / "production").resolve() == model_store / "1")


async def test_a_registry_without_the_files_is_silent_until_it_has_them(
    tmp_path: Path, mlflow: Mlflow, key: Path
) -> None:
    mlflow.register("1")
    mlflow.register("2", seed=1)
    mlflow.promote("1")
    async with listening(mlflow) as url, following(tmp_path / "var", url, key=key) as service:
        files = mlflow.runs.pop("run-2")
        mlflow.promote("2")

        async def registry() -> dict[str, Any]:
            status: dict[str, Any] = (await service.state())["registro"]
            return status

        async def silent() -> bool:
            return (await registry())["callado_desde"] is not None

        await until(silent)
        first, before = await registry(), mlflow.requests
        assert first["motivo"] == f"{url} answered 500 for {MANIFEST}"
        await until(lambda: mlflow.requests > before + 2)
        assert await registry() == first
        assert await service.version() == "1"
        mlflow.runs["run-2"] = files
        await until(lambda: service.serves("2"))
        assert not await silent()


async def test_a_long_error_page_in_place_of_a_small_file_rejects_nothing(
    tmp_path: Path, mlflow: Mlflow, key: Path
) -> None:
    mlflow.register("1")
    mlflow.register("2", seed=1)
    mlflow.promote("1")
    async with listening(mlflow) as url, following(tmp_path / "var", url, key=key) as service:
        mlflow.error_pages = {SIGNATURE}
        mlflow.promote("2")
        await until(lambda: mlflow.fetched[-1] == SIGNATURE and mlflow.fetched.count(MANIFEST) > 2)
        state = await service.state()
        assert state["registro"]["motivo"] == f"{url} answered 502 for {SIGNATURE}"
        assert state["rechazada"] is None
        mlflow.error_pages.clear()
        await until(lambda: service.serves("2"))


async def test_a_slow_file_holds_up_neither_polls_nor_a_rollback(tmp_path: Path, mlflow: Mlflow, key: Path) -> None:
    for number in (1, 2, 3):
        mlflow.register(str(number), seed=number)
    mlflow.promote("1")
    async with listening(mlflow) as url, following(tmp_path / "var", url, key=key) as service:
        mlflow.promote("3")
        await until(partial(service.serves, "3"))
        mlflow.slow, before = {ONNX}, mlflow.requests
        mlflow.promote("2")
        await until(lambda: mlflow.requests > before + 2)
        state = await service.state()
        assert (state["sirve"]["version"], state["produccion"]) == ("3", "2")
        assert (state["registro"]["callado_desde"], state["registro"]["motivo"]) == (None, None)
        assert mlflow.fetched.count(ONNX) == 3
        mlflow.promote("1")
        await until(partial(service.serves, "1"))
        mlflow.promote("2")
        await until(lambda: mlflow.fetched.count(ONNX) == 4)
        mlflow.released.set()
        await until(partial(service.serves, "2"))


async def test_a_slow_file_is_given_up_after_a_time_by_its_size(
    tmp_path: Path, mlflow: Mlflow, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_sync, "FETCH_SECONDS", 0.5)
    mlflow.register("1")
    mlflow.register("2", seed=1)
    mlflow.promote("1")
    async with listening(mlflow) as url, following(tmp_path / "var", url, key=key) as service:
        mlflow.slow = {ONNX}
        mlflow.promote("2")

        async def status() -> dict[str, Any]:
            state: dict[str, Any] = (await service.state())["registro"]
            return state

        async def silent() -> bool:
            return (await status())["callado_desde"] is not None

        await until(silent)
        first, before = await status(), mlflow.fetched.count(ONNX)
        assert first["motivo"] == f"{url} did not send version 2 within 1 s"
        await until(lambda: mlflow.fetched.count(ONNX) > before)
        assert await status() == first, "silent while it is tried again"
        assert await service.version() == "1"
        mlflow.promote("1")

        async def answers() -> bool:
            return not await silent()

        await until(answers)
        mlflow.promote("2")
        mlflow.released.set()
        await until(partial(service.serves, "2"))
        assert not await silent()


async def test_a_compressed_file_is_not_inflated_and_cookies_are_not_kept(
    tmp_path: Path, mlflow: Mlflow, key: Path
) -> None:
    mlflow.register("1")
    mlflow.register("2", seed=1)
    mlflow.promote("1")
    async with listening(mlflow) as url, following(tmp_path / "var", url, key=key) as service:
        mlflow.compressed = {ONNX}
        mlflow.promote("2")

        async def silent() -> bool:
            return (await service.state())["registro"]["motivo"] is not None

        await until(silent)
        reason = (await service.state())["registro"]["motivo"]
        assert reason == f"{url} answered {ONNX} with a Content-Encoding, which was not requested"
        assert await service.version() == "1"
    assert mlflow.cookies == {None}


async def test_a_start_does_not_wait_for_a_slow_file(tmp_path: Path, mlflow: Mlflow, key: Path) -> None:
    mlflow.register("1")
    mlflow.register("2", seed=1)
    mlflow.promote("1")
    async with listening(mlflow) as url:
        async with following(tmp_path / "var", url, key=key) as service:
            assert await service.version() == "1"
        mlflow.slow = {ONNX}
        mlflow.promote("2")
        async with asyncio.timeout(60), following(tmp_path / "var", url, key=None) as service:
            assert await service.version() == "1"
            mlflow.released.set()
            await until(partial(service.serves, "2"))


async def test_a_rejection_ends_when_the_version_leaves_production(tmp_path: Path, mlflow: Mlflow, key: Path) -> None:
    mlflow.register("1")
    changed_model(mlflow.register("2", seed=1))
    mlflow.promote("1")
    async with listening(mlflow) as url, following(tmp_path / "var", url, key=key) as service:
        mlflow.promote("2")
        await until(lambda: service.refused("2") == 1)
        mlflow.production = None
        await until(lambda: service.refused("2") != 1)
        assert (await service.state())["rechazada"] is None


async def test_a_rejection_is_logged_once_though_the_link_is_bad_too(
    tmp_path: Path, mlflow: Mlflow, key: Path, model_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mlflow.register("1")
    changed_model(mlflow.register("2", seed=1))
    mlflow.promote("1")
    async with listening(mlflow) as url:
        async with following(tmp_path / "var", url, key=key) as service:
            assert await service.version() == "1"
        changed_model(model_store / "1")
        mlflow.promote("2")
        capsys.readouterr()
        async with following(tmp_path / "var", url, key=None) as service:
            before = mlflow.requests
            await until(lambda: mlflow.requests > before + 2)
            assert (await service.state())["rechazada"]["version"] == "2"
            assert "version 2" in service.inference.part.unready()["modelo"].message
    logged = capsys.readouterr()
    assert (logged.out + logged.err).count("model_refused") == 1


async def test_a_registry_that_hangs_delays_a_start_by_seconds(tmp_path: Path, mlflow: Mlflow, key: Path) -> None:
    mlflow.register("1")
    mlflow.promote("1")
    async with listening(mlflow) as url:
        async with following(tmp_path / "var", url, key=key) as service:
            assert await service.version() == "1"
        hanging = asyncio.Event()

        async def never() -> web.Response:
            await hanging.wait()
            return web.Response()

        mlflow.instead = never
        async with asyncio.timeout(60), following(tmp_path / "var", url, key=None) as service:
            assert await service.version() == "1"
        hanging.set()


async def test_credentials_of_the_url_are_sent_and_never_shown(
    tmp_path: Path, mlflow: Mlflow, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mlflow.register("1")
    mlflow.promote("1")
    async with listening(mlflow) as url, following(tmp_path / "var", _with_login(url), key=key) as service:
        assert (await service.state())["registro"]["url"] == url
        mlflow.instead = failing

        async def silent() -> bool:
            return (await service.state())["registro"]["callado_desde"] is not None

        await until(silent)
        shown = str(await service.state())
    assert mlflow.authorization == {"Basic " + base64.b64encode(b"ana:geheim").decode()}
    logged = capsys.readouterr()
    assert "geheim" not in shown + logged.out + logged.err


def _with_login(url: str) -> str:
    return url.replace("//", "//ana:geheim@")
