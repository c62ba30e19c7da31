"""The server profile under faults: start, load, break, heal, drain, and compare answers with rows."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
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
            closed = await settles(stack.services["recorder"][0].url)
        requests = [line for file in files for line in read(file)]
        await _release(stack, folder)
        recorded = {row.id: row for row in await rows(stack)}
        aside = await _set_aside(stack)
        false = await _false_messages(hostile, stack, aside)
        for event_id in (event_id for sent in hostile.sent for event_id in sent.false_ids):
            recorded.pop(event_id, None)  # rows of no request
        maybe_aside = {body for sent in hostile.sent for body in sent.aside}
        poison = _poison(publisher, set(recorded), [body for body in aside if body not in maybe_aside])
        for event_id in (event_id for sent in publisher.sent for event_id in sent.recorded):
            recorded.pop(event_id, None)  # the same
        verdict = judge(requests, recorded.values())
        readied = {process.name: process.readied for process in stack.processes}
        return {
            "profile": "server",
            "plan": {**asdict(plan), "faults": sorted(plan.faults)},
            "verdict": asdict(verdict),
            "holds": verdict.holds
            and closed
            and not (poison["missing"] or poison["unexpected"] or false["believed"] or false["claimed"]),
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
    hostile = HostilePublisher(url, names, pause_seconds=_HOSTILE_SECONDS)
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


async def _false_messages(hostile: HostilePublisher, stack: SupervisedStack, aside: Sequence[bytes]) -> dict[str, Any]:
    """Compare what the database has with what the hostile publisher sent.

    `believed`: false events that are rows; `claimed`: gateways whose account has a false number.
    """
    false_ids = {event_id for sent in hostile.sent for event_id in sent.false_ids}
    rows_of_events = await fetched(stack, "SELECT id::text FROM predicciones UNION ALL SELECT id::text FROM resultados")
    accounts = await account(stack.services["recorder"][0].url)
    return {
        "sent": hostile.kinds.total(),
        "kinds": dict(hostile.kinds),
        "quarantined": len({body for sent in hostile.sent for body in sent.aside} & set(aside)),
        "believed": sum(row["id"] in false_ids for row in rows_of_events),
        "claimed": sum(each["respondidas"] >= FAR for each in accounts),
    }


def _poison(publisher: ForeignPublisher, recorded: Collection[str], aside: Sequence[bytes]) -> dict[str, Any]:
    """Compare the quarantine with the poison, byte by byte, and the good events of the poison with the rows."""
    wanted, quarantined = Counter(sent.aside for sent in publisher.sent), Counter(aside)
    good = [event_id for sent in publisher.sent for event_id in sent.recorded]
    return {
        "sent": sum(publisher.kinds.values()),
        "kinds": dict(publisher.kinds),
        "delivered_twice": publisher.doubled,
        "quarantined": sum(quarantined.values()),
        "missing": (wanted - quarantined).total() + sum(event_id not in recorded for event_id in good),
        "unexpected": (quarantined - wanted).total(),
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


async def settles(url: str) -> bool:
    """Wait until the account at `url` shows every answer up to now as recorded; return whether it did."""
    now = datetime.now(UTC)

    async def settled() -> bool:
        gateways = await account(url)
        reported = [datetime.fromisoformat(each["visto"]) for each in gateways if each["visto"]]
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


async def _release(stack: SupervisedStack, folder: Path) -> None:
    """Record what waits in quarantine because the clock of its gateway was ahead, as an operator does."""
    ids = await fetched(stack, "SELECT id FROM cuarentena WHERE motivo LIKE 'its time is %'")
    environment = {"DATABASE_URL": stack.around.postgres.url(stack.around.database)}
    for start in range(0, len(ids), _IDS_AT_ONCE):
        listed = [str(row["id"]) for row in ids[start : start + _IDS_AT_ONCE]]
        words = ("services.recorder", "quarantine", "replay", "--clock-ahead", *listed)
        await in_thread(command, words, folder, environment)


async def _set_aside(stack: SupervisedStack) -> list[bytes]:
    return [row["cuerpo"] for row in await fetched(stack, "SELECT cuerpo FROM cuarentena")]
