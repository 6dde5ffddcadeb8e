"""The details of one run as text: its status, attempts, configuration and files."""

from collections.abc import Iterator, Mapping
from textwrap import indent
from typing import Any

from msgspec import structs
from rich.text import Text

from cockpit.text import words
from engine.errors import InputError
from engine.recipes import Run
from engine.store import database
from engine.store.live import Live
from engine.store.row_types import Attempt
from engine.store.run_details import RunDetail

HEADINGS = (
    "epoch", "loss", "validation loss", "test loss", "training", "validation", "test", "top 5", "learning rate",
    "images/s",
)  # fmt: skip
ADVICE = {
    "failed": "R trains it again, as a new attempt.",
    "blocked": "Fix the run that it depends on; R on that run then trains both.",
    "diverged": "It would diverge again: queue it with another learning rate.",
}


def heading(run_detail: RunDetail, name: str) -> Text:
    """The identity and the status of a run, with the reason."""
    run = run_detail.run
    accuracy = f", test accuracy {run.test_accuracy:.2%}" if run.test_accuracy is not None else ""
    accuracy += f" ({run.untrained_accuracy:.2%} untrained)" if run.untrained_accuracy is not None else ""
    seconds = f", trained in {words.duration(run.seconds)}" if run.seconds else ""
    lines = [Text(name, "bold"), Text(f"{words.state(run.status)}{accuracy}{seconds}")]
    why = words.line((run.error or "").strip().rpartition("\n")[2]) if run.status in ("failed", "diverged") else ""
    waits = run.waits_for and f"{'depends on' if run.status == 'blocked' else 'waits for'} {run.waits_for}"
    lines += [Text(text, "bold") for text in (why, waits) if text]
    lines += [Text(ADVICE[run.status])] if run.status in ADVICE else []
    if run.flops_remaining is not None:
        lines.append(Text(f"{run.flops_remaining:.2%} of the network's FLOPs remain"))
    of = ", ".join(name for _, name in run_detail.experiments) or "no experiment"
    lines.append(Text(f"run {run.digest[:12]}, of {of}", "dim"))
    return Text("\n").join(lines)


def training(run_detail: RunDetail) -> Live | None:
    """Loss and accuracy by epoch, for `epochs.draw`; None before an epoch has ended."""
    known = [(one.train_loss, one.train_accuracy) for one in run_detail.epochs]
    points = [(loss, accuracy) for loss, accuracy in known if loss is not None and accuracy is not None]
    if not points:
        return None
    losses, accuracies = zip(*points, strict=True)
    return Live(
        run_detail.run.level, 1.0, accuracies[-1], max(run_detail.epochs_planned, len(points)), losses, accuracies
    )


def by_epoch(run_detail: RunDetail) -> Text:
    """A line for each epoch, the last first: losses, accuracies and learning rate."""
    if not run_detail.epochs:
        return Text("no epoch has ended", "dim")
    rows: list[tuple[str, ...]] = [HEADINGS]
    for one in reversed(run_detail.epochs):
        accuracies = (one.train_accuracy, one.validation_accuracy, one.test_accuracy, one.test_top5)
        numbers = [f"{value:.2%}" if value is not None else "" for value in accuracies]
        losses = (one.train_loss, one.validation_loss, one.test_loss)
        shown = [f"{value:.4f}" if value is not None else "" for value in losses]
        rate = f"{one.learning_rate:g}" if one.learning_rate is not None else ""
        speed = f"{one.images_per_second:,.0f}" if one.images_per_second else ""
        rows.append((str(one.epoch + 1), *shown, *numbers, rate, speed))
    kept = [place for place in range(len(HEADINGS)) if any(row[place] for row in rows[1:])]
    widths = {place: max(len(row[place]) for row in rows) for place in kept}
    lines = ["  ".join(row[place].rjust(widths[place]) for place in kept) for row in rows]
    return Text.assemble((lines[0], "bold"), *(f"\n{line}" for line in lines[1:]))


def about(run_detail: RunDetail, command: str) -> Text:
    """Attempts with their errors, ticket, configuration, files, and the command that trains the run again."""
    parts = [
        _section("Attempts", _attempts(run_detail)),
        _section("Ticket and configuration", _settings(run_detail)),
        _section("Files", [f"{one.kind}  {words.size(one.bytes)}  {one.sha256[:12]}" for one in run_detail.files]),
        _section("Train it again in a database of its own", [command] if command else []),
    ]
    return Text("\n\n").join(part for part in parts if part)


def _section(title: str, lines: list[str]) -> Text:
    return Text.assemble((title, "bold"), *(f"\n{words.visible(line)}" for line in lines)) if lines else Text()


def _attempts(run_detail: RunDetail) -> list[str]:
    lines = []
    for one in reversed(run_detail.attempts):
        where = f" on {words.hardware(one)}, pid {one.pid}" if one.pid else ""
        lines.append(f"{one.attempt}: {one.outcome or 'under way'}{where}, {_when(one)}")
        lines += [indent(one.error.rstrip(), "   ")] if one.error else []
    return lines


def _when(one: Attempt) -> str:
    if not one.started_at:
        return "start unknown"
    began = f"{words.duration(database.age(one.started_at))} ago"
    if not one.ended_at:
        return f"since {began}"
    return f"{began}, for {words.duration(database.age(one.started_at) - database.age(one.ended_at))}"


def _settings(run_detail: RunDetail) -> list[str]:
    try:
        run = Run.from_json(run_detail.recipe)
    except InputError as error:
        return [str(error)]
    ticket = {"ticket": run.ticket.name, "level": run.ticket.level}
    lines = list(_lines(ticket, run_detail.data_sets))
    if run.chain is not None:
        rule = structs.asdict(run.chain.rule)
        source = structs.asdict(run.chain.training)
        same = {key for key, value in structs.asdict(run.training).items() if value == source[key]}
        lines += _lines({**rule, "found on": source.pop("dataset")}, run_detail.data_sets)
        lines += _lines({f"found with {key}": value for key, value in source.items() if key not in same}, {})
    return lines + list(_lines(structs.asdict(run.training), run_detail.data_sets))


def _lines(values: Mapping[str, Any], data_sets: Mapping[str, str]) -> Iterator[str]:
    for key, value in values.items():
        said = data_sets.get(value, value) if isinstance(value, str) else value
        said = " ".join(map(str, said)) if isinstance(said, tuple) else said
        yield f"{key.replace('_', ' '):<18} {'none' if said is None else said}"
