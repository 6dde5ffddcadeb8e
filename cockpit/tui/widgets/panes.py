"""The panes next to charts and tables: runs in training, an experiment's state, devices, the queue."""

from collections.abc import Mapping, Sequence

from rich.text import Text

from cockpit.requests.remaining import Remaining, bar
from cockpit.text import words
from cockpit.views import runs
from engine.store import database
from engine.store.row_types import Detail, Experiment, Load, Worker

GIB = 2**30
BARS = "▁▂▃▄▅▆▇█"
FRESH_SECONDS = 15.0  # of a load: three samples
GAUGE = 4  # columns
MANY = 2  # devices, above which each has only one line


def sparkline(values: Sequence[float], width: int) -> str:
    """The last values as bars between their minimum and maximum."""
    values = values[-width:]
    least, span = min(values, default=0.0), max(values, default=0.0) - min(values, default=0.0)
    return "".join(BARS[round((value - least) / span * (len(BARS) - 1)) if span else 0] for value in values)


def training(present: Sequence[Worker], running: Mapping[int, Sequence[float]]) -> Text:
    """The runs of an experiment in training, with their accuracies so far.

    `present` are all workers; `running` has the test accuracies of the experiment's runs by id.
    """
    own = [row for row in present if row.run_id in running]
    names = runs.named(own)
    blocks = [_run(row, names[row.digest], running[row.run_id]) for row in own if row.run_id and row.digest]
    return Text("\n\n").join(blocks) if blocks else Text("nothing is being trained for it now", "dim")


def _run(row: Worker, name: str, accuracies: Sequence[float]) -> Text:
    lines = [Text(f"{words.state(row.state)}  {name}", "bold" if row.state == "training" else "")]
    if row.message:
        lines.append(Text(row.message))
    memory = " + ".join(f"{size / GIB:.1f}" for size in (row.memory, row.device_memory) if size is not None)
    lines.append(Text(f"{words.hardware(row)}, pid {row.pid}" + (f", {memory} GiB" if memory else "")))
    if row.epoch is not None and row.batches:
        speed, left = row.images_per_second, runs.seconds_left(row)
        parts = [f"epoch {row.epoch + 1}/{row.epochs}", f"batch {row.batch}/{row.batches}"]
        parts += [f"{speed:,.0f} images/s"] if speed else []
        parts += [f"{words.duration(left)} left"] if left is not None else []
        lines.append(Text(", ".join(parts)))
    if row.loss is not None and row.accuracy is not None:
        lines.append(Text(f"loss {row.loss:.3f}, training accuracy {row.accuracy:.1%}"))
    if accuracies:
        lines.append(Text(f"test {accuracies[-1]:.1%} {sparkline(accuracies, 24)}"))
    return Text("\n").join(lines)


def experiment(detail: Detail, labels: Mapping[str, str]) -> Text:
    """The progress, errors, notes and tags of an experiment. `labels` are its curves' (`names.of_curves`)."""
    reason = f" ({detail.reason})" if detail.reason else ""
    lines = [f"{words.state(detail.status)}{reason}, {detail.done} of {detail.runs} runs done"]
    halted = detail.state if detail.state != "active" else "halted"
    counts = {"waiting": detail.waiting, "running": detail.running, halted: detail.halted}
    open_ = [f"{count} {status}" for status, count in counts.items() if count]
    if said := ", ".join([*open_, *filter(None, [words.problems(detail)])]):
        lines.append(said)
    if detail.tags:
        lines.append("tags: " + ", ".join(detail.tags))
    if detail.notes:
        lines += ["", detail.notes]
    lines.append("")
    for curve in detail.by_curve:
        waits = f", waits for {curve.waits_for}" if curve.waits_for else ""
        lines.append(f"{curve.done:>3}/{curve.runs:<3} {labels[curve.name]}{waits}")
    if detail.errors:
        lines += ["", *map(words.error, detail.errors)]
    return Text("\n".join(lines))


def devices(loads: Sequence[Load]) -> Text:
    """The load of hosts and cards: a line each, and a second one unless they are many; names of several hosts."""
    lines, several, host = [], len({row.host for row in loads}) > 1, None
    for row in loads:
        if several and row.host != host:
            lines.append(host := row.host)
        full = round(row.busy * GAUGE)
        memory = f"{row.memory_used / GIB:.0f}/{row.memory_total / GIB:.0f}G"
        lines.append(f"{row.device:<6} {'█' * full}{'░' * (GAUGE - full)}{row.busy:>5.0%} {memory}")
        if len(loads) <= MANY and (rest := _rest(row)):
            lines.append(f"  {rest}")
    return Text("\n".join(lines) or "load appears once a worker runs")


def _rest(row: Load) -> str:
    parts = [f"{row.celsius:.0f} °C"] if row.celsius is not None else []
    parts += [f"{row.watts:.0f} W"] if row.watts is not None else []
    age = database.age(row.at)
    return "  ".join([*parts, *([f"{words.duration(age)} ago"] if age > FRESH_SECONDS else [])])


def workers(present: Sequence[Worker], nobody: str) -> Text:
    """The workers and their runs; the text `nobody` if no worker is present."""
    lines, names = [], runs.named(present)
    for row in present:
        lines.append(f"{words.state(row.state)}  {words.device(row)}")
        if row.digest:
            lines.append(f"  {names[row.digest]}")
    return Text("\n".join(lines) or nobody)


def queued(experiments: Sequence[Experiment], left: Remaining, most: int) -> Text:
    """At most `most` unfinished experiments, in the order of claims."""
    unfinished = [row for row in experiments if row.status in ("running", "waiting", "paused")]
    unfinished.sort(key=lambda row: (row.status == "paused", -row.priority))
    lines = []
    for row in unfinished[:most]:
        time = left.of.get(row.name, "")
        lines.append(f"{words.state(row.status)}  {row.name}")
        lines.append("  ".join(filter(None, [f"{bar(row.done, row.runs)} {row.done}/{row.runs}", time])))
    if len(unfinished) > most:
        lines.append(f"and {len(unfinished) - most} more")
    return Text("\n".join(lines) or "nothing is queued")
