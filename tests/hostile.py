"""A database of hostile names, which are markup to a library or commands to a terminal."""

import json
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.tui.make_fixture import FIXTURE

COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # that no output may hold
MARKUP = "[/x] [red]r[bold [@click=app.quit]q[/]"
NAMES = (
    f"{MARKUP} \x1b[2J\x1b]0;owned\x07",
    "a\x1b[8mb\x9b31mc\u202etxt.exe",
    "[/]",
    "日本語 wide, e\u0301 combined",
    "two\nlines and a\ttab\r",
    "x" * 100,
    "$x_{ %s {y} \\u",
)
TEXTS = {  # columns that hold what a person, a folder or a library named
    "experiments": ("command", "reason", "notes"),
    "datasets": ("name", "location"),
    "experiment_curves": ("source", "target"),
    "runs": ("source", "target", "error"),
    "workers": ("host", "device", "message"),
    "attempts": ("error",),
    "layers": ("name",),
}


def hostile(path: Path) -> list[str]:
    """Write a database of results with hostile names; returns the names of its experiments."""
    shutil.copyfile(FIXTURE, path)
    with closing(sqlite3.connect(path)) as connection, connection:
        for table, columns in TEXTS.items():
            for column in columns:
                connection.execute(f"UPDATE {table} SET {column} = {column} || ? WHERE {column} <> ''", (NAMES[0],))
        connection.execute("UPDATE experiment_curves SET name = name || ?", (NAMES[0],))
        found = connection.execute("SELECT id, definition FROM experiments ORDER BY id").fetchall()
        for (number, definition), name in zip(found, NAMES, strict=True):
            connection.execute(
                "UPDATE experiments SET name = ?, definition = ?, tags = ?, notes = ? WHERE id = ?",
                (name, json.dumps(_named(json.loads(definition))), json.dumps([NAMES[0], name]), name, number),
            )
    return list(NAMES)


def _named(value: Any) -> Any:
    """A definition whose data sets have hostile names."""
    if isinstance(value, list):
        return [_named(one) for one in value]
    if isinstance(value, dict):
        return {key: one + NAMES[0] if key == "name" else _named(one) for key, one in value.items()}
    return value
