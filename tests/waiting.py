"""Waiting for what other processes and threads do."""

import time
from collections.abc import Callable
from pathlib import Path


def wait_until(condition: Callable[[], object], seconds: float = 120.0, log: Path | None = None) -> None:
    """Wait until a condition holds; fail after `seconds`, with the text of `log`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, log.read_text() if log else f"waited {seconds} s"
        time.sleep(0.01)
