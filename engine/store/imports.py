"""Imported ticket files: kept next to the database, and recorded for the runs that start from them."""

import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from engine.errors import InputError, OptionName
from engine.store.database import files_folder, path_of
from engine.store.files import Folder, write
from engine.tickets import ticketfiles
from engine.tickets.ticketfiles import TicketSource

STARTING = "ticket = 'imported' AND json_extract(recipe, '$.ticket.digest') = ?"  # runs that start from this ticket


def keep(folder: Folder, ticket: ticketfiles.TicketFile) -> Path:
    """Store a ticket file so that experiments can name it as a source; returns its path."""
    path = folder.path / "imported" / ticketfiles.file_name(ticket)
    write(path, ticket.data)
    return path


def record(connection: sqlite3.Connection, tickets: Iterable[TicketSource]) -> None:
    """Store the files of an experiment's tickets, and record each for the runs that start from it.

    Call it in the transaction that adds the runs. A ticket without a location keeps the file that an earlier experiment
    stored. Raises InputError if a file has changed or was freed.
    """
    folder = Folder(files_folder(path_of(connection)))
    for ticket in tickets:
        if ticket.location:
            data = ticketfiles.unpack(Path(ticket.location).read_bytes(), ticket.digest).data
            stored = folder.put(data), len(data)
        else:
            stored = _stored(connection, ticket)
        connection.execute(
            f"INSERT OR REPLACE INTO files (run_id, kind, sha256, bytes) SELECT id, 'ticket', ?, ? FROM runs"
            f" WHERE {STARTING}",
            (*stored, ticket.digest),
        )


def located(connection: sqlite3.Connection, tickets: Iterable[TicketSource]) -> tuple[TicketSource, ...]:
    """The tickets of an experiment, each with the path where its file was stored when the experiment was queued."""
    folder = Folder(files_folder(path_of(connection)))
    paths = ((ticket, folder.ticket(_stored(connection, ticket)[0])) for ticket in tickets)
    return tuple(replace(ticket, location=str(path.absolute())) for ticket, path in paths)


def _stored(connection: sqlite3.Connection, ticket: TicketSource) -> tuple[str, int]:
    """The SHA-256 and size in bytes of a ticket's file. Raises InputError if the file was freed."""
    row = connection.execute(
        f"SELECT sha256, bytes FROM files JOIN runs ON id = run_id WHERE kind = 'ticket' AND {STARTING}",
        (ticket.digest,),
    ).fetchone()
    if row is None:
        raise InputError(
            f"the file of ticket {ticket.name}, level {ticket.level}, was freed: `cockpit queue add` with its file as ",
            OptionName("source"),
            " puts it back",
        )
    return row[0], row[1]
