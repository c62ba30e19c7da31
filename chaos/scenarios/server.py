"""The server profile under faults: start, load, break, heal, drain, and compare answers with rows."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from chaos.analysis.backlog import Watcher
from chaos.analysis.recorded_rows import fetched, rows
from chaos.analysis.recovery import recoveries
from chaos.analysis.verdict import judge
from chaos.faults.foreign_publisher import ForeignPublisher
from chaos.faults.hostile_publisher import FAR, HostilePublisher
from chaos.faults.injection import HELD, KILLS
from chaos.faults.schedule import Schedule
from chaos.load.client import read
from chaos.load.plan import Plan, clients
from chaos.stack import SupervisedStack, supervised_stack
from chaos.stopping import in_thread
from shared.broker.topology import topology
from shared.cancellation import background
from tests.support.enrolment import SECRET
from tests.support.processes import command
from tests.support.waiting import until

POISON = "poison"
"""The category of faults that are messages in the queue."""
PUBLISHER = "publisher"
"""The category of false messages in the name of gateways."""
_HOSTILE_SECONDS = 1
_POISON_SECONDS = 2
_DOUBLED_SHARE = 0.1
_WARMING_SECONDS = 3
_DRAIN_SECONDS = 300
_IDS_AT_ONCE = 500
"""Rows of the quarantine in one command, which takes milliseconds for each."""
_SETTLE_SECONDS = 180
"""Longer than the 25 s between two reports of a gateway."""


async def run_server(plan: Plan, folder: Path) -> dict[str, Any]:
    """Run `plan` on the server profile in `folder`; return the report, without the machine.

    Raises:
        TimeoutError: the system did not start, or did not drain.

    """
    async with supervised_stack(folder) as stack:
        watcher = Watcher([each.url for each in stack.services["gateway"]], stack.around.rabbit.url)
        schedule = Schedule(stack, random.Random(plan.seed), plan.chosen(KILLS), plan.chosen(HELD))  # noqa: S311 - repeatable
        async with background(watcher.run()):
            began = time.monotonic()
            async with clients(plan, stack.url, folder) as files, _disturbed(plan, stack) as (publisher, hostile):
                await asyncio.sleep(_WARMING_SECONDS)
                await schedule.run(kills=plan.kills, seconds=plan.seconds)
                asking = time.monotonic() - began
            drained = await _drained(watcher)
            closed = await settles(stack.services["recorder"][0].url, hostile.gateway_id)
        requests = [line for file in files for line in read(file)]
        await _release(stack, folder, hostile.gateway_id)
        recorded = {row.id: row for row in await rows(stack)}
        aside = Counter(await _set_aside(stack))
        false = await _false_messages(hostile, stack, aside)
        poison = _poison(publisher, set(recorded), aside, Counter(body for sent in hostile.sent for body in sent.aside))
        of_no_request = [
            *(event_id for sent in hostile.sent for event_id in (*sent.false_ids, *sent.own_ids)),
            *(event_id for sent in publisher.sent for event_id in sent.recorded),
        ]
        for event_id in of_no_request:
            recorded.pop(event_id, None)
        verdict = judge(requests, recorded.values())
        readied = {process.name: process.readied for process in stack.processes}
        return {
            "profile": "server",
            "plan": {**asdict(plan), "faults": sorted(plan.faults)},
            "verdict": asdict(verdict),
            "holds": verdict.holds
            and closed
            and not any(poison[defect] for defect in ("missing", "unexpected"))
            and not any(false[defect] for defect in ("missing", "believed", "counted", "unnamed")),
            "answers_per_second": verdict.answered / asking,
            "faults": recoveries(schedule.injected, requests, watcher.samples, readied),
            "kills": schedule.killed,
            "drain_seconds": drained,
            "largest_backlog": max(sample.backlog or 0 for sample in watcher.samples),
            "ended": {process.name: process.ended for process in stack.processes},
            "account_closes": closed,
            "account": await account(stack.services["recorder"][0].url),
            "poison": poison,
            "publisher": false,
        }


@asynccontextmanager
async def _disturbed(plan: Plan, stack: SupervisedStack) -> AsyncIterator[tuple[ForeignPublisher, HostilePublisher]]:
    """Publish poison and second deliveries, and false messages meanwhile, if `plan` has these categories."""
    url, names = stack.around.rabbit.url, topology("predecir")
    hostile = HostilePublisher(url, names, SECRET, pause_seconds=_HOSTILE_SECONDS)
    publisher = ForeignPublisher(
        url,
        names,
        SECRET,
        seed=plan.seed,
        poison_seconds=_POISON_SECONDS,
        doubled_share=_DOUBLED_SHARE,
    )
    async with (
        publisher.running(_DRAIN_SECONDS) if POISON in plan.faults else nullcontext(),
        background(hostile.run()) if PUBLISHER in plan.faults else nullcontext(),
    ):
        yield publisher, hostile


async def _false_messages(hostile: HostilePublisher, stack: SupervisedStack, aside: Counter[bytes]) -> dict[str, Any]:
    """Compare what the database has with what the hostile publisher sent.

    `missing`: confirmed bytes that are not in quarantine; `believed`: false events that are rows; `counted`: accounts
    of which a false number changed a sum; `unnamed`: accounts that do not name a false number.
    """
    false_ids = {event_id for sent in hostile.sent for event_id in sent.false_ids}
    rows_of_events = await fetched(stack, "SELECT id::text FROM predicciones UNION ALL SELECT id::text FROM resultados")
    accounts = await account(stack.services["recorder"][0].url)
    own = [each for each in accounts if each["gateway_id"] == hostile.gateway_id]
    return {
        "sent": hostile.kinds.total(),
        "kinds": dict(hostile.kinds),
        "quarantined": len({body for sent in hostile.sent for body in sent.aside} & aside.keys()),
        "missing": len({body for sent in hostile.confirmed for body in sent.aside} - aside.keys()),
        "believed": sum(row["id"] in false_ids for row in rows_of_events),
        "counted": sum(each["respondidas"] >= FAR for each in accounts)
        + sum(each["sin_respaldo"] is not None for each in accounts if each not in own),
        "unnamed": sum(each["sin_respaldo"] is None for each in own),
    }


def _poison(
    publisher: ForeignPublisher, recorded: Collection[str], aside: Counter[bytes], other: Counter[bytes]
) -> dict[str, Any]:
    """Compare the quarantine with the poison, byte by byte, and the good events of the poison with the rows.

    Of each body in `other` so many may be in quarantine as well.
    """
    wanted = Counter(sent.aside for sent in publisher.sent)
    good = [event_id for sent in publisher.sent for event_id in sent.recorded]
    return {
        "sent": sum(publisher.kinds.values()),
        "kinds": dict(publisher.kinds),
        "delivered_twice": publisher.doubled,
        "quarantined": (aside - other).total(),
        "missing": (wanted - aside).total() + sum(event_id not in recorded for event_id in good),
        "unexpected": (aside - wanted - other).total(),
    }


async def account(url: str) -> list[dict[str, Any]]:
    """Return the account of every gateway; empty while no recorder at `url` responds."""
    timeout = aiohttp.ClientTimeout(total=30)
    try:
        async with aiohttp.ClientSession(url, timeout=timeout) as session, session.get("/conciliacion") as response:
            response.raise_for_status()
            gateways: list[dict[str, Any]] = (await response.json())["gateways"]
            return gateways
    except (aiohttp.ClientError, OSError, TimeoutError):
        return []


async def settles(url: str, hostile: str | None = None) -> bool:
    """Wait until the account at `url` shows every answer up to now as recorded; return whether it did.

    The gateway `hostile` reports no more.
    """
    now = datetime.now(UTC)

    async def settled() -> bool:
        gateways = await account(url)
        reported = [
            datetime.fromisoformat(each["visto"])
            for each in gateways
            if each["visto"] and each["gateway_id"] != hostile
        ]
        # Answers after a gateway's last report can be in transit without showing in the account.
        return (
            bool(reported)
            and min(reported) > now
            and not any(each["en_outbox"] or each["en_camino"] or each["diferencia"] for each in gateways)
        )

    with suppress(TimeoutError):
        await until(settled, seconds=_SETTLE_SECONDS)
        return True
    return False


async def _drained(watcher: Watcher) -> float:
    """Wait until outboxes and queue are empty; return the seconds that took.

    A recorder may still have unrecorded events in memory.
    """
    started = time.monotonic()

    async def empty() -> bool:
        return (await watcher.look()).backlog == 0

    await until(empty, seconds=_DRAIN_SECONDS)
    return time.monotonic() - started


async def _release(stack: SupervisedStack, folder: Path, hostile: str) -> None:
    """Record what waits in quarantine because the clock of its gateway was ahead, as an operator does.

    Raises:
        RuntimeError: not all of it could be recorded.

    """
    ahead = await fetched(stack, "SELECT id, gateway_id FROM cuarentena WHERE motivo LIKE 'its time is more than %'")
    ids = [str(row["id"]) for row in ahead if row["gateway_id"] != hostile]
    environment = {"DATABASE_URL": stack.around.postgres.url(stack.around.database)}
    for start in range(0, len(ids), _IDS_AT_ONCE):
        words = ("services.recorder", "quarantine", "replay", "--clock-ahead", *ids[start : start + _IDS_AT_ONCE])
        ended = await in_thread(command, words, folder, environment)
        if ended.returncode:
            raise RuntimeError(f"chaos: a replay ended with {ended.returncode}: {ended.stderr}{ended.stdout}")


async def _set_aside(stack: SupervisedStack) -> list[bytes]:
    return [row["cuerpo"] for row in await fetched(stack, "SELECT cuerpo FROM cuarentena")]
