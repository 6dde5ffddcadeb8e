"""`cockpit store`: maintain the database and its files."""

import json
import shlex
import sys
from collections.abc import Collection
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cockpit.requests.shared import Database, Json, to_read, to_write
from cockpit.text import hints
from engine.errors import InputError, command
from engine.machine.paths import given
from engine.store import care, database, labels
from engine.store import merge as merging
from engine.store.files import Folder, StoredFile

app = typer.Typer()

NAMES_SHOWN = 10
RESCUE = "sqlite3 {db} .recover | sqlite3 rescued.db"


@app.command("check", epilog="Example: cockpit store check --repair")
def check(
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Repair the order of the queue and damaged files. Results stay."),
    ] = False,
    as_json: Json = False,
    db: Database = None,
) -> None:
    """Verify the database, its records, and the SHA-256 of every ticket file and checkpoint.

    Exit code 0: no problem found; 1: problems found. Missing ticket files are no error: a run that needs one
    recreates it.
    """
    from cockpit.views.progress import reading

    path = to_read(db)
    with closing(database.reader(path)) as connection, reading("reading files") as progress:
        report = care.check(connection, Folder(database.files_folder(path)), progress)
    done = _repair(db, report) if repair and "database" not in report.errors else []
    left = set(report.errors) - (care.CURABLE if repair else set())
    if as_json:
        found = {"ok": not left, "errors": report.errors, "notes": report.notes, "repaired": done}
        print(json.dumps({**found, "runs": report.runs, "files": report.files}))
    else:
        for text in report.errors.values():
            print(f"✗ {text}")
        for text in report.notes:
            print(f"· {text}")
        for text in done:
            print(f"✓ {text}")
        if "database" in report.errors:
            print(f"try: {RESCUE.format(db=path)}", file=sys.stderr)
        elif not report.errors:
            print(f"✓ {path}: {report.runs} runs and {report.files} ticket files, no problem found")
        elif left & care.CURABLE:
            print(f"Repair with {command('store check --repair', db=path)}", file=sys.stderr)
    raise typer.Exit(1 if left else 0)


def _repair(db: str | None, report: care.Report) -> list[str]:
    path = to_write(db)
    with closing(database.writer(path)) as connection:
        return care.repair(connection, Folder(database.files_folder(path)), report)


@app.command("gc", epilog="Example: cockpit store gc --tickets --dry-run")
def gc(
    tickets: Annotated[
        bool, typer.Option("--tickets", help="Also delete ticket files that only ended experiments use.")
    ] = False,
    runs: Annotated[bool, typer.Option("--runs", help="Also delete records of runs that belong to no curve.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be freed.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Skip confirmation.")] = False,
    as_json: Json = False,
    db: Database = None,
) -> None:
    """Delete files that no experiment needs: ticket files of removed experiments, and stray files.

    Keeps records (unless --runs) and files that an unfinished run needs.
    """
    path, wanted = to_read(db), {"tickets": tickets, "runs": runs}
    with closing(database.reader(path)) as connection:
        plan = care.plan(connection, Folder(database.files_folder(path)), **wanted)
    freed = care.Plan(frozenset(), frozenset(), frozenset())
    if not as_json:
        print(_describe(plan))
    if plan and not dry_run and (yes or _agreed()):
        path = to_write(db)
        with closing(database.writer(path)) as connection:
            freed = care.collect(connection, Folder(database.files_folder(path)), plan, **wanted)
    if as_json:
        print(json.dumps({"plan": _counts(plan), "freed": _counts(freed)}))
    elif freed:
        print(f"freed {_size(freed.tickets | freed.strays)}")


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise InputError("no terminal to confirm on: confirm with --yes, or preview with --dry-run")
    return typer.confirm("Delete these?", err=True)


def _describe(plan: care.Plan) -> str:
    if not plan:
        return "nothing to free (files of the last hour are kept: a worker may be about to record them)"
    files = (("ticket files", plan.tickets), ("stray files", plan.strays))
    found = [f"{what}: {len(some)} ({_size(some)})" for what, some in files if some]
    return "\n".join(found + ([f"records of runs: {len(plan.runs)}"] if plan.runs else []))


def _counts(plan: care.Plan) -> dict[str, int]:
    size = sum(file.bytes for file in plan.tickets | plan.strays)
    return {"tickets": len(plan.tickets), "strays": len(plan.strays), "runs": len(plan.runs), "bytes": size}


def _size(files: frozenset[StoredFile]) -> str:
    from rich.filesize import decimal

    return decimal(sum(file.bytes for file in files))


@app.command("backup", epilog="Example: cockpit store backup /mnt/disk/experiments.db")
def backup(
    place: Annotated[Path, typer.Argument(parser=given, metavar="DEST", help="The database file to write.")],
    no_files: Annotated[bool, typer.Option("--no-files", help="Omit ticket files and checkpoints.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite DEST if it exists.")] = False,
    as_json: Json = False,
    db: Database = None,
) -> None:
    """Copy the database and its files consistently, even while workers train. Use the copy with --db on any machine.

    On the same file system the files are hard links, which take no space.
    """
    from cockpit.views.progress import reading

    path = to_read(db)
    with reading("copying files") as progress:
        made = care.backup(path, place, progress, files=not no_files, force=force)
    if as_json:
        print(json.dumps({"backup": str(place), **asdict(made)}))
        return
    print(f"copied {path} to {place}, with {made.files} ticket files and {made.checkpoints} checkpoints")
    if made.absent:
        print(f"{made.absent} ticket files are missing or damaged: a run that needs one recreates it")


@app.command("merge", epilog="Example: cockpit store merge /mnt/laptop/experiments.db")
def merge(
    other: Annotated[
        Path,
        typer.Argument(parser=given, metavar="OTHER", help="Database to merge into this one; it is not changed."),
    ],
    as_json: Json = False,
    db: Database = None,
) -> None:
    """Add the results of another machine: runs, results, experiments and ticket files.

    Finished runs here stay unchanged. An experiment that would start to train here is paused.
    """
    from cockpit.views.progress import reading

    if not other.is_file():
        raise InputError(f"database {other} does not exist: name the database to merge into this one")
    path = to_write(db, make=True)
    with closing(database.writer(path)) as connection, reading("copying files") as progress:
        merged = merging.merge(connection, path, other, progress)
    if as_json:
        print(json.dumps(asdict(merged)))
    else:
        hints.say("\n".join(_describe_merge(merged, other)))


def _describe_merge(merged: merging.Merged, other: Path) -> list[str]:
    found = [f"{other}: {merged.new} new runs, {merged.finished} runs finished only there, {merged.files} ticket files"]
    if merged.experiments:
        found.append(f"new: {_names(merged.experiments.values())}")
    for old, new in merged.experiments.items():
        if old != new:
            why = "names another experiment here" if labels.is_typeable(old) else "is not a valid name"
            found.append(f"{old} {why}, so the one of {other.name} is now {new}")
    found += [f"{old} already exists here as {new}" for old, new in merged.known.items()]
    if merged.paused:
        found.append(f"paused (train them here with `cockpit queue resume`): {_names(merged.paused)}")
    for count, what in (
        (merged.running, "runs skipped because they are training here; merge again if that fails"),
        (merged.differing, "runs of profile exact whose accuracy differs there; kept the runs here"),
        (merged.absent, "ticket files missing or damaged there; a run that needs one recreates it"),
    ):
        if count:
            found.append(f"{count} {what}")
    return found


def _names(names: Collection[str]) -> str:
    """Names on one line, quoted for the shell; only the first of many."""
    more = len(names) - NAMES_SHOWN
    shown = " ".join(shlex.quote(name) for name in list(names)[:NAMES_SHOWN])
    return f"{shown} and {more} more" if more > 0 else shown
