"""Display names of data sets and curves, and hidden curves. No identity or digest depends on them."""

import json
import sqlite3

from engine.datasets.catalog import split_part
from engine.errors import InputError, chosen, quoted
from engine.recipes import Rule
from engine.store.database import transaction
from engine.store.queue import Outcome
from engine.store.row_types import CurveFacts

LONGEST = 40  # characters
WHAT = ("source", "target", "model", "width", "source_optimizer", "optimizer", "scope", "ticket", "title")


def checked(title: str) -> str:
    """The title without surrounding blanks. Raises InputError if it has control characters or is too long."""
    title = title.strip()
    if not title.isprintable() or len(title) > LONGEST:
        raise InputError(f"name {quoted(title)} is not allowed: give 1 to {LONGEST} printable characters")
    return title


def identity_of(connection: sqlite3.Connection, name: str) -> str | None:
    """The identity, without part, of the data set that experiments call `name`; None if none or several have it."""
    known = connection.execute("SELECT name, identity FROM datasets")
    wholes = {
        split_part(row["identity"])[0] for row in known if split_part(row["name"])[0] == name.removesuffix(".npz")
    }
    return wholes.pop() if len(wholes) == 1 else None


def name_data(connection: sqlite3.Connection, identity: str, title: str) -> Outcome:
    """Give a data set and all its parts a title; an empty one removes it."""
    base, title = split_part(identity)[0], checked(title)
    with transaction(connection):
        row = connection.execute("SELECT title FROM data_titles WHERE identity = ?", (base,)).fetchone()
        before = row["title"] if row else ""
        connection.execute("DELETE FROM data_titles WHERE identity = ?", (base,))
        if title:
            connection.execute("INSERT INTO data_titles (identity, title) VALUES (?, ?)", (base, title))
    return Outcome(before != title, title or "no display name")


def of_data(connection: sqlite3.Connection, experiment: str) -> dict[str, str]:
    """The titles of an experiment's data sets, by the experiment's name for each set."""
    titles = {row["identity"]: row["title"] for row in connection.execute("SELECT identity, title FROM data_titles")}
    row = connection.execute("SELECT definition FROM experiments WHERE name = ?", (experiment,)).fetchone()
    definition = json.loads(row["definition"]) if row and titles else {"sources": [], "targets": []}
    named = {
        data["name"]: split_part(data["identity"])[0] for key in ("sources", "targets") for data in definition[key]
    }
    return {name: titles[base] for name, base in named.items() if base in titles}


def of_all_data(connection: sqlite3.Connection) -> dict[tuple[str, str], str]:
    """The titles of all data sets, by experiment and the experiment's name for each set."""
    names = [row["name"] for row in connection.execute("SELECT name FROM experiments")]
    return {(name, data): title for name in names for data, title in of_data(connection, name).items()}


def of_curves(connection: sqlite3.Connection, experiment: str) -> dict[str, CurveFacts]:
    """The facts of each curve of an experiment by name, whether it has results or not.

    The planned levels are fractions of weights left, computed from the pruning rate of hidden layers. Curves of
    imported tickets have no planned levels: only their results tell the fractions.
    """
    curves = connection.execute(
        """
        SELECT c.name, c.title, c.hidden, c.source, c.target, c.model, c.source_optimizer, c.optimizer, c.scope,
               c.ticket, group_concat(DISTINCT p.level) AS levels,
               json_extract(e.definition, '$.width') AS width, json_extract(e.definition, '$.rate') AS rate
        FROM experiments e JOIN experiment_curves c ON c.experiment_id = e.id JOIN curve_points p ON p.curve_id = c.id
        WHERE e.name = ? GROUP BY c.id ORDER BY c.id
        """,
        (experiment,),
    )
    return {
        row["name"]: CurveFacts(
            **{key: row[key] for key in WHAT},
            is_hidden=bool(row["hidden"]),
            plan=()
            if row["ticket"] == "imported"
            else tuple(Rule(rate=row["rate"]).fraction(level) for level in sorted(map(int, row["levels"].split(",")))),
        )
        for row in curves
    }


def edit_curve(
    connection: sqlite3.Connection, experiment: int, curve: str, title: str | None = None, hidden: bool | None = None
) -> Outcome:
    """Set a curve's title (an empty one removes it) and whether charts hide it; None leaves a value unchanged."""
    with transaction(connection):
        rows = connection.execute("SELECT * FROM experiment_curves WHERE experiment_id = ?", (experiment,)).fetchall()
        by_name = {row["name"]: row for row in rows}
        row = by_name[chosen("curve", curve, list(by_name))]
        now = row["title"] if title is None else checked(title) or None
        out = row["hidden"] if hidden is None else int(hidden)
        connection.execute("UPDATE experiment_curves SET title = ?, hidden = ? WHERE id = ?", (now, out, row["id"]))
    return Outcome((now, out) != (row["title"], row["hidden"]), f"{now or curve}{' (hidden)' if out else ''}")
