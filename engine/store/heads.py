"""The head that leads a database for other machines: one at a time."""

import sqlite3
from contextlib import suppress

import msgspec
from msgspec import structs

from engine.errors import InputError
from engine.machine import processes
from engine.store.database import age, now, path_of, transaction
from engine.store.leases import LEASE_SECONDS

KEY = "head"  # of the table about


class Lead(msgspec.Struct, frozen=True):
    """A head: its process, its address for other machines, and when it was last heard of."""

    pid: int
    process_started: float | None
    host: str
    boot: str | None
    pid_namespace: str | None
    address: str
    at: str
    pool: int | None = None  # that starts it again where it was killed
    checkpoints: str | None = None  # the shared folder for them; None: joined workers send them


def leading(connection: sqlite3.Connection) -> Lead | None:
    """The head of this database; None without one, or if its process is gone.

    A head of another machine or container counts until it has been silent for as long as a lease lasts.
    """
    row = connection.execute("SELECT value FROM about WHERE key = ?", (KEY,)).fetchone()
    with suppress(msgspec.DecodeError):
        found = msgspec.json.decode(row["value"], type=Lead) if row else None
        if found is None:
            return None
        alive = processes.alive(found)
        if alive is None:
            return found if age(found.at) < LEASE_SECONDS else None
        # The process may lead the database that this one is a copy of.
        return found if alive and processes.has_open(found.pid, path_of(connection)) else None
    return None


def refuse_second(connection: sqlite3.Connection, pool: int | None = None) -> None:
    """Raise InputError if this database has a head, other than one of this pool, which starts one at a time."""
    found = leading(connection)
    if found and (pool is None or found.pool != pool):
        raise InputError(
            f"a head of this database listens on {found.address} already (pid {found.pid} on {found.host}): join it"
            " with `cockpit join`, or stop it there first"
        )


def take(
    connection: sqlite3.Connection, address: str, *, pool: int | None = None, checkpoints: str | None = None
) -> Lead:
    """Record this process as the head. Takes over from a head that is gone; raises InputError if it is not."""
    with transaction(connection):
        refuse_second(connection, pool)
        lead = Lead(
            **structs.asdict(processes.identity()), address=address, at=now(), pool=pool, checkpoints=checkpoints
        )
        connection.execute("INSERT OR REPLACE INTO about (key, value) VALUES (?, ?)", (KEY, _text(lead)))
    return lead


def renew(connection: sqlite3.Connection, lead: Lead) -> Lead | None:
    """Record that this head lives; None if another has taken over."""
    later = structs.replace(lead, at=now())
    change = "UPDATE about SET value = ? WHERE key = ? AND value = ?"
    return later if connection.execute(change, (_text(later), KEY, _text(lead))).rowcount else None


def leave(connection: sqlite3.Connection, lead: Lead) -> None:
    """Record that this head has ended, unless another has taken over."""
    connection.execute("DELETE FROM about WHERE key = ? AND value = ?", (KEY, _text(lead)))


def _text(lead: Lead) -> str:
    return msgspec.json.encode(lead).decode()
