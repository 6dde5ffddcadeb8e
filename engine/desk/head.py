"""The head of a cluster: the one process that writes to the database for workers on other machines.

A pool starts it like a worker, with `python -m engine.desk.head`. The queue is stored only in the database, so the pool
can restart a killed head; workers reconnect and continue.
"""

import argparse
import hashlib
import json
import os
import re
import signal
import socket
import socketserver
import sqlite3
import ssl
import sys
import threading
import time
import traceback
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from engine import __version__
from engine.desk import starting
from engine.desk.desk import Held, HeldUp, Wish
from engine.desk.local import BUSY_SECONDS, LocalDesk, drop_stale_checkpoints, take_over
from engine.desk.session import Session, is_storage
from engine.desk.wire import Address, Answer, Call, Hello, Line, Welcome, torch_version
from engine.errors import InputError
from engine.machine import processes
from engine.machine.devices import Load
from engine.store import database, heads, leases, records, shared, workers
from engine.store.files import Folder, LostFile
from engine.store.records import StaleClaim

TICK_SECONDS = 0.5
WRITE_SECONDS = 1.0  # between two writes of the workers' reports
RETURN_SECONDS = 1.0  # for a worker to reconnect before its run is taken back
PARTING_SECONDS = 90.0  # for workers to send their checkpoints when the head stops
GREETING_SECONDS = 20.0


class Refused(Exception):
    """A machine or worker may not join. The message gives the reason in one line."""


class Head:
    """Serves the desk to the machines that join."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.address = Address.parse(options.listen, options.keys)
        self.connection = database.writer(options.db, BUSY_SECONDS, make=False)
        self.folder = Folder.followed(database.files_folder(options.db))
        self.lock = threading.RLock()
        self.sessions: dict[int, Session] = {}
        self.stop, self.listening = threading.Event(), threading.Event()
        self.reached = self.address  # the address for other machines, complete once it listens
        self.database = _identity(self.connection)
        self.torch = torch_version()
        self.shared = shared.folder(options.checkpoints, self.database) if options.checkpoints else None
        self.starter = starting.Starter(options.start, time.monotonic()) if options.start else None
        self.machines: Counter[starting.Machine] = Counter()  # the connections of the pools that joined
        self._secure = self.address.context(head=True)
        self._written = self._renewed = self._scaled = 0.0
        self._lead: heads.Lead | None = None

    def serve(self) -> None:
        """Listen until asked to stop, until the parent process ends, or, with --drain, until no run is left.

        Raises InputError if the address cannot be used, or if another head leads the database.
        """
        heads.refuse_second(self.connection, self.options.pool)  # before its port is found to be taken
        listening = self.address.listen()
        self.reached = reached_at(self.address, listening.getsockname()[1])
        with closing(listening):
            checkpoints = str(self.shared) if self.shared else None
            where, pool = str(self.reached), self.options.pool
            self._lead = heads.take(self.connection, where, pool=pool, checkpoints=checkpoints)
            shared.place(self.folder.path, self.shared)
            self.folder.drop_incoming()
            self._serve(listening)
        if self._lead is None:
            raise InputError("another head has taken over the database, as this one did not answer for two minutes")

    def _serve(self, listening: socket.socket) -> None:
        _write_join_file(database.join_file(self.options.db), self.reached)
        server = _Server(listening, self)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        processes.say(f"{database.now()} the head listens on {self.reached}")
        self.listening.set()
        try:
            while not self.stop.is_set() and not self._drained():
                self._tick()
                self.stop.wait(TICK_SECONDS)
            self._part()
        finally:
            if self._lead:
                database.join_file(self.options.db).unlink(missing_ok=True)  # before a machine that starts reads it
            server.shutdown()
            if self.starter:
                self.starter.close()
            if self._lead:
                with self.lock, suppress(sqlite3.Error):  # locked, or lost; the ended process shows it too
                    heads.leave(self.connection, self._lead)

    def _drained(self) -> bool:
        if self.options.parent and os.getppid() != self.options.parent:
            return True
        if not self.options.drain:
            return False
        with self.lock:
            return not leases.unfinished(self.connection)

    def _tick(self) -> None:
        """Record the workers' reports, renew their leases, and return the runs of lost workers to the queue."""
        try:
            with self.lock:
                now = time.monotonic()
                for session in [*self.sessions.values()]:
                    if session.dropped is not None and now - session.dropped > RETURN_SECONDS:
                        self._lose(session)
                if now - self._written >= WRITE_SECONDS:
                    self._written = now
                    self._write()
                if now - self._renewed >= leases.RENEWAL_SECONDS:
                    self._renewed = now
                    self._renew(now)
                    take_over(self.connection)
                    drop_stale_checkpoints(self.connection, self.folder)
                if self.starter and now - self._scaled >= starting.STEP_SECONDS and not self.stop.is_set():
                    self._scaled = now
                    self._scale(self.starter, now)
        except Exception as error:
            if not is_storage(error):
                raise
            processes.say(f"cannot write ({error}): waiting")

    def _write(self) -> None:
        with records.unflushed(self.connection), database.transaction(self.connection):
            for worker, session in self.sessions.items():
                session.refresh()
                if session.report:
                    workers.report(
                        self.connection, worker, {**structs.asdict(session.report), "heartbeat_at": database.now()}
                    )
                    session.report = None

    def _renew(self, now: float) -> None:
        """Renew the leases of workers that called lately; the lease of a stopped process runs out.

        Stops if another head has taken over.
        """
        self._lead = self._lead and heads.renew(self.connection, self._lead)
        if self._lead is None:
            self.stop.set()
        with database.transaction(self.connection):
            for session in self.sessions.values():
                if session.claim_held and now - session.heard < leases.RENEWAL_SECONDS:
                    leases.renew(self.connection, session.claim_held)

    def _scale(self, starter: starting.Starter, now: float) -> None:
        """Start a machine if the queue can use it, and tell the workers of idle machines to end."""
        joined = {machine: [0, 0] for machine, connections in self.machines.items() if connections}
        for session in self.sessions.values():
            counts = joined.setdefault(session.machine, [0, 0])
            counts[0] += 1
            counts[1] += session.claim_held is None
        ready = leases.ready(self.connection, {session.desk.wish.split for session in self.sessions.values()})
        counted = {machine: (workers, idle) for machine, (workers, idle) in joined.items()}
        ending = starter.step(ready, counted, now)
        for session in self.sessions.values():
            if session.machine in ending:
                session.held = Held(session.held.ours, session.held.wanted, stop=True)

    def _lose(self, session: Session) -> None:
        del self.sessions[session.desk.worker]
        session.leave()

    def _part(self) -> None:
        """Tell the workers to send their checkpoints and end; wait for them, at most PARTING_SECONDS."""
        self.stop.set()
        deadline = time.monotonic() + PARTING_SECONDS
        while self.sessions and time.monotonic() < deadline:
            with self.lock:
                for session in self.sessions.values():
                    session.held = Held(session.held.ours, session.held.wanted, stop=True)
            self._tick()
            time.sleep(TICK_SECONDS / 5)

    def attend(self, line: Line) -> None:
        """Serve one connection to its end."""
        line.connection.settimeout(GREETING_SECONDS)
        try:
            hello = line.receive(Hello)
        except msgspec.DecodeError:
            why = f"the head runs cockpit {__version__} and does not understand this machine: install the same here"
            line.send(Answer(problem="refused", said=why))
            return
        try:
            self._check(hello)
            session = None if hello.role == "pool" else self._greet(hello, line)
            if session is None:
                self._count(hello, 1)
        except (Refused, InputError) as why:
            line.send(Answer(problem="refused", said=str(why)))
            return
        line.send(Answer(Welcome(session.desk.worker if session else 0, self.database, str(self.shared or ""))))
        line.connection.settimeout(None)
        serve = session.call if session else _PoolOperations(self, hello).call
        try:
            while True:
                call = line.receive(Call)
                line.send(_answer(serve, call))
        finally:
            if session is None:
                self._count(hello, -1)
            if session and session.connected is line:
                with self.lock:
                    if session.over:
                        self.sessions.pop(session.desk.worker, None)
                    else:
                        session.dropped = time.monotonic()

    def _count(self, hello: Hello, number: int) -> None:
        with self.lock:
            self.machines[_machine(hello)] += number

    def _check(self, hello: Hello) -> None:
        """Raises Refused if the version of cockpit or torch or the database is not the head's, or if the head stops."""
        if hello.version != __version__:
            raise Refused(f"the head runs cockpit {__version__}, this is {hello.version}: install the same here")
        if hello.torch != self.torch:
            raise Refused(
                f"the head has torch {self.torch}, this machine {hello.torch}, which may give other results: install"
                f" torch=={self.torch} here"
            )
        if hello.database not in (None, self.database):
            raise Refused("this head serves another database than the one that you joined: join again")
        if self.stop.is_set() and hello.worker is None:
            raise Refused("the head is stopping: join again once it has restarted")

    def _greet(self, hello: Hello, line: Line) -> Session:
        """The session of a worker: a new one, or the present one if the worker reconnects."""
        with self.lock:
            session = self.sessions.get(hello.worker or 0)
            if session is None and hello.role == "beat":
                raise Refused("the head does not know this worker, whose main connection must come first")
            if session is None:
                session = self._open(hello)
                self.sessions[session.desk.worker] = session
            if hello.role == "work":  # an older connection of the worker may end later, if the network was cut
                session.connected, session.dropped = line, None
            return session

    def _open(self, hello: Hello) -> Session:
        log = str(self.folder.path / "logs" / _log_name(hello))
        identity = hello.identity
        worker = self._known(hello.worker, hello.identity)
        if worker is None:
            worker = workers.open_worker(
                self.connection, hello.device, self.options.pool, log, identity, hello.device_name
            )
        wish = Wish(None, hello.split, self.options.min_free, hello.shared_device)
        session = Session(LocalDesk(self.connection, self.folder, worker, wish, self.options.notify), self.lock)
        session.machine = _machine(hello)
        if hello.claim:
            session.claim_held = hello.claim.claim()
        what = f"{hello.device} ({hello.device_name})" if hello.device_name else hello.device
        processes.say(f"{database.now()} worker {worker} has joined: {what} of {identity.host}")
        return session

    def _known(self, worker: int | None, identity: processes.Identity) -> int | None:
        """The number of a worker that joined before this head started, now marked as running; None for any other."""
        row = self.connection.execute("SELECT pid, host FROM workers WHERE id = ?", (worker,)).fetchone()
        if row is None or (row["pid"], row["host"]) != (identity.pid, identity.host):
            return None
        self.connection.execute(
            "UPDATE workers SET ended_at = NULL, pool = ? WHERE id = ?", (self.options.pool, worker)
        )
        return worker


class _PoolOperations:
    """The operations that the pool of a joined machine may call."""

    def __init__(self, head: Head, hello: Hello) -> None:
        self.head, self.host = head, hello.identity.host
        self.log = head.folder.path / "logs" / _log_name(hello)

    def call(self, name: str, arguments: list[Any]) -> Any:
        """Carry out an operation. Raises ValidationError for an unknown name or invalid arguments."""
        if name == "loads":
            (loads,) = msgspec.convert(arguments, tuple[list[Load]])
            with self.head.lock:
                workers.record_loads(self.head.connection, self.host, loads)
        elif name == "log":
            (text,) = msgspec.convert(arguments, tuple[bytes])
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("ab") as file:
                file.write(text)
        else:
            raise msgspec.ValidationError(f"{name!r} is not an operation")
        return not self.head.stop.is_set()


def _answer(serve: Any, call: Call) -> Answer:
    """The answer to a call: its value, or the problem that the caller raises."""
    try:
        return Answer(serve(call.name, call.arguments))
    except Exception as error:
        problem, said = _problem(error)
        return Answer(problem=problem, said=said)


def _problem(error: Exception) -> tuple[str, object]:
    for kind, problem in ((StaleClaim, "stale"), (HeldUp, "held up"), (LostFile, "lost")):
        if isinstance(error, kind):
            return problem, str(error)
    if isinstance(error, msgspec.ValidationError):
        return "refused", f"the head does not understand this call: {error}"
    if isinstance(error, InputError):
        return "input", error.to_json()
    if is_storage(error):
        return "wait", f"the head cannot read or write ({error})"
    traceback.print_exc()
    return "fault", f"the head failed: {type(error).__name__}: {error}"


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, listening: socket.socket, head: Head) -> None:
        super().__init__(listening.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket, self.head = listening, head


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, _Server)
        head, connection = self.server.head, self.request
        connection.settimeout(GREETING_SECONDS)
        try:
            if head._secure:
                connection = head._secure.wrap_socket(connection, server_side=True)
            with closing(Line(connection)) as line:
                head.attend(line)
        except ssl.SSLError as error:
            processes.say(f"refused {self.client_address[0]}: {error.reason or error}")
        except (OSError, msgspec.ValidationError, msgspec.DecodeError):
            pass  # the connection has ended, or the other end is no cockpit


def reached_at(address: Address, port: int) -> Address:
    """The address at which other machines reach a head that listens at `address` on `port`."""
    host = address.host if address.host not in ("", "0.0.0.0", "::") else socket.gethostname()
    return Address(address.scheme, host, port, address.keys)


def _write_join_file(place: Path, address: Address) -> None:
    """Write the file that `cockpit join` reads on machines that share this folder."""
    lines = [f"address = {json.dumps(str(address))}"] + (
        [f"keys = {json.dumps(str(address.keys))}"] if address.keys else []
    )
    place.write_text("\n".join(lines) + "\n")


def _machine(hello: Hello) -> starting.Machine:
    return hello.identity.host, hello.log


def _log_name(hello: Hello) -> str:
    """The name of the log file for a machine's workers, made safe: the machine chooses the parts."""
    host = re.sub(r"[^A-Za-z0-9-]", "-", hello.identity.host)[:60]
    return f"{workers.JOINED}{host}-{hashlib.sha256(hello.log.encode()).hexdigest()[:12]}.log"


def _identity(connection: Any) -> str:
    """The identity of this database: random, drawn when a head first opens it."""
    connection.execute("INSERT OR IGNORE INTO about (key, value) VALUES ('cluster', ?)", (os.urandom(16).hex(),))
    return str(connection.execute("SELECT value FROM about WHERE key = 'cluster'").fetchone()[0])


def main() -> None:
    """Run the head that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--db", type=lambda path: Path(path).absolute(), required=True)
    parser.add_argument("--listen", required=True)
    parser.add_argument("--keys", type=Path)
    parser.add_argument("--checkpoints", type=Path, help="a folder that all machines see")
    parser.add_argument("--start", type=starting.read, help="how to start machines that join: JSON of `Plan`")
    parser.add_argument("--pool", type=int)
    parser.add_argument("--parent", type=int, default=0)
    parser.add_argument("--min-free", type=int, default=0)
    parser.add_argument("--notify")
    parser.add_argument("--drain", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        head = Head(options)
        for stop in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(stop, lambda *_: head.stop.set())
        with closing(head.connection):
            head.serve()
    except InputError as error:
        processes.say(f"{processes.HALT}{error}")
        sys.exit(processes.HALTED)
    with suppress(OSError):
        sys.stdout.flush()


if __name__ == "__main__":
    main()
