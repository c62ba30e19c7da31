"""The server profile for benchmarks, with its own broker and database, and the CPU time of each part."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from shared.broker.topology import topology
from tests.support.broker import Broker
from tests.support.postgres import PostgresDatabase, PostgresServer, postgres_server
from tests.support.processes import Process, cpu_seconds, family, total
from tests.support.rabbitmq import RabbitServer, rabbit_server
from tests.support.stack import Stack, server_stack


@contextmanager
def server_profile(folder: Path, model: Path) -> Iterator[Stack]:
    """Run the server profile in `folder` on `model`, without a recorder, on a durable PostgreSQL."""
    with (
        rabbit_server() as rabbit,
        postgres_server(durable=True) as postgres,
        services_on(rabbit, postgres, folder, model) as stack,
    ):
        yield stack


@contextmanager
def services_on(
    rabbit: RabbitServer, postgres: PostgresServer, folder: Path, model: Path, *, replicas: int | None = None
) -> Iterator[Stack]:
    """Run gateway and inference in `folder`, on servers that already run and on a new database."""
    broker = Broker(rabbit, rabbit.url, topology("predecir"))
    database = PostgresDatabase(postgres, postgres.new_database())
    with server_stack(folder, broker, model=model, replicas=replicas, database=database) as stack:
        yield stack


def rows(stack: Stack) -> int:
    """Return the number of predictions in PostgreSQL."""
    return int(_database(stack).query("SELECT count(*) FROM predicciones")[0])


def cpu_by_part(stack: Stack, recorder: Process) -> dict[str, float]:
    """Return the CPU time that each part has used, in seconds."""
    generator = resource.getrusage(resource.RUSAGE_CHILDREN)
    balancer = {} if stack.balancer is None else {"balancer": cpu(stack.balancer.process)}
    return {
        "gateway": cpu(stack.gateway.process),
        "inference": sum(cpu(replica.process) for replica in stack.replicas),
        "recorder": cpu(recorder.process),
        **balancer,
        "RabbitMQ": cpu(psutil.Process(stack.broker.server.pid)),
        "PostgreSQL": cpu(psutil.Process(_database(stack).server.pid)),
        "load generator": generator.ru_utime + generator.ru_stime,
    }


def server_processes(stack: Stack, recorder: Process) -> list[psutil.Process]:
    """Return every process of the profile: services, broker and database, with their children."""
    servers = (psutil.Process(stack.broker.server.pid), psutil.Process(_database(stack).server.pid))
    services = (stack.gateway.process, stack.inference.process, recorder.process)
    return [process for root in (*services, *servers) for process in family(root)]


def cpu(process: psutil.Process) -> float:
    """Return the CPU time of `process` and its running descendants, in seconds."""
    return total(family(process), cpu_seconds)


def machine_cpu() -> float:
    """Return the CPU time that the whole machine has used, in seconds; time taken by its host counts as used."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq + times.steal)


def _database(stack: Stack) -> PostgresDatabase:
    if stack.database is None:
        raise ValueError("this stack has no PostgreSQL database")
    return stack.database
