"""Ticket files from elsewhere: kept beside the database, and recorded as what the runs that train them start from."""

import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from engine.errors import InputError, OptionName
from engine.store.database import files_folder, path_of
from engine.store.files import Folder, write
from engine.tickets import ticketfiles
from engine.tickets.ticketfiles import TicketSource

STARTING = "ticket = 'imported' AND json_extract(recipe, '$.ticket.digest') = ?"  # runs that start from a ticket's file


def keep(folder: Folder, found: ticketfiles.TicketFile) -> Path:
    """Keep a ticket file until an experiment names it, and longer; returns where it is."""
    place = folder.path / "imported" / ticketfiles.file_name(found)
    write(place, found.data)
    return place


def record(connection: sqlite3.Connection, tickets: Iterable[TicketSource]) -> None:
    """Store the files of an experiment's tickets, and record which runs start from each; with the runs, as they come.

    Of a ticket whose file is not named again, what an earlier experiment stored. Raises InputError if a file changed,
    or was freed.
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
    """The tickets of an experiment, each with the place where its file was stored when that was queued."""
    folder = Folder(files_folder(path_of(connection)))
    places = ((ticket, folder.ticket(_stored(connection, ticket)[0])) for ticket in tickets)
    return tuple(replace(ticket, location=str(place.absolute())) for ticket, place in places)


def _stored(connection: sqlite3.Connection, ticket: TicketSource) -> tuple[str, int]:
    """The SHA-256 and the size of a ticket's file. Raises InputError where it was freed."""
    found = connection.execute(
        f"SELECT sha256, bytes FROM files JOIN runs ON id = run_id WHERE kind = 'ticket' AND {STARTING}",
        (ticket.digest,),
    ).fetchone()
    if found is None:
        raise InputError(
            f"the file of ticket {ticket.name}, level {ticket.level}, was freed: `cockpit queue add` with its file as ",
            OptionName("source"),
            " puts it back",
        )
    return found[0], found[1]
