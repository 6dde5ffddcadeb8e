"""Damaged rows in a database: found after an error, and named by table and row.

Reading rows does not check them. When a damaged row causes an error anywhere within `explained`, the whole database is
checked against the schema (`columns`), and the error raised names that row instead of a line of this program.
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from engine.errors import InputError, command, quoted
from engine.plan import definitions
from engine.recipes import BadRecipe, Run
from engine.store import columns, database

AT_ONCE = 1000  # rows checked together
FEW = 3  # findings of one kind that are named
# SQLite errors that are no damage: the file is in use or cannot be reached, or its disk is full.
_OF_PLACE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_INTERRUPT,
}


class Damaged(InputError):
    """A database has content that cockpit never writes."""

    def __init__(self, path: Path, fault: str) -> None:
        super().__init__(
            f"{path} is damaged: {fault}; {command('store check', db=path)} says what else is: go back to a backup, or"
            " correct it there"
        )


@contextmanager
def explained(*paths: Path) -> Iterator[None]:
    """Raise Damaged instead of an error that a damaged row of these databases (default: all opened ones) explains."""
    try:
        yield
    except Exception as error:
        if damaged := cause(error, *paths):
            raise damaged from error
        raise


def cause(error: Exception, *paths: Path) -> Damaged | None:
    """The damage that explains an error; None for an error that names its own fix, and if no database is damaged."""
    is_told = isinstance(error, InputError | OSError) and not isinstance(error, BadRecipe)
    if is_told or getattr(error, "sqlite_errorcode", 0) & 0xFF in _OF_PLACE:
        return None
    opened = [path for path in paths or database.opened if path.is_file()]
    for path in opened:
        if found := first(path):
            return Damaged(path, found)
    return Damaged(opened[-1], str(error)) if opened and isinstance(error, sqlite3.DatabaseError) else None


def first(path: Path) -> str | None:
    """The first damage found in a database, as text; None if it is sound or cannot be opened."""
    try:
        with closing(database.reader(path)) as connection:
            return next(iter(find(connection)[0].values()), None)
    except InputError:
        return None
    except sqlite3.Error as error:
        return f"SQLite cannot read its tables ({error})"


def find(connection: sqlite3.Connection) -> tuple[dict[str, str], list[str]]:
    """All damage as text, by what is damaged, and the digests of the runs of other semantics.

    What is damaged is the database (the file), rows, references, recipes or results. Of a damaged file the rows are not
    checked, and of damaged rows nothing else.
    """
    if found := broken(connection):
        return {"database": found}, []
    if found := _few(rows(connection)):
        return {"rows": found}, []
    altered, incomplete, foreign = of_runs(connection)
    errors = {
        "references": _few(references(connection)),
        "recipes": some("runs whose recipe does not have their digest", altered),
        "results": some("runs that are done without all epochs, layers or accuracy", incomplete),
    }
    return {what: text for what, text in errors.items() if text}, foreign


def broken(connection: sqlite3.Connection) -> str:
    """SQLite's finding about the file itself; empty if it is sound."""
    try:
        found = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
    except sqlite3.DatabaseError as error:
        found = [str(error)]
    if found == ["ok"]:
        return ""
    first = " ".join(str(found[0]).split())
    return (
        f"SQLite finds the file damaged ({first}): do not write to it, and go back to a backup or rescue what it holds"
    )


def rows(connection: sqlite3.Connection) -> Iterator[str]:
    """The rows with values that their columns do not allow, and the tables and views that cannot be read."""
    for table, shapes in columns.TABLES.items():
        try:
            yield from _rows_of(connection, table, shapes)
        except sqlite3.Error as error:
            yield f"table {table}: {error}"
    for view in columns.VIEWS:
        try:
            connection.execute(f"SELECT 1 FROM {view} LIMIT 0")
        except sqlite3.Error as error:
            yield f"view {view}: {error}"


def _rows_of(connection: sqlite3.Connection, table: str, shapes: dict[str, Any]) -> Iterator[str]:
    shape = msgspec.defstruct(table, [("row", int), *shapes.items()], array_like=True)
    cursor = connection.cursor()
    cursor.row_factory = None
    cursor.execute(f"SELECT rowid, {', '.join(shapes)} FROM {table}")
    while some := cursor.fetchmany(AT_ONCE):
        try:
            msgspec.convert(some, list[shape])  # type: ignore[valid-type]
        except msgspec.ValidationError:
            for row in some:
                yield from _wrong_value(table, list(shapes), row, shape)
        for row in some:
            yield from _wrong_json(table, dict(zip(shapes, row[1:], strict=True)), row[0])


def _wrong_value(table: str, names: list[str], row: tuple[Any, ...], shape: type) -> Iterator[str]:
    try:
        msgspec.convert(row, shape)
    except msgspec.ValidationError as error:
        why, _, place = str(error).partition(" - at `$[")
        number = int(place.partition("]")[0] or 0)
        yield f"{names[number - 1]} of row {row[0]} of table {table} is {quoted(row[number])} ({why})"


def _wrong_json(table: str, row: dict[str, Any], number: int) -> Iterator[str]:
    """The faults of the JSON in a row. `of_runs` checks recipes by their digests."""
    if table != "experiments":
        return
    for name, decode in (("definition", definitions.decoded), ("tags", _tags)):
        try:
            decode(row[name])
        except (ValueError, TypeError) as error:
            yield f"{name} of row {number} of table {table} is {quoted(row[name])} ({error})"


def _tags(text: str | None) -> list[str]:
    return msgspec.json.decode(text or "[]", type=list[str])


def references(connection: sqlite3.Connection) -> Iterator[str]:
    """The rows that refer to missing rows."""
    for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        yield f"row {row} of table {table} refers to a row of {parent} that is not there"
    query = """
        SELECT e.id, json_extract(d.value, '$.identity') FROM experiments e, json_each(e.definition, ?) d
        WHERE json_extract(d.value, '$.identity') NOT IN (SELECT identity FROM datasets)
    """
    for key in ("$.sources", "$.targets"):
        for row, identity in connection.execute(query, (key,)):
            yield f"definition of row {row} of table experiments names {quoted(identity)}, which is not in datasets"


def of_runs(connection: sqlite3.Connection) -> tuple[list[str], list[str], list[str]]:
    """The digests of the runs that are altered, done but incomplete, and of other semantics."""
    altered: list[str] = []
    incomplete: list[str] = []
    foreign: list[str] = []
    for row in connection.execute(
        """
        SELECT digest, recipe, status, test_accuracy, weights_total > 0 AND weights_remaining NOTNULL AS counted,
               EXISTS (SELECT 1 FROM layers WHERE run_id = id) AS layers,
               (SELECT count(*) FROM epochs WHERE run_id = id AND attempt = runs.attempt) AS epochs
        FROM runs
        """
    ):
        try:
            run = Run.from_json(row["recipe"])
        except InputError:
            whole = hashlib.sha256(row["recipe"].encode()).hexdigest() == row["digest"]
            (foreign if whole else altered).append(row["digest"])
            continue
        if run.digest != row["digest"]:
            altered.append(row["digest"])
        whole = row["epochs"] == run.epochs - run.first_epoch and row["layers"] and row["counted"]
        if row["status"] == "done" and not (whole and row["test_accuracy"] is not None):
            incomplete.append(row["digest"])
    return altered, incomplete, foreign


def some(what: str, digests: list[str]) -> str:
    """The number of digests, named `what`, and the first few; empty text if the list is empty."""
    shown = ", ".join(digest[:12] for digest in digests[:FEW])
    return f"{what}: {len(digests)} ({shown}{', ...' if digests[FEW:] else ''})" if digests else ""


def _few(found: Iterable[str]) -> str:
    """The first findings in one line; empty text if nothing was found."""
    *shown, more = [*islice(found, FEW + 1), *[""] * (FEW + 1)][: FEW + 1]
    return "; ".join([one for one in shown if one] + (["and more"] if more else []))
