"""Ticket files from elsewhere: kept beside the database, and recorded as what the runs that train them start from."""

import sqlite3
from collections.abc import Iterable
from pathlib import Path

from engine import ticketfiles
from engine.store.database import files_folder, path_of
from engine.store.files import Folder, write
from engine.ticketfiles import TicketSource


def keep(folder: Folder, found: ticketfiles.TicketFile) -> Path:
    """Keep a ticket file until an experiment names it, and longer; returns where it is."""
    place = folder.path / "imported" / ticketfiles.file_name(found)
    write(place, found.data)
    return place


def record(connection: sqlite3.Connection, tickets: Iterable[TicketSource]) -> None:
    """Store the files of an experiment's tickets, and record which runs start from each; with the runs, as they come.

    Of a ticket whose file is not named again, what an earlier experiment stored. Raises InputError if a file changed.
    """
    folder = Folder(files_folder(path_of(connection)))
    starting = "ticket = 'imported' AND json_extract(recipe, '$.ticket.digest') = ?"
    for ticket in tickets:
        if ticket.location:
            data = ticketfiles.unpack(Path(ticket.location).read_bytes(), ticket.digest).data
            stored = folder.put(data), len(data)
        else:
            stored = connection.execute(
                f"SELECT sha256, bytes FROM files JOIN runs ON id = run_id WHERE kind = 'ticket' AND {starting}",
                (ticket.digest,),
            ).fetchone()
        connection.execute(
            f"INSERT OR REPLACE INTO files (run_id, kind, sha256, bytes) SELECT id, 'ticket', ?, ? FROM runs"
            f" WHERE {starting}",
            (*stored, ticket.digest),
        )
