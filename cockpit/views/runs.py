"""Names of runs that are shown together, made of what differs between them."""

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from textwrap import indent

from cockpit.text import words
from cockpit.views import names
from cockpit.views.curves import DENSE
from engine.recipes import DEFAULT_RULE
from engine.store.row_types import Event, Run, Worker

Named = Run | Event | Worker
DIGITS = 8  # of a digest, for runs that do not differ otherwise

_FACTS: tuple[Callable[[Named], str], ...] = (
    lambda row: row.scope or "",
    lambda row: row.optimizer or "",
    lambda row: f"found by {row.source_optimizer}" if row.source_optimizer not in (None, row.optimizer) else "",
    lambda row: "" if row.ticket == DENSE or not row.level else f"prune rate {row.rate or DEFAULT_RULE.rate}",
    lambda row: f"learning rate {row.learning_rate:g}" if row.learning_rate is not None else "",
    lambda row: names.network(row.model, row.width) if row.model and row.width else "",
)


def called(row: Named) -> str:
    """A run in one line: source and target, ticket, level and seed."""
    return words.line(f"{names.ends(row)} {row.ticket}, level {row.level}, seed {row.seed}")


def event(row: Event) -> str:
    """An event (`history.events`) in one line, with its error below."""
    at = datetime.fromisoformat(row.at).astimezone()
    accuracy = f" {row.test_accuracy:.2%}" if row.test_accuracy is not None else ""
    where = f"{words.hardware(row)}, pid {row.pid}"
    text = f"{at:%Y-%m-%d %H:%M:%S}  {row.event + accuracy:<13}  {called(row)}"
    text += f"  (attempt {row.attempt}, {where}, run {row.digest[:12]})"
    return text + ("\n" + indent(row.error.rstrip(), "    ") if row.error else "")


def named(shown: Iterable[Named]) -> dict[str, str]:
    """The names of runs by digest: ticket, data sets, level and seed, as far as these differ.

    Scope, optimizers, rates and network are added if they differ, and digits of the digest if that is not enough.
    """
    rows = {row.digest: row for row in shown if row.digest}
    facts = [fact for fact in _FACTS if len({fact(row) for row in rows.values()} - {""}) > 1]
    found = {
        digest: ", ".join(filter(None, [called(row), *(fact(row) for fact in facts)])) for digest, row in rows.items()
    }
    count = Counter(found.values())
    return {digest: name if count[name] == 1 else f"{name} ({digest[:DIGITS]})" for digest, name in found.items()}


def seconds_left(row: Worker) -> float | None:
    """How long the training of a worker's run still takes at its pace of now; None where that is not known."""
    match row:
        case Worker(
            epoch=int(epoch),
            epochs=int(epochs),
            batch=int(batch),
            batches=int(batches),
            batch_size=int(batch_size),
            images_per_second=float(speed),
        ) if batches and speed:
            return max(0, (epochs - epoch) * batches - batch) * batch_size / speed
    return None
