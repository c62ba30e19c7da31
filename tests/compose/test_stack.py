"""The whole server in containers. `make test-compose` runs this; it needs a Docker engine with compose."""

import asyncio
import json
import ssl
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.compose.stack import COMMIT, ComposeStack, running_stack
from tests.support.certificate import self_signed
from tests.support.load import PATIENT, Requests, load
from tests.support.waiting import until, until_now

HONEST = {502, 503, 504}
"""Status codes that a failed request may get: it was not recorded, or that is unknown; it can be repeated."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeStack]:
    with running_stack(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


@pytest.fixture(scope="module")
def key(stack: ComposeStack) -> str:
    with stack.client("medico") as client:
        return str(client.headers["Authorization"]).removeprefix("Bearer ")


def recorded(stack: ComposeStack, ids: list[str]) -> set[str]:
    return set(stack.sql("SELECT id FROM predicciones")) & set(ids)


async def keeps_everything(stack: ComposeStack, account: Requests) -> None:
    """Wait until every answer is a row; assert that every failed request got a code of `HONEST`."""
    await until(lambda: len(recorded(stack, account.answered)) == len(account.answered), seconds=90)
    assert len(set(account.answered)) == len(account.answered)
    assert set(account.rejected) <= HONEST


async def the_accounts_close(stack: ComposeStack) -> None:
    """Wait for a report of every running gateway; assert that no answer of any gateway, past or present, is missing."""
    with stack.client("analista") as client:

        def heard() -> bool:
            answer = client.get("/conciliacion")
            if answer.status_code != httpx.codes.OK:  # recorders learn of the key some seconds after gateways
                return False
            speaking = [gateway for gateway in answer.json()["gateways"] if not gateway["en_silencio"]]
            return len(speaking) >= len(stack.containers("gateway"))

        await asyncio.to_thread(until_now, heard, seconds=60, every=1)  # the balancer slows many 401
        account = client.get("/conciliacion").json()
    assert account["diferencia"] == 0
    assert sum(gateway["en_outbox"] + gateway["en_camino"] for gateway in account["gateways"]) == 0


async def answers(account: Requests, more: int) -> None:
    """Wait for so many more answers."""
    enough = len(account.answered) + more
    await until(lambda: len(account.answered) >= enough, seconds=120)


def test_an_answer_through_the_balancer_becomes_a_row_in_postgresql(stack: ComposeStack) -> None:
    with stack.client("medico") as client:
        answer = client.post("/predecir", json=PATIENT)
    assert answer.status_code == 200
    until_now(lambda: recorded(stack, [answer.json()["id"]]) != set(), seconds=30)
    with stack.client("analista") as client:
        path = f"/predicciones/{answer.json()['id']}"
        until_now(lambda: client.get(path).status_code == 200, seconds=60, every=1)  # the balancer slows many 401
        assert client.get(path).json()["output"] == answer.json()["prediccion"]


def test_only_the_balancer_is_reachable_and_only_with_a_key(stack: ComposeStack) -> None:
    with stack.client("medico") as client:
        assert client.post("/predecir", json=PATIENT, headers={"Authorization": ""}).status_code == 401
    ports = stack.compose("ps", "--format", "{{.Service}} {{.Publishers}}").splitlines()
    published = {line.split()[0] for line in ports if "127.0.0.1" in line or "0.0.0.0" in line}  # noqa: S104
    assert published == {"haproxy"}


def test_a_service_may_not_do_what_another_does(stack: ComposeStack) -> None:
    listed = stack.compose("exec", "-T", "rabbitmq", "rabbitmqctl", "-q", "list_permissions", "-p", "predecir")
    by_user = {line.split("\t")[0]: line.split("\t")[1:] for line in listed.splitlines()}
    assert by_user["gateway"] == ["^$", "^predecir$", "^$"]
    assert "guest" not in by_user
    owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
    assert stack.sql(owners) == ["recorder"]
    rights = "has_table_privilege('analista', 'predicciones_tiroides', 'SELECT')"
    assert stack.sql(f"SELECT {rights}, has_table_privilege('analista', 'predicciones', 'SELECT')") == ["t|f"]
    assert stack.sql("SELECT rolsuper OR rolcreatedb FROM pg_roles WHERE rolname = 'recorder'") == ["f"]


PUBLIC = {"rabbitmq": "", "postgres": "postgres", "s3": "", "haproxy": "haproxy"}
"""The services of public images, and the users that docker-compose.yml, or the image, gives them."""


@pytest.mark.parametrize("service", ["gateway", "inference", "recorder", "mlflow", *PUBLIC])
def test_a_container_can_change_nothing_but_its_volumes(stack: ComposeStack, service: str) -> None:
    (container, *_) = stack.containers(service)
    told = "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.Config.User}}"
    user = PUBLIC.get(service, "predecir")
    read_only = "false" if service == "rabbitmq" else "true"
    assert stack.docker("inspect", "--format", told, container).strip() == f"{read_only} [ALL] {user}".strip()


def reaches(stack: ComposeStack, service: str, port: int) -> bool:
    """Return whether a gateway can open a connection to `port` of `service`, by its name or by any of its addresses."""
    template = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
    addresses = stack.docker("inspect", "--format", template, *stack.containers(service)[:1]).split()
    script = (
        "import socket, sys\n"
        "for host in sys.argv[2:]:\n"
        "    try: socket.create_connection((host, int(sys.argv[1])), 2); print(host)\n"
        "    except OSError: pass"
    )
    return bool(stack.compose("exec", "-T", "gateway", "python", "-c", script, str(port), service, *addresses).strip())


def test_a_gateway_reaches_the_balancer_and_the_broker_and_nothing_else(stack: ComposeStack) -> None:
    ports = {"postgres": 5432, "mlflow": 5000, "s3": 8333, "inference": 8001, "recorder": 8002}
    assert {service for service, port in ports.items() if reaches(stack, service, port)} == set()
    assert reaches(stack, "haproxy", 8001)
    assert reaches(stack, "rabbitmq", 5672)


def test_a_401_is_logged_by_the_balancer(stack: ComposeStack) -> None:
    assert httpx.post(f"{stack.url}/predecir", json=PATIENT).status_code == 401
    until_now(lambda: " 401 " in stack.compose("logs", "--no-log-prefix", "haproxy"), seconds=30, every=1)


def test_an_analyst_has_a_limit_of_time_and_no_large_objects(stack: ComposeStack) -> None:
    settings = "SELECT unnest(setconfig) FROM pg_db_role_setting WHERE setrole = 'analista'::regrole ORDER BY 1"
    assert stack.sql(settings) == ["default_transaction_read_only=on", "statement_timeout=60s"]
    functions = ("lo_create(oid)", "lo_creat(int)", "lo_from_bytea(oid, bytea)")
    rights = ", ".join(f"has_function_privilege('analista', '{function}', 'EXECUTE')" for function in functions)
    assert stack.sql(f"SELECT {rights}") == ["f|f|f"]


async def test_replicas_share_the_load(stack: ComposeStack, key: str) -> None:
    await asyncio.to_thread(stack.up, gateway=2, inference=2, recorder=2)
    async with load(stack.url, api_key=key) as account:
        await answers(account, 300)
    await keeps_everything(stack, account)
    listed = ", ".join(f"'{identifier}'" for identifier in account.answered)
    shares = stack.sql(f"SELECT count(*) FROM predicciones WHERE id IN ({listed}) GROUP BY gateway_id")  # noqa: S608
    assert len(shares) == 2
    assert min(map(int, shares)) > 30


@pytest.mark.parametrize("service", ["gateway", "inference", "recorder"])
async def test_killing_a_replica_under_load_loses_nothing(stack: ComposeStack, key: str, service: str) -> None:
    await asyncio.to_thread(stack.up, gateway=2, inference=2, recorder=2)
    async with load(stack.url, api_key=key) as account:
        await answers(account, 100)
        await asyncio.to_thread(stack.docker, "kill", stack.containers(service)[0])
        await answers(account, 300)
        await asyncio.to_thread(stack.up, gateway=2, inference=2, recorder=2)
        await answers(account, 100)
    await keeps_everything(stack, account)


async def test_an_inference_replica_that_hangs_costs_no_answer(stack: ComposeStack, key: str) -> None:
    await asyncio.to_thread(stack.up, gateway=2, inference=2, recorder=2)
    hanging = stack.containers("inference")[0]
    async with load(stack.url, api_key=key) as account:
        await answers(account, 100)
        await asyncio.to_thread(stack.docker, "pause", hanging)
        try:
            await answers(account, 300)
        finally:
            await asyncio.to_thread(stack.docker, "unpause", hanging)
    await until(lambda: stack.health(hanging) == "healthy", seconds=30)
    assert account.rejected == []
    assert account.cut == 0
    await keeps_everything(stack, account)


async def test_an_outbox_whose_container_is_gone_goes_to_the_next_gateway(stack: ComposeStack, key: str) -> None:
    await asyncio.to_thread(stack.up, gateway=2, inference=2, recorder=2)
    await asyncio.to_thread(stack.compose, "kill", "rabbitmq")
    async with load(stack.url, api_key=key) as account:
        await answers(account, 200)
    assert recorded(stack, account.answered) != set(account.answered)
    await asyncio.to_thread(stack.docker, "rm", "--force", *stack.containers("gateway"))
    await asyncio.to_thread(stack.up, gateway=2, inference=2, recorder=2)
    await keeps_everything(stack, account)


@pytest.mark.parametrize("service", ["rabbitmq", "postgres"])
async def test_restarting_broker_or_database_under_load_loses_nothing(
    stack: ComposeStack, key: str, service: str
) -> None:
    async with load(stack.url, api_key=key) as account:
        await answers(account, 100)
        before = len(account.rejected) + account.cut
        await asyncio.to_thread(stack.compose, "kill", service)
        await answers(account, 200)
        await asyncio.to_thread(stack.up, gateway=2, inference=2, recorder=2)
        await answers(account, 100)
    assert len(account.rejected) + account.cut == before  # no request fails
    await keeps_everything(stack, account)


def model_state(stack: ComposeStack, container: str, key: str) -> dict[str, Any]:
    """Return `GET /modelo` of one inference replica, from inside its container, as soon as it knows `key`."""
    script = (
        "import http.client, sys; c = http.client.HTTPConnection('localhost', 8001, timeout=10);"
        "c.request('GET', '/modelo', headers={'Authorization': 'Bearer ' + sys.argv[1]}); r = c.getresponse();"
        "print(r.read().decode() if r.status == 200 else '')"
    )
    said: list[str] = []

    def knows_the_key() -> bool:
        said[:] = stack.docker("exec", container, "python", "-c", script, key).split("\n", 1)
        return said[0] != ""

    until_now(knows_the_key, seconds=30)
    found: dict[str, Any] = json.loads(said[0])
    return found


async def test_inference_serves_and_starts_without_mlflow(stack: ComposeStack, key: str) -> None:
    await asyncio.to_thread(stack.up, gateway=2, inference=2, recorder=2)
    ops = stack.key("ops")
    states = [model_state(stack, container, ops) for container in stack.containers("inference")]
    (served,) = {state["sirve"]["digest"] for state in states}
    for state in states:
        assert (state["registro"]["url"], state["registro"]["callado_desde"]) == ("http://mlflow:5000", None)
        assert state["produccion"] == state["sirve"]["version"]
    await asyncio.to_thread(stack.compose, "kill", "mlflow")
    first = stack.containers("inference")[0]
    async with load(stack.url, api_key=key) as account:
        await answers(account, 100)
        await asyncio.to_thread(stack.docker, "restart", first)
        await until(lambda: stack.health(first) == "healthy", seconds=60)
        await answers(account, 100)
    assert account.rejected == []
    state = model_state(stack, first, ops)
    assert (state["sirve"]["digest"], state["registro"]["visto"]) == (served, None)
    await keeps_everything(stack, account)
    await asyncio.to_thread(stack.up, gateway=2, inference=2, recorder=2)
    await until(lambda: model_state(stack, first, ops)["registro"]["visto"] is not None, seconds=30)


def test_the_history_of_promotions_is_read_where_training_runs(stack: ComposeStack) -> None:
    said = stack.compose("run", "--rm", "-T", "--no-deps", "training", "train", "history")
    assert "production" in said


def test_a_version_names_the_commit_of_its_image(stack: ComposeStack) -> None:
    show = "cat var/models/*/production/manifest.json"
    said = stack.compose("run", "--rm", "-T", "--no-deps", "training", "sh", "-c", show)
    manifest = json.loads(said)
    assert (manifest["git_commit"], manifest["git_dirty"]) == (COMMIT, False)


def test_with_a_certificate_the_balancer_speaks_tls_and_refuses_clear_text(stack: ComposeStack) -> None:
    certificate = self_signed(stack.folder / "var/compose/tls/predecir.pem")
    settings = stack.folder / ".env"
    before = settings.read_text()
    settings.write_text(f"{before}PREDECIR_TLS=1\n")
    try:
        stack.compose("up", "-d", "--wait", "--no-build", "haproxy")
        with httpx.Client(base_url=stack.tls_url, verify=ssl.create_default_context(cadata=certificate)) as client:
            until_now(lambda: client.get("/health/ready").status_code == 200, seconds=60)
            rejected = client.post("/predecir", json=PATIENT)
        assert (rejected.status_code, "strict-transport-security" in rejected.headers) == (401, True)
        assert httpx.post(f"{stack.url}/predecir", json=PATIENT).status_code == 403
    finally:
        settings.write_text(before)
        stack.compose("up", "-d", "--wait", "--no-build", "haproxy")


async def test_the_stack_starts_from_what_it_verified_when_mlflow_does_not_start(stack: ComposeStack, key: str) -> None:
    await asyncio.to_thread(stack.make, "down")
    forget = ("run", "--rm", "-T", "--no-deps", "training", "rm", "/var/predecir/trust/bundle.pub")
    await asyncio.to_thread(stack.compose, *forget)  # as if the first job had been killed before it left the key
    hung = stack.folder / "mlflow-hangs.yml"
    hung.write_text("services: {mlflow: {command: [sleep, infinity], stop_grace_period: 1s}}\n")
    try:
        files = ("-f", "docker-compose.yml", "-f", hung.name)
        await asyncio.to_thread(stack.compose, *files, "up", "-d", "--no-build")
        await until(lambda: {stack.health(one) for one in stack.containers("inference")} == {"healthy"}, seconds=90)
        async with load(stack.url, api_key=key) as account:
            await answers(account, 10)
    finally:
        await asyncio.to_thread(stack.compose, "rm", "--stop", "--force", "mlflow")
        await asyncio.to_thread(stack.up)
    await keeps_everything(stack, account)


async def test_down_and_up_again_keeps_everything(stack: ComposeStack, key: str) -> None:
    async with load(stack.url, api_key=key) as account:
        await answers(account, 200)
        stopping = asyncio.create_task(asyncio.to_thread(stack.make, "down"))
        await stopping
    model = "SELECT modelo_digest FROM predicciones ORDER BY timestamp DESC LIMIT 1"
    await asyncio.to_thread(stack.make, "up")
    (before,) = stack.sql(model)
    await keeps_everything(stack, account)
    async with load(stack.url, api_key=key) as account:
        await answers(account, 10)
    await keeps_everything(stack, account)
    assert stack.sql(model) == [before]
    await the_accounts_close(stack)
