"""Export of rows as CSV or JSON lines, streamed. A file appears whole or not at all."""

import csv
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, TextIO

from cockpit.text import terminal
from engine.errors import InputError
from engine.machine import processes
from engine.machine.paths import is_replaceable
from engine.store import paths


def write(
    heading: list[str], rows: Iterable[tuple[object, ...]], output: Path | None, form: Literal["csv", "json"]
) -> None:
    """Write rows to a file or standard output. Floats are written so that reading gives the same number."""
    if output is None:
        _write_to(terminal.data(), heading, rows, form)
        return
    if not is_replaceable(output):  # flushed row by row, as the reader of a pipe may wait for the first
        with output.open("w", newline="", encoding="utf-8") as file:
            _write_to(file, heading, rows, form)
        return
    with whole(output) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        _write_to(file, heading, rows, form)


@contextmanager
def whole(output: Path) -> Iterator[Path]:
    """Yield a temporary file, which replaces `output` at the end. A link stays a link.

    If `output` is a pipe or a device, the content is written to it instead.
    """
    if not is_replaceable(output):
        from tempfile import TemporaryDirectory

        with TemporaryDirectory(prefix="cockpit-") as folder:
            partial = Path(folder) / output.name
            yield partial
            with partial.open("rb") as written, output.open("wb") as place:
                shutil.copyfileobj(written, place)
        return
    asked, output = output, output.resolve()
    if not output.absolute().parent.is_dir():
        raise InputError(
            f"folder {asked.parent} for {asked.name} does not exist: make it, or name another file with -o"
        )
    partial = output.with_name(f".{output.name}.{processes.mark()}")
    try:
        partial.touch()  # fails early if the folder cannot be written
        yield partial
        partial.replace(output)
    except OSError as error:  # names the temporary file, which the user does not know
        if error.errno in paths.DISK_FULL:
            raise
        raise InputError(f"{asked} cannot be written ({error.strerror}): name another file with -o") from None
    finally:
        with suppress(OSError):  # the first error counts
            partial.unlink(missing_ok=True)


def _write_to(file: TextIO, heading: list[str], rows: Iterable[tuple[object, ...]], form: str) -> None:
    if form == "json":
        file.writelines(json.dumps(dict(zip(heading, row, strict=True))) + "\n" for row in rows)
        return
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(heading)
    writer.writerows(rows)
