"""Running the program in the process of a test, which is much faster than starting processes."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from unittest.mock import patch

import pytest

from cockpit import cli


def run(*arguments: str) -> tuple[int, str, str]:
    """Run a command in the current folder; returns its exit code, stdout and stderr."""
    said = io.BytesIO(), io.BytesIO()
    out, err = (io.TextIOWrapper(stream, encoding="utf-8", write_through=True) for stream in said)
    with (
        patch.object(sys, "argv", ["cockpit", *arguments]),
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        cli.main()
    return int(ended.value.code or 0), said[0].getvalue().decode(), said[1].getvalue().decode()


def check_ended_well(code: int, err: str, allowed: tuple[int, ...] = (0, 1, 2)) -> None:
    """Assert that the exit code is a documented one, and that an error is one line at the end of stderr."""
    assert code in allowed
    assert "Traceback" not in err
    if code == 2:
        assert [line.startswith("cockpit: error: ") for line in err.splitlines()].count(True) == 1, err
        assert err.splitlines()[-1].startswith("cockpit: error: "), err
        assert len(err.splitlines()[-1]) > len("cockpit: error: ")
