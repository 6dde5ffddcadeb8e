"""`cockpit status`: the progress of the queue in one line."""

import json
from contextlib import closing

import typer

from cockpit.requests import remaining
from cockpit.requests.remaining import Remaining
from cockpit.requests.shared import Database, Json, to_read
from cockpit.text import hints, words
from engine.store import database, rows, workers
from engine.store.row_types import Worker

app = typer.Typer()


@app.command("status", epilog="Example: cockpit status --json")
def status(as_json: Json = False, db: Database = None) -> None:
    """Print one line: runs that have ended, workers, time left, failures. For the status bar of tmux."""
    with closing(database.reader(to_read(db))) as connection:
        counts, failed = rows.counts(connection), len(rows.errors(connection))
        present = [one for one in workers.present(connection) if one.state in workers.AT_WORK]
        left = remaining.read(connection) if present and counts.ended < counts.total else Remaining()
    training = sum(one.state == "training" for one in present)
    if as_json:
        found = {"ended": counts.ended, "total": counts.total, "failed": failed}
        found |= {"workers": len(present), "training": training}
        print(json.dumps({**found, "seconds_left": left.seconds}))
        return
    hints.say(_line(counts, failed, present, left))


def _line(counts: rows.Counts, failed: int, present: list[Worker], left: Remaining) -> str:
    if not counts.total:
        return "no experiments"
    problems = f", {failed} failed" if failed else ""
    if counts.ended == counts.total:
        return f"{words.state('failed' if failed else 'done')}: {words.count(counts.total, 'run')}{problems}"
    states = {one.state for one in present}
    state = next((words.state(one) for one in workers.AT_WORK if one in states), words.state("waiting"))
    said = [f"{state}: {counts.ended}/{counts.total} runs"]
    said.append(words.count(len(present), "worker") if present else "no workers")
    said += [f"{left.total} left"] if left.total not in ("", remaining.UNKNOWN) else []
    return ", ".join(said) + problems
