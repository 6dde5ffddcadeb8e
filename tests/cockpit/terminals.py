"""Running the program on a pseudo-terminal."""

import fcntl
import os
import pty
import struct
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path

SECONDS = 120.0  # on a busy machine


def in_terminal(folder: Path, *arguments: str, until: str, keys: bytes, **environment: str) -> tuple[str, int]:
    """Run the program on a terminal until it shows a text, press keys, and wait for its end."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        clean = {key: value for key, value in os.environ.items() if key != "COCKPIT_DB"}
        command = [sys.executable, "-m", "cockpit", *arguments]
        os.execve(sys.executable, command, {**clean, "TERM": "xterm-256color", **environment})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    shown, deadline, pressed = b"", time.monotonic() + SECONDS, False
    with suppress(OSError):  # the program has ended and closed the terminal
        while time.monotonic() < deadline:
            shown += os.read(terminal, 65536)
            if not pressed and until in shown.decode(errors="replace"):
                os.write(terminal, keys)
                pressed = True
    os.close(terminal)
    return shown.decode(errors="replace"), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
