"""Ticket files that tests export, take apart and put together."""

import json
import struct
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from engine.results import ticket_export
from engine.store import database, exports
from engine.store.files import Folder

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.sampled_from(
    [2**64, -1, 10**400, "../../x", "a" * 1000, "\ud800", "\0", "npz:..", "no.such:model", [[]], {"a": {}}]
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


def export(path: Path, name: str, level: int, replicate: int, place: Path) -> Path:
    with closing(database.reader(path)) as connection:
        digests = exports.runs_of(connection, name, level, replicate)
        place.write_bytes(ticket_export.ticket(connection, Folder(database.files_folder(path)), *digests).data)
    return place


def parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a file, with its JSON read, and the bytes of the tensors."""
    start = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:start])
    header["__metadata__"]["cockpit"] = json.loads(header["__metadata__"]["cockpit"])
    return header, data[start:]


def joined(header: Any, tensors: bytes) -> bytes:
    with suppress(KeyError, TypeError):
        header["__metadata__"]["cockpit"] = json.dumps(header["__metadata__"]["cockpit"])
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + tensors


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container of a JSON value with a key of it."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [found for key in list(keys) for found in [(value, key), *places(value[key])]]
