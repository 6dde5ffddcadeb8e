"""`cockpit queue logs`: the events of experiments' runs."""

import json
import time
from contextlib import closing
from typing import Annotated

import typer

from cockpit.requests.shared import COUNT, Database, Json, Names, to_read, within
from cockpit.views import runs
from engine.store import database, history, queue, rows
from engine.store.row_types import Event

app = typer.Typer()

LOOK_SECONDS = 0.5
LATE_SECONDS = 60.0  # longest delay between an event and its record, by a worker that had to wait

MOVING = ("waiting", "running")


@app.command("logs", epilog="Example: cockpit queue logs digits --follow")
def logs(
    names: Names,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Follow the log until the experiments have ended.")
    ] = False,
    lines: Annotated[
        int | None, typer.Option("--lines", "-n", help="Show only the last N events.", callback=within(COUNT))
    ] = None,
    as_json: Json = False,
    db: Database = None,
) -> None:
    """Print each attempt at the runs of experiments: where it ran, how it ended, and the traceback of an error.
    For other output of workers, see the log file that `cockpit work --status` names.
    """
    with closing(database.reader(to_read(db))) as connection:
        ids = [queue.experiment_id(connection, name) for name in names]

        def look(since: str = "") -> list[Event]:
            found = {_key(event): event for one in ids for event in history.events(connection, one, since)}
            return sorted(found.values(), key=lambda event: event.at)

        found = look()
        _print(found if lines is None else found[max(0, len(found) - lines) :], as_json)
        seen = set(map(_key, found))
        while follow:
            moving = any(row.status in MOVING for one in ids for row in rows.experiments(connection, one))
            fresh = [event for event in look(database.now(-LATE_SECONDS)) if _key(event) not in seen]
            _print(fresh, as_json)
            seen |= set(map(_key, fresh))
            follow = moving
            time.sleep(LOOK_SECONDS if moving else 0)


def _key(event: Event) -> tuple[object, ...]:
    return event.run_id, event.attempt, event.claim, event.event


def _print(events: list[Event], as_json: bool) -> None:
    for event in events:
        print(json.dumps(event.as_json()) if as_json else runs.event(event), flush=True)
