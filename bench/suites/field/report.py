"""The comparison with other servers as docs/benchmarks/field.{json,md,svg} and as README's table."""

from collections.abc import Iterator, Sequence
from typing import Any

from bench.lib.plots import bars, draw
from bench.lib.reports import FOLDER, table, write_report
from bench.suites.field.aims import AT, Result, aims, judged_p99, results
from bench.suites.field.competitors import TOOLS
from bench.suites.field.measurement import AT_RATE, CONNECTIONS, RATES
from tests.support.machine import describe
from tests.support.paths import ROOT

FROM, TO = "<!-- `make bench` writes from here -->", "<!-- to here -->"
_OURS = ("local", "server")


def line(name: str, result: dict[str, Any]) -> str:
    """Return the result of one server in a line, for the progress of the run."""
    if "error" in result:
        return f"{name:21} could not be measured: {result['error']}"
    one = Result(name, result)
    rates = " ".join(f"{one.closed(count)['rate']:,.0f}" for count in CONNECTIONS)
    return (
        f"{name:21} {rates} requests/s at {CONNECTIONS} connections; {one.cpu(AT):.2f} CPU s/1,000; "
        f"{one.memory:.0f} MiB; {one.ready:.1f} s to start"
    )


def write(report: dict[str, Any]) -> str:
    """Write the report, its picture and README's table; return the page."""
    page = "\n".join(_page(report)) + "\n"
    write_report("field", report, page, headline=_headline(report))
    _draw(results(report))
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text().partition(FROM)
    readme.write_text(f"{before}{FROM}\n{summary(report)}{TO}{rest.partition(TO)[2]}")
    return page


def summary(report: dict[str, Any]) -> str:
    """Return README's table: this system, each tool with its faster model, the simplest design."""
    machine, measured = report["machine"], results(report)
    accounts = [one.measurements["kept"] for one in measured if one.name in _OURS]
    answered = sum(account["answered"] for account in accounts)
    missing = sum(lost(account) for account in accounts)
    columns = (f"at {AT} connections", "requests/s", "p99 ms", "CPU s per 1,000", "MiB", "stores its answers")
    kept = dict.fromkeys(_OURS, "yes, fsync before the answer") | {"simplest": "in the background, may lose some"}
    rows = [(*_short(one), kept.get(one.name, "no")) for one in _best(measured)]
    lines = [
        (
            f"Comparison with model servers: the same trained model on {machine['cores']} cores "
            f"({machine['processor']}), which the load generator shares. Each of the other servers is shown with the "
            "faster of two models, the scikit-learn object or our ONNX file."
        ),
        "",
        *table(columns, rows),
        "",
        (
            f"This system sent {answered:,} answers in these runs, and {_lost_answers(missing)}. `make bench` repeats "
            "the comparison. Versions, configurations and all figures are in "
            "[docs/benchmarks/field.md](docs/benchmarks/field.md), the other benchmarks in "
            "[docs/benchmarks](docs/benchmarks/README.md)."
        ),
        "",
    ]
    return "\n".join(lines)


def lost(account: dict[str, int]) -> int:
    """Return the number of answers in `account` that were not recorded."""
    return max(0, account["answered"] - account["recorded"])


def _lost_answers(number: int) -> str:
    return "no answer was lost" if number == 0 else f"{number:,} answers were lost"


def _best(measured: Sequence[Result]) -> Iterator[Result]:
    """Yield the result of each tool, with the faster of its models."""
    for title in dict.fromkeys(one.title for one in measured):
        yield max((one for one in measured if one.title == title), key=lambda one: one.rate)


def _short(one: Result) -> tuple[str, ...]:
    name = one.title if one.name in (*_OURS, "simplest") else f"{one.title}, {one.model}"
    return name, f"{one.rate:,.0f}", f"{one.closed(AT)['p99_ms']:,.1f}", f"{one.cpu(AT):.2f}", f"{one.memory:,.0f}"


def _headline(report: dict[str, Any]) -> str:
    measured = {one.name: one for one in results(report)}
    reached = [reached for *_, reached in aims(list(measured.values()))]
    return (
        f"{measured['local'].rate:,.0f} requests/s at {AT} connections (local profile), "
        f"{measured['server'].rate:,.0f} (server profile), every answer recorded; the fastest other server "
        f"{max(one.rate for one in measured.values() if one.name not in _OURS):,.0f}, records nothing. "
        f"Aims reached: {sum(reached)} of {len(reached)}."
    )


def _draw(measured: Sequence[Result]) -> None:
    rates = {one.label: one.rate for one in measured}
    slow = {one.label: one.closed(AT)["p99_ms"] for one in measured}
    draw(
        FOLDER / "field.svg",
        bars(f"Answers, {AT} connections", "requests/s", rates),
        bars(f"Slowest hundredth, {AT} connections", "p99, ms", slow, log="x"),
        height=5.0,
    )


def _page(report: dict[str, Any]) -> Iterator[str]:
    measured = results(report)
    yield from ("# Comparison with other model servers", "", describe(report["machine"]))
    yield (
        "Each server runs alone, one after the other, warmed, with the same trained model and the same load generator "
        f"(wrk) on the same cores; {report['seconds']} s per figure. One fsync takes {report['fsync_ms']:.2f} ms. "
        "Before the measurement, each server had to return the model's probabilities to 1e-4. This system receives a "
        "patient as a doctor sends it, validates it, and answers when the answer is on disk. The other servers receive "
        "the encoded row of numbers that the model takes, and store nothing."
    )
    yield from ("", "![Requests per second, and p99](field.svg)", "", *_speed(measured), "", *_aims(measured), "")
    yield from ("## Equal load", "", *_equal(measured), "", "## Cost", "", *_costs(report, measured), "")
    yield from ("## Features and configuration", "", *_nature(), "", *_missing(report))


def _speed(measured: Sequence[Result]) -> list[str]:
    columns = ["requests/s (p99 ms), connections:", *map(str, CONNECTIONS), "p50 ms at 1", f"at {AT}", "failed"]
    rows = [
        (
            one.label,
            *(f"{one.closed(count)['rate']:,.0f} ({one.closed(count)['p99_ms']:,.1f})" for count in CONNECTIONS),
            f"{one.closed(1)['p50_ms']:.2f}",
            f"{one.closed(AT)['p50_ms']:.2f}",
            f"{one.failed}",
        )
        for one in measured
    ]
    return table(columns, rows)


def _aims(measured: Sequence[Result]) -> list[str]:
    rows = [(what, figure, aim, "yes" if reached else "no") for what, figure, aim, reached in aims(measured)]
    return [
        *table(("aim", "figure", "aimed at", "reached"), rows),
        "",
        f"The figures are requests per second of the local profile at {AT} connections, as multiples of theirs.",
    ]


def _equal(measured: Sequence[Result]) -> list[str]:
    columns = ["p99 ms (p50) at", *(f"{rate:,}/s" for rate in RATES)]
    rows = [
        (
            one.label,
            *(
                f"{measurements['p99_ms']:.1f} ({measurements['p50_ms']:.2f})"
                if (measurements := one.at_rate(rate))
                else "no"
                for rate in RATES
            ),
        )
        for one in measured
    ]
    worse = [f"{their.label} at {rate:,}/s" for rate, their, worse in judged_p99(measured) if worse]
    return [
        (
            f'Every server gets the same requests per second at even intervals over {AT_RATE} connections; "no": it '
            "does not reach that rate."
        ),
        "",
        *table(columns, rows),
        "",
        f"This system's p99 (local profile) is higher than that of: {', '.join(worse) or 'none'}.",
    ]


def _costs(report: dict[str, Any], measured: Sequence[Result]) -> list[str]:
    columns = (f"at {AT} connections", "CPU s per 1,000 requests", "memory MiB", "processes", "start s", "disk MiB")
    disk = report["environments_mib"]
    rows = [
        (
            one.label,
            f"{one.cpu(AT):.2f}",
            f"{one.memory:,.0f}",
            f"{one.processes}",
            f"{one.ready:.1f}",
            f"{disk.get(one.name.partition('-')[0], disk['predecir']):,.0f}",
        )
        for one in measured
    ]
    return [
        (
            "All processes together. CPU: user and system time. Memory: proportional set size after the load. Start: "
            "time until the first correct answer. Disk: the environment with its Python packages. CPU and memory of "
            "the server profile include RabbitMQ, PostgreSQL and the recorder; its start is the gateway's, while these "
            "run."
        ),
        "",
        *table(columns, rows),
    ]


def _nature() -> list[str]:
    rows = [
        (
            "this system",
            "the patient: types, ranges, rules",
            "yes",
            "yes: on disk before the answer, then one row in a database",
            "default settings; the server profile has one gateway, one inference replica and one recorder",
        ),
        *(
            (f"{tool.title} {tool.environment.version(tool.package)}", tool.validates, tool.batches, "no", tool.setup)
            for tool in TOOLS
        ),
        (
            "the simplest design",
            "the patient: types, ranges, rules",
            "no",
            "after the answer, in the background: lost in a crash",
            "FastAPI, the unpickled model and `BackgroundTasks`, one uvicorn worker",
        ),
    ]
    columns = ("", "validates", "batches", "stores", "configuration")
    dashes = ("---",) * len(columns)
    lines = [f"| {' | '.join(cells)} |" for cells in (columns, dashes, *rows)]
    return [
        "Every server runs with `OMP_NUM_THREADS=1`: the scikit-learn model is fastest with it on two busy cores.",
        "",
        *lines,
    ]


def _missing(report: dict[str, Any]) -> Iterator[str]:
    for name, result in report["contenders"].items():
        if "error" in result:
            yield f"`{name}` could not be measured: {result['error'].splitlines()[-1]}"
        elif result["kept"]:
            kept = result["kept"]
            yield (
                f"`{name}` answered {kept['answered']:,} requests in this run; recorded {kept['recorded']:,}, lost "
                f"{lost(kept)}."
            )
