"""Which devices are used, with CUDA's cards made up: no machine of ours has some."""

import pytest

from engine.errors import InputError
from engine.machine import devices
from engine.machine.devices import Device

CARDS = ["GPU-aaa1", "GPU-aaa2", "GPU-b"]


@pytest.mark.parametrize(
    ("wish", "chosen"),
    [
        (None, CARDS),
        ("", []),
        ("-1", []),
        ("2,0", ["GPU-b", "GPU-aaa1"]),
        ("0,7,1", ["GPU-aaa1"]),  # the list ends at the first name that is none
        ("GPU-b", ["GPU-b"]),
        ("GPU-aaa", []),  # of two cards
        ("MIG-1234, 1", ["MIG-1234", "GPU-aaa2"]),
    ],
)
def test_cuda_visible_devices_is_respected(
    monkeypatch: pytest.MonkeyPatch, wish: str | None, chosen: list[str]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if wish is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", wish)
    assert devices.visible(CARDS) == chosen


def test_without_cards_each_core_is_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_cuda", list)
    found = devices.found()
    assert len(found) == devices.cores()
    assert {device.name for device in found} == {"cpu"}
    assert devices.chosen(1) == found[:1]
    with pytest.raises(InputError, match=r"--workers 99 is out of range \(1 to \d+\): this machine has \d+ cores"):
        devices.chosen(99)


def test_several_cards_are_the_place_of_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_cuda", lambda: [Device(f"cuda:{i}", f"GPU-{i}", i != 3) for i in range(5)])
    assert devices.chosen(None, split=2) == [
        Device("cuda:0+cuda:1", "GPU-0,GPU-1", True, 2),
        Device("cuda:2+cuda:3", "GPU-2,GPU-3", False, 2),
    ]
    assert devices.Meter(devices.chosen(1, split=3)).cards == {f"cuda:{i}": f"GPU-{i}" for i in range(3)}
    for arguments, said in (
        ((None, 1, 6), r"--split 6 is out of range \(1 to 5\): this machine has 5 CUDA devices"),
        ((3, 1, 2), r"--workers 3 is out of range \(1 to 2\): this machine has 2 groups of 2 CUDA devices"),
        ((None, 2, 2), "--per-device 2 does not go with --split 2"),
    ):
        with pytest.raises(InputError, match=said):
            devices.chosen(*arguments)


def test_the_default_profile_is_fast_only_where_every_device_has_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    new, old = Device("cuda:0", "GPU-b", True), Device("cuda:1", "GPU-aaa1", False)
    monkeypatch.setattr(devices, "_cuda", lambda: [new, old])
    assert devices.default_profile() == "exact"
    monkeypatch.setattr(devices, "_cuda", lambda: [new])
    assert devices.default_profile() == "fast"
    with pytest.raises(InputError, match="has 1 CUDA devices"):
        devices.chosen(2)


@pytest.mark.parametrize(("cores", "workers", "decoders"), [(16, 1, 15), (16, 4, 3), (2, 2, 1), (1, 1, 1), (4, 8, 1)])
def test_a_worker_has_its_share_of_the_cores_but_one_to_decode_with(
    monkeypatch: pytest.MonkeyPatch, cores: int, workers: int, decoders: int
) -> None:
    monkeypatch.setattr(devices, "cores", lambda: cores)
    assert devices.decoders(workers) == decoders
