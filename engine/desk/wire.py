"""The messages between a head and the machines that join it: frames of msgpack over TCP or TLS.

A frame is the length of a message in four bytes (big-endian), then the message. Messages hold only data, which is
decoded as the types that an operation declares; no code is received or run.
"""

import errno
import ipaddress
import os
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec

from engine.errors import InputError, OptionName, quoted
from engine.machine import processes
from engine.recipes import Run
from engine.store.leases import Claim

PORT = 8786
PIECE = 2**20  # bytes of a file that one message carries
LONGEST = PIECE + 2**20  # bytes of a message
CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 120.0  # longest wait for an answer; the head waits less for a locked database
HEAD_NAME = "cockpit-head"  # the name in the head's certificate, on whichever host it runs
FILES = ("ca.pem", "head.pem", "worker.pem")  # the files in a folder of keys

Kind = TypeVar("Kind")


class Order(msgspec.Struct, frozen=True):
    """A claim as a message."""

    run_id: int
    number: int
    attempt: int
    recipe: str
    lost: int

    @staticmethod
    def of(claim: Claim) -> "Order":
        """The message for a claim."""
        return Order(claim.run_id, claim.number, claim.attempt, claim.run.to_json(), claim.lost)

    def claim(self) -> Claim:
        """The claim of this message. Raises InputError for an invalid recipe."""
        return Claim(self.run_id, self.number, self.attempt, Run.from_json(self.recipe), self.lost)


class Hello(msgspec.Struct, frozen=True):
    """The first message on a connection. A pool names no device; a reconnecting worker repeats its number and claim."""

    version: str
    torch: str
    identity: processes.Identity
    role: str = "pool"  # pool, work, beat
    device: str = ""
    device_name: str | None = None  # the model of its card or CPU
    split: int = 1
    shared_device: bool = False
    log: str = ""  # the name of its pool's log file
    worker: int | None = None
    database: str | None = None
    claim: Order | None = None


class Welcome(msgspec.Struct, frozen=True):
    """The head's answer to Hello."""

    worker: int
    database: str
    checkpoints: str = ""  # the shared folder for them, as the head sees it; empty: the worker sends them


class Call(msgspec.Struct, array_like=True, frozen=True):
    """The name of an operation of the desk, and its arguments."""

    name: str
    arguments: list[Any]


class Answer(msgspec.Struct, array_like=True, frozen=True):
    """The result of a call: a value, or the kind of a `problem` and its description."""

    value: Any = None
    problem: str = ""
    said: Any = None


class Piece(msgspec.Struct, array_like=True, frozen=True):
    """A part of a file, and the size of the whole file in bytes."""

    data: bytes
    total: int


class Line:
    """One end of a connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._sending = threading.Lock()

    def send(self, message: object) -> None:
        """Send a message. Raises OSError if the connection has ended."""
        data = msgspec.msgpack.encode(message)
        with self._sending:
            self.connection.sendall(len(data).to_bytes(4, "big"))
            self.connection.sendall(data)

    def receive(self, kind: type[Kind]) -> Kind:
        """Receive a message. Raises OSError if the connection has ended, DecodeError for a message of another kind."""
        size = int.from_bytes(self._read(4), "big")
        if size > LONGEST:
            raise msgspec.ValidationError(f"a message of {size} bytes is longer than {LONGEST}")
        return msgspec.msgpack.decode(self._read(size), type=kind)

    def _read(self, size: int) -> bytearray:
        data = bytearray(size)
        view, have = memoryview(data), 0
        while have < size:
            got = self.connection.recv_into(view[have:])
            if not got:
                raise ConnectionError("the connection has ended")
            have += got
        return data

    def close(self) -> None:
        """End the connection."""
        self.connection.close()


@dataclass(frozen=True)
class Address:
    """The address of a head: `tcp://HOST:PORT`, or `tls://HOST:PORT` with a folder of keys."""

    scheme: str
    host: str
    port: int
    keys: Path | None = None

    @staticmethod
    def parse(text: str, keys: Path | None = None) -> "Address":
        """The address that a user typed. Raises InputError, also for plain TCP to another machine than this one."""
        scheme, _, place = text.partition("://")
        host, colon, port = place.rpartition(":")
        host, port = (host, port) if colon and not place.endswith("]") else (place, str(PORT))
        host = host.removeprefix("[").removesuffix("]")
        if scheme not in ("tcp", "tls") or not port.isdecimal() or int(port) > 65535 or not _may_be_named(host):
            raise InputError(
                f"cluster address {quoted(text)} is not understood: write tls://HOST:{PORT}, or tcp://127.0.0.1:{PORT}"
                " on one machine"
            )
        if scheme == "tcp" and not _is_loopback(host):
            raise InputError(
                f"{text} is open to other machines, and tcp:// uses no keys: make keys with `cockpit cluster"
                f" keys DIR`, then write tls://{place} with ",
                OptionName("keys"),
                " DIR",
            )
        if scheme == "tls":
            if keys is None:
                raise InputError(
                    f"{text} needs the keys that `cockpit cluster keys DIR` made: name them with ", OptionName("keys")
                )
            keys = keys.absolute()
        return Address(scheme, host, int(port), keys if scheme == "tls" else None)

    def __str__(self) -> str:
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def context(self, *, head: bool) -> ssl.SSLContext | None:
        """The TLS context of one end; None for plain TCP. Each end must show a certificate of this cluster.

        Raises InputError if the keys cannot be used.
        """
        if self.keys is None:
            return None
        authority, own = self.keys / "ca.pem", self.keys / ("head.pem" if head else "worker.pem")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if head else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            context.load_verify_locations(authority)
            context.load_cert_chain(own)
        except ssl.SSLError as error:
            self._reject_keys(f"a file is damaged, {error.reason or error}", f"copy {authority.name} and {own.name}")
        except OSError as error:
            self._reject_keys(f"{authority.name}, {own.name}: {reason(error)}", "copy them")
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    def check_keys(self) -> None:
        """Raise InputError if no worker with these keys could join a head with them: expired, or of two clusters."""
        if self.keys is None or not (self.keys / FILES[2]).exists():
            return
        contexts = self.context(head=True), self.context(head=False)
        assert contexts[0]
        assert contexts[1]
        one, other = ssl.MemoryBIO(), ssl.MemoryBIO()
        head = contexts[0].wrap_bio(one, other, server_side=True)
        worker = contexts[1].wrap_bio(other, one, server_hostname=HEAD_NAME)
        try:
            for end in (worker, head, worker, head):
                with suppress(ssl.SSLWantReadError):
                    end.do_handshake()
        except ssl.SSLError as error:
            why = reason(error) if "expired" in reason(error) else "its files are of several clusters"
            self._reject_keys(why, "name others")

    def _reject_keys(self, why: str, fix: str) -> NoReturn:
        said = f"cannot use the keys in {self.keys} ({why}): {fix}, or make new ones with `cockpit cluster keys DIR`"
        raise InputError(said) from None

    def listen(self) -> socket.socket:
        """A socket that listens at this address. Raises InputError if the address cannot be used."""
        try:
            family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
            return socket.create_server((self.host, self.port), family=family, backlog=512)
        except OSError as error:
            fix = f"name an address of this machine, or none, as in tls://:{self.port}"
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                fix = "choose another port" if error.errno == errno.EADDRINUSE else "choose a port from 1024"
            raise InputError(f"cannot listen on {self} ({reason(error)}): {fix}") from None

    def check_reachable(self) -> None:
        """Raise InputError if no head can have this address: `join` would wait for it for ever."""
        if not (self.host and self.port):
            raise InputError(f"{self} is an address to listen on: write the head's, as in {self.scheme}://HOST:{PORT}")
        try:
            socket.getaddrinfo(self.host, self.port)
        except socket.gaierror as error:
            if error.errno != socket.EAI_AGAIN:  # no answer from a name server, which may come later
                raise InputError(f"no host is called {quoted(self.host)}: correct {self}") from None

    def connect(self) -> Line:
        """Connect to the head. Raises OSError if nothing answers, SSLError if TLS fails, InputError for bad keys."""
        connection = socket.create_connection((self.host, self.port), CONNECT_SECONDS)
        try:
            if context := self.context(head=False):
                connection = context.wrap_socket(connection, server_hostname=HEAD_NAME)
            connection.settimeout(ANSWER_SECONDS)
            return Line(connection)
        except BaseException:
            connection.close()
            raise


def no_head(address: Address) -> str:
    """The error for an address where another program than a head answers."""
    return f"{address} is not the head of a cluster: give the address where the head listens"


def refusal(error: OSError, address: Address) -> str | None:
    """What is wrong if TLS failed because of a certificate or the protocol; None if another attempt may succeed."""
    if not isinstance(error, ssl.SSLError) or isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return None
    said = error.reason or ""
    if "WRONG_VERSION" in said:
        return f"no TLS at {address}: give the address that the head prints"
    if "EXPIRED" in said or "expired" in reason(error):
        return (
            f"the keys of {address} have expired: make new ones with `cockpit cluster keys DIR`, restart the head with"
            " them and copy them here"
        )
    words = ("CERT", "UNKNOWN_CA", "HANDSHAKE_FAILURE", "PROTOCOL")
    if isinstance(error, ssl.SSLCertVerificationError) or any(word in said for word in words):
        keys = f"the keys in {address.keys} do not belong to the head at {address} ({reason(error)})"
        return f"{keys}: copy the folder that the head uses"
    return None


def pieces(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The parts of a file, each with its offset in bytes; an empty file has one empty part."""
    return ((start, data[start : start + PIECE]) for start in range(0, max(1, len(data)), PIECE))


def mapped(path: str, places: Mapping[str, str]) -> str:
    """A path of the head on this machine: `places` maps folders of the head to folders here; the longest match wins."""
    for there in sorted(places, key=len, reverse=True):
        if Path(path).is_relative_to(there):
            return str(Path(places[there]) / Path(path).relative_to(there))
    return path


def reason(error: OSError) -> str:
    """Why a connection failed, in a few words."""
    if isinstance(error, ssl.SSLError):
        return str(getattr(error, "verify_message", None) or error.reason or error)
    if isinstance(error, socket.gaierror):
        return "no such host"
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)


def _may_be_named(host: str) -> bool:
    """Whether a host may have this name: labels of at most 63 letters."""
    try:
        return not re.search(r"[\s/@]", host) and len(host.encode("idna")) < 254
    except UnicodeError:
        return False


def torch_version() -> str:
    """The installed version of torch without its build (+cpu, +cu128); does not import torch."""
    from importlib.metadata import version

    return version("torch").partition("+")[0]


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
