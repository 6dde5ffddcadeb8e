"""Random ticket files are refused in one line or are sound tickets; no reader fails otherwise."""

import copy
import json
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import InputError
from engine.results import ticket_export
from engine.tickets import headers, masks, tensorfiles, ticketfiles
from tests.tickets import VALUES, export, joined, parts, places

READERS: tuple[Callable[[bytes], object], ...] = (headers.read, masks.read, tensorfiles.unpack, ticketfiles.unpack)
SLOW = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)


@pytest.fixture
def ticket_file(trained: Path, tmp_path: Path) -> Path:
    return export(trained, "tiny:global", 2, 0, tmp_path / "sound.safetensors")


def check(file: Path, data: bytes) -> None:
    """All readers, and the functions of the commands, accept a file or refuse it in one line."""
    for read in READERS:
        with suppress(InputError) if read is not headers.read else suppress(ValueError):
            read(data)
    file.write_bytes(data)
    told = ticket_export.verify(file)
    assert all("\n" not in problem for problem in told.problems)
    json.dumps(told.as_json(), allow_nan=False)
    with suppress(InputError):
        found = ticketfiles.read(file)
        name = ticketfiles.file_name(found)
        assert "/" not in name
        assert len(name.encode()) < 255 * 2
        ticketfiles.source(f"ticket:{file}")


@SLOW
@given(data=st.data())
def test_no_value_anywhere_in_a_header_breaks_a_reader(ticket_file: Path, tmp_path: Path, data: st.DataObject) -> None:
    header, tensors = copy.deepcopy(parts(ticket_file.read_bytes()))
    for _ in range(data.draw(st.integers(1, 3))):
        if not (found := places(header)):
            break
        holder, key = data.draw(st.sampled_from(found))
        if data.draw(st.booleans()):
            holder[key] = data.draw(VALUES)
        else:
            del holder[key]
    check(tmp_path / "t.safetensors", joined(header, tensors))


@SLOW
@given(data=st.data())
def test_no_bytes_break_a_reader(ticket_file: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(ticket_file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(len(content) - 1, 4000)))] = data.draw(st.integers(0, 255))
    end = data.draw(st.just(len(content)) | st.integers(0, len(content)))
    check(tmp_path / "t.safetensors", bytes(content[:end]) + data.draw(st.binary(max_size=3)))


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (b"[" * 100_000, "nested too deeply|maximum recursion"),
        (b'{"a":' * 100_000, "nested too deeply|maximum recursion"),
        (b'{"__metadata__":{"cockpit":"1","cockpit":"2"}}', "a key twice"),
        (b'{"__metadata__":{"cockpit":"{\\"a\\":NaN}"}}', "the number NaN"),
        (b'{"__metadata__":{"cockpit":"{\\"a\\":1e999}"}}', "the number 1e999"),
        (b'{"__metadata__":{"cockpit":1}}', "Expected `str`"),
        (b'{"__metadata__":{"cockpit":"[]"}}', "Expected `object`"),
        (b'{"x":{"dtype":"F32","shape":[9],"data_offsets":[0,4]}}', "what cannot be"),
        (b'{"x":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', "Expected `int`"),
        (b'{"x":{"dtype":"Q","shape":[1],"data_offsets":[0,4]}}', "what cannot be"),
        (b"\xff\xfe", "no safetensors file"),
    ],
)
def test_what_no_writer_writes_is_refused_with_a_reason(header: bytes, why: str) -> None:
    with pytest.raises(InputError, match=why):
        ticketfiles.unpack(struct.pack("<Q", len(header)) + header)


def test_a_header_longer_than_its_file_is_refused() -> None:
    for length in (2, 2**63, 2**64 - 1):
        with pytest.raises(InputError, match="cut off in its header"):
            ticketfiles.unpack(struct.pack("<Q", length) + b"{")
