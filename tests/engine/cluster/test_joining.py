"""Mistakes of those who set up a cluster: one line that says what is wrong and what to do."""

import errno
import shutil
import socket
import subprocess
import sys
import threading
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import pytest

from engine.desk import keys, wire
from engine.desk.wire import Address
from engine.errors import InputError
from engine.workers.joined import JoinedPool
from tests import inprocess
from tests.conftest import add


class LastYear(datetime):
    """A clock of 400 days ago."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        """The time then."""
        return datetime.now(tz) - timedelta(days=400)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the folders of keys good, other and expired."""
    for name in ("good", "other"):
        keys.make(tmp_path / name, 1)
    monkeypatch.setattr(keys, "datetime", LastYear)
    keys.make(tmp_path / "expired", 365)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("tls://[::1]", "::1", 8786),
        ("tls://[::1]:99", "::1", 99),
        ("tls://::1:99", "::1", 99),
        ("tls://lab1.example.org", "lab1.example.org", 8786),
    ],
)
def test_an_address_may_be_of_ipv6_and_without_a_port(tmp_path: Path, text: str, host: str, port: int) -> None:
    assert Address.parse(text, tmp_path) == Address("tls", host, port, tmp_path)
    assert Address.parse(str(Address.parse(text, tmp_path)), tmp_path) == Address.parse(text, tmp_path)


@pytest.mark.parametrize("host", ["lab 1", "lab1/x", "me@lab1", "lab1..org", "x" * 64, "x." * 127 + "org"])
def test_a_host_that_nothing_can_be_called_is_not_understood(tmp_path: Path, host: str) -> None:
    with pytest.raises(InputError, match="is not understood: write tls://HOST:8786"):
        Address.parse(f"tls://{host}:8786", tmp_path)


@pytest.mark.parametrize("text", ["tcp://[::1]:0", "tls://:8786", "tls://"])
def test_only_a_heads_address_can_be_joined(made: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"is an address to listen on: write the head's, as in t.*://HOST:8786"):
        JoinedPool(Address.parse(text, made / "good"), [], made / "cache")


def test_a_host_without_an_address_is_named_but_a_silent_name_server_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = socket.EAI_NONAME

    def fail(*_: object) -> None:
        raise socket.gaierror(said, "as the system words it")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(InputError, match=r"no host is called 'lab1': correct tcp://lab1:8786"):
        JoinedPool(Address("tcp", "lab1", 8786), [], tmp_path)
    said = socket.EAI_AGAIN
    assert JoinedPool(Address("tcp", "lab1", 8786), [], tmp_path).away == "no such host"


def test_a_head_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert JoinedPool(Address("tcp", "127.0.0.1", port), [], tmp_path).away == "Connection refused"


def test_a_machine_that_waits_ends_when_the_heads_file_is_gone(tmp_path: Path) -> None:
    file = tmp_path / "cluster.toml"
    file.write_text('address = "tcp://127.0.0.1:1"\n')
    command = [sys.executable, "-m", "cockpit", "join", str(file), "--workers", "1", "--cache", str(tmp_path / "cache")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as joined:
        assert joined.stderr
        while "waiting for it" not in (line := joined.stderr.readline()):
            assert line
        file.unlink()
        assert joined.stderr.read() == (
            f"cockpit: error: tcp://127.0.0.1:1 does not answer, and {file} is gone: start the head again\n"
        )
    assert joined.returncode == 2


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (dict.fromkeys(wire.FILES, "good"), None),
        ({"ca.pem": "good", "head.pem": "good"}, None),
        (dict.fromkeys(wire.FILES, "expired"), "certificate has expired"),
        ({"ca.pem": "other", "head.pem": "good", "worker.pem": "good"}, "its files are of several clusters"),
        ({"ca.pem": "good", "head.pem": "other", "worker.pem": "good"}, "its files are of several clusters"),
        ({"ca.pem": "good", "head.pem": "good", "worker.pem": "other"}, "its files are of several clusters"),
        ({"ca.pem": "good", "worker.pem": "good"}, "ca.pem, head.pem: No such file or directory"),
        ({"head.pem": "good"}, "ca.pem, head.pem: No such file or directory"),
        ({"ca.pem": "good", "head.pem": "damaged", "worker.pem": "good"}, "a file is damaged"),
    ],
)
def test_a_head_starts_with_keys_only_if_workers_can_join_it(
    made: Path, names: dict[str, str], why: str | None
) -> None:
    folder, path = made / "mixed", made / "experiments.db"
    folder.mkdir()
    for file, source in names.items():
        if source == "damaged":
            (folder / file).write_text("damaged")
        else:
            shutil.copy(made / source / file, folder / file)
    address = Address("tls", "127.0.0.1", 0, folder)
    if why is None:
        address.check_keys()
        return
    add(path, "one", levels=0, replicates=1, random=["none"], target=["digits-a"])
    code, out, err = inprocess.run("work", "--cluster", str(address), "--keys", str(folder), "--db", str(path))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"cannot use the keys in {folder} ({why}" in err
    assert "make new ones with `cockpit cluster keys DIR`" in err


@pytest.mark.parametrize(
    ("theirs", "why"),
    [
        ("expired", "the keys of tls://127.0.0.1:{port} have expired: make new ones"),
        ("other", "the keys in {ours} do not belong to the head at tls://127.0.0.1:{port} (self-signed certificate"),
        ("", "no TLS at tls://127.0.0.1:{port}: give the address that the head prints"),
    ],
)
def test_a_machine_with_the_wrong_keys_says_which_and_what_to_do(made: Path, theirs: str, why: str) -> None:
    ours = made / (theirs if theirs == "expired" else "good")
    context = Address("tls", "127.0.0.1", 0, made / theirs).context(head=True) if theirs else None

    def answer() -> None:
        connection = listening.accept()[0]
        try:
            if context:
                connection = context.wrap_socket(connection, server_side=True)
            else:
                connection.sendall(b"SSH-2.0-OpenSSH_9.2")
                connection.recv(1000)
        except OSError:
            pass
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(InputError) as refused:
            JoinedPool(Address("tls", "127.0.0.1", port, ours), [], made / "cache")
    assert str(refused.value).startswith(why.format(port=port, ours=ours))


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (errno.EADDRINUSE, "(Address already in use): choose another port"),
        (errno.EACCES, "(Permission denied): choose a port from 1024"),
        (errno.EADDRNOTAVAIL, "(Cannot assign requested address): name an address of this machine, or none, as in tls"),
        (None, "(no such host): name an address of this machine, or none, as in tls://:8786"),
    ],
)
def test_an_address_that_cannot_be_listened_on_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int | None, why: str
) -> None:
    path = tmp_path / "experiments.db"
    add(path, "one", levels=0, replicates=1, random=["none"], target=["digits-a"])

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, "as the system words it") if number else socket.gaierror(socket.EAI_NONAME, "so")

    monkeypatch.setattr(socket, "create_server", fail)
    for background in ([], ["--detach"]):
        code, out, err = inprocess.run("work", "--cluster", "tcp://127.0.0.1:8786", "--db", str(path), *background)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert f"cannot listen on tcp://127.0.0.1:8786 {why}" in err
