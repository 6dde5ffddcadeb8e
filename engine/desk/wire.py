"""What goes between a head and those who joined it: frames of msgpack over TCP or TLS.

What comes in is data: it is decoded as the types that an operation declares, and nothing of it is ever run.
"""

import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from engine.errors import InputError, OptionName, quoted
from engine.machine import processes
from engine.recipes import Run
from engine.store.leases import Claim

PORT = 8786
PIECE = 2 * 2**20  # bytes of a file that one message carries
LONGEST = PIECE + 2**20  # bytes of a message
CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 120.0  # that an answer may take: the head waits for a locked database for less
HEAD_NAME = "cockpit-head"  # in the head's certificate, wherever the head is
FILES = ("ca.pem", "head.pem", "worker.pem")  # in a folder of keys

Kind = TypeVar("Kind")


class Order(msgspec.Struct, frozen=True):
    """A claim as it is sent."""

    run_id: int
    number: int
    attempt: int
    recipe: str
    lost: int

    @staticmethod
    def of(claim: Claim) -> "Order":
        """What stands for this claim."""
        return Order(claim.run_id, claim.number, claim.attempt, claim.run.to_json(), claim.lost)

    def claim(self) -> Claim:
        """The claim. Raises InputError for a recipe that is none."""
        return Claim(self.run_id, self.number, self.attempt, Run.from_json(self.recipe), self.lost)


class Hello(msgspec.Struct, frozen=True):
    """What the one who joins says first. A `pool` has no device; a worker that comes back says what it had."""

    version: str
    torch: str
    identity: processes.Identity
    role: str = "pool"  # pool, work, beat
    device: str = ""
    split: int = 1
    shared_device: bool = False
    log: str = ""  # the name of the file that its pool's output goes to
    worker: int | None = None
    database: str | None = None
    claim: Order | None = None


class Welcome(msgspec.Struct, frozen=True):
    """What the head answers to it."""

    worker: int
    database: str


class Call(msgspec.Struct, array_like=True, frozen=True):
    """An operation of the desk, and what it is about."""

    name: str
    arguments: list[Any]


class Answer(msgspec.Struct, array_like=True, frozen=True):
    """What came of it: a value, or a `problem` of some kind and what is said of it."""

    value: Any = None
    problem: str = ""
    said: Any = None


class Piece(msgspec.Struct, array_like=True, frozen=True):
    """A part of a file, and how many bytes all of it has."""

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
        """Send a message. Raises OSError."""
        data = msgspec.msgpack.encode(message)
        with self._sending:
            self.connection.sendall(len(data).to_bytes(4, "big"))
            self.connection.sendall(data)

    def receive(self, kind: type[Kind]) -> Kind:
        """The next message. Raises OSError at the end of the connection, DecodeError for what is no such message."""
        size = int.from_bytes(self._read(4), "big")
        if size > LONGEST:
            raise msgspec.ValidationError(f"a message of {size} bytes")
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
    """Where a head listens: `tcp://HOST:PORT`, or `tls://HOST:PORT` with a folder of keys."""

    scheme: str
    host: str
    port: int
    keys: Path | None = None

    @staticmethod
    def parse(text: str, keys: Path | None = None) -> "Address":
        """The address that a person gave. Raises InputError; plain TCP is taken on this machine alone."""
        scheme, _, place = text.partition("://")
        host, colon, port = place.rpartition(":")
        host, port = (host, port) if colon else (place, str(PORT))
        host = host.removeprefix("[").removesuffix("]")
        if scheme not in ("tcp", "tls") or not port.isdecimal() or int(port) > 65535:
            raise InputError(
                f"cluster address {quoted(text)} is not understood: write tls://HOST:{PORT}, or tcp://127.0.0.1:{PORT}"
                " on one machine"
            )
        if scheme == "tcp" and not _is_loopback(host):
            raise InputError(
                f"{text} can be reached from other machines, and tcp:// has no keys: make some with `cockpit cluster"
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
        """What TLS needs at this end: either proves with its certificate that it belongs to the other."""
        if self.keys is None:
            return None
        authority, own = self.keys / "ca.pem", self.keys / ("head.pem" if head else "worker.pem")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if head else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            context.load_verify_locations(authority)
            context.load_cert_chain(own)
        except (OSError, ssl.SSLError) as error:
            raise InputError(
                f"keys in {self.keys} cannot be used ({error}): {authority.name} and {own.name} are needed, which"
                " `cockpit cluster keys DIR` makes"
            ) from None
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    def listen(self) -> socket.socket:
        """A socket that listens here. Raises InputError where it cannot."""
        try:
            family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
            return socket.create_server((self.host, self.port), family=family, backlog=512)
        except OSError as error:
            raise InputError(f"{self} cannot be listened on ({error.strerror or error}): name another port") from None

    def connect(self) -> Line:
        """A connection to the head. Raises OSError where there is none, SSLError where its certificate is no good."""
        connection = socket.create_connection((self.host or "127.0.0.1", self.port), CONNECT_SECONDS)
        try:
            if context := self.context(head=False):
                connection = context.wrap_socket(connection, server_hostname=HEAD_NAME)
            connection.settimeout(ANSWER_SECONDS)
            return Line(connection)
        except BaseException:
            connection.close()
            raise


def no_head(address: Address) -> str:
    """What to say where something else answers."""
    return f"{address} is no head of a cluster: name the address where `cockpit work --cluster` listens"


def is_refusal(error: OSError) -> bool:
    """Whether an error of TLS says that a certificate, or the protocol, is wrong: trying again does not help."""
    if not isinstance(error, ssl.SSLError) or isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return False
    words = ("CERT", "UNKNOWN_CA", "WRONG_VERSION", "HANDSHAKE_FAILURE", "PROTOCOL")
    return isinstance(error, ssl.SSLCertVerificationError) or any(word in (error.reason or "") for word in words)


def pieces(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The parts of a file, each with its place; one that is empty has one."""
    return ((start, data[start : start + PIECE]) for start in range(0, max(1, len(data)), PIECE))


def mapped(path: str, places: Mapping[str, str]) -> str:
    """A path of the head as this machine has it: the longest beginning that `places` names is replaced."""
    for there in sorted(places, key=len, reverse=True):
        if Path(path).is_relative_to(there):
            return str(Path(places[there]) / Path(path).relative_to(there))
    return path


def torch_version() -> str:
    """The version of torch that is installed, without importing it; +cpu and +cu128 are builds of one."""
    from importlib.metadata import version

    return version("torch").partition("+")[0]


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
