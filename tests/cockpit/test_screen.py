"""Opening the dashboard: `cockpit` without arguments, and `cockpit serve`."""

import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from cockpit import config
from engine.errors import InputError
from tests.cockpit.terminals import SECONDS, in_terminal
from tests.conftest import Cockpit


def test_without_a_terminal_bare_cockpit_prints_its_help(cockpit: Cockpit, tmp_path: Path) -> None:
    found = cockpit()
    assert found.returncode == 0
    assert "Usage: cockpit" in found.stdout
    assert list(tmp_path.iterdir()) == []


def test_options_of_the_dashboard_are_not_silently_dropped(cockpit: Cockpit) -> None:
    for option in (("--db", "x.db"), ("--read-only",)):
        found = cockpit(*option, "queue", "list")
        assert found.returncode == 2
        assert "put options after the command" in found.stderr


def test_on_a_terminal_bare_cockpit_opens_the_dashboard(trained: Path, tmp_path: Path) -> None:
    shown, code = in_terminal(tmp_path, "--db", str(trained), until="tiny", keys=b"q")
    assert code == 0
    assert "✓ done" in shown


def test_looking_at_a_database_that_is_not_there_makes_none(tmp_path: Path) -> None:
    shown, code = in_terminal(tmp_path, until="cockpit run digits", keys=b"q")
    assert code == 0
    assert "No experiments yet" in shown
    assert list(tmp_path.iterdir()) == []


def test_the_theme_is_taken_from_the_configuration_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config.toml"
    monkeypatch.setenv("COCKPIT_CONFIG", str(file))
    assert config.screen().theme is None
    file.write_text('[screen]\ntheme = "cockpit-light"\n')
    assert config.screen().theme == "cockpit-light"
    assert config.work() == config.Work()
    file.write_text("[screen]\ntheme = 3\n")
    with pytest.raises(InputError, match="theme of \\[screen\\] is 3, must be text"):
        config.screen()
    file.write_text('[screen]\ntheme = "cockpit-lihgt"\n')
    found, code = in_terminal(tmp_path, until="error", keys=b"", COCKPIT_CONFIG=str(file))
    assert code == 2
    assert "unknown theme 'cockpit-lihgt'" in found


def free_port() -> int:
    """A free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(path: Path, port: int, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """`cockpit serve`, once it answers."""
    command = [sys.executable, "-m", "cockpit", "serve", "--port", str(port), "--db", str(path), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
                break
            time.sleep(0.1)
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(SECONDS)


def fetch(address: str, **headers: str) -> str:
    request = urllib.request.Request(address, headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(answer.read().decode())


def test_the_server_answers_on_the_loopback_address_to_its_own_page_only(trained: Path) -> None:
    port = free_port()
    with server(trained, port) as process:
        page = fetch(f"http://127.0.0.1:{port}/")
        assert f"ws://127.0.0.1:{port}/ws" in page
        tunnelled = fetch(f"http://127.0.0.1:{port}/", Host="localhost:9000")
        assert "ws://localhost:9000/ws" in tunnelled
        for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
            with pytest.raises(urllib.error.HTTPError, match="403"):
                fetch(f"http://127.0.0.1:{port}/", **headers)
        with socket.socket() as other:  # all of 127/8 is this machine, so another address is free
            other.bind(("127.0.0.2", port))
        again = subprocess.run(
            [sys.executable, "-m", "cockpit", "serve", "--port", str(port), "--db", str(trained)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert again.returncode == 2
        assert f"port {port} cannot be used" in again.stderr
        assert process.poll() is None


@pytest.mark.asyncio
@pytest.mark.parametrize(("options", "read_only"), [((), True), (("--allow-actions",), False)])
async def test_a_served_dashboard_is_read_only_unless_actions_are_allowed(
    trained: Path, options: tuple[str, ...], read_only: bool
) -> None:
    import aiohttp
    import psutil

    port = free_port()
    with server(trained, port, *options) as process:
        assert process.stderr is not None
        address = process.stderr.readline().split()[4].rstrip("/")
        assert (address == f"http://127.0.0.1:{port}") == read_only
        assert f'"{address.replace("http", "ws")}/ws"' in fetch(f"{address}/")
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{address}/ws") as socket_:
            shown = b""
            while b"tiny" not in shown:
                message = await socket_.receive(SECONDS)
                shown += message.data if isinstance(message.data, bytes) else b""
            commands = [" ".join(child.cmdline()) for child in psutil.Process(process.pid).children(recursive=True)]
            assert any("-m cockpit --db" in command for command in commands)
            assert all(("--read-only" in command) == read_only for command in commands)


def test_where_actions_are_allowed_nothing_is_found_without_the_token(trained: Path) -> None:
    port = free_port()
    with server(trained, port, "--allow-actions"):
        for path in ("", "ws", "static/js/textual.js", "download/x", "token/", "token/ws"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                fetch(f"http://127.0.0.1:{port}/{path}")


def without(module: str, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the program without a module."""
    script = f"import sys; sys.modules['{module}'] = None; from cockpit.cli import main; main()"
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_what_is_not_installed_is_named_with_the_command_that_installs_it(trained: Path, tmp_path: Path) -> None:
    found = without("textual_serve", tmp_path, "serve", "--db", str(trained))
    assert (found.returncode, found.stdout) == (2, "")
    assert "pip install 'lottery-cockpit[serve]'" in found.stderr
    found = without("matplotlib", tmp_path, "figure", "tiny", "-o", "tiny.png", "--db", str(trained))
    assert (found.returncode, found.stdout) == (2, "")
    assert "pip install 'lottery-cockpit[figures]'" in found.stderr
    assert list(tmp_path.iterdir()) == []
