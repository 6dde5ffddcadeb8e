"""`cockpit doctor`: check whether this machine can train, and say how to fix what fails."""

import json
from contextlib import suppress
from dataclasses import asdict

import typer

from cockpit.cli import diagnosis
from cockpit.requests.shared import Database, DataDir, Json, to_read, use_data
from cockpit.text import words
from engine.errors import InputError

app = typer.Typer()

INDENT = " " * 11


@app.command("doctor", epilog="Example: cockpit doctor --json")
def doctor(data_dir: DataDir = None, as_json: Json = False, db: Database = None) -> None:
    """Look at Python, torch, devices, data, database, disk, workers, terminal and configuration: what works, what does
    not, what to do. Exit code 0: it can train here; 1: a problem stops it.
    """
    with suppress(InputError):  # a wrong configuration file is a finding of its own
        use_data(data_dir)
    found = []
    for one in diagnosis.findings(to_read(db)):
        found.append(one)
        if not as_json:
            _show(one)
    well = all(one.state != "problem" for one in found)
    if as_json:
        print(json.dumps({"ok": well, "findings": [asdict(one) for one in found]}))
    raise typer.Exit(0 if well else 1)


def _show(one: diagnosis.Finding) -> None:
    print(f"{words.state(one.state):<{len(INDENT)}}{one.subject}: {one.said}", flush=True)
    if one.do:
        print(f"{INDENT}{one.do}")
