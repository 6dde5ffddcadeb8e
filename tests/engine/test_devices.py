"""The choice of devices, with simulated CUDA cards."""

import platform
from pathlib import Path
from typing import Any

import pynvml
import pytest

from engine.errors import InputError
from engine.machine import devices, processes
from engine.machine.devices import Card, Device, TorchCard, TorchCards

H100, A100, OLD = "NVIDIA H100", "NVIDIA A100", "Tesla V100"
CARDS = [Card("GPU-aaa1", H100, True), Card("GPU-aaa2", H100, True), Card("GPU-b", H100, True)]
MIXED = [Card("GPU-old", OLD, False), Card("GPU-new", H100, True)]
SLICED = [Card("GPU-a", A100, True, ("MIG-1", "MIG-2")), Card("GPU-b", A100, True)]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "HIP_VISIBLE_DEVICES"):
        monkeypatch.delenv(variable, raising=False)
    devices._from_torch.cache_clear()


def machine(monkeypatch: pytest.MonkeyPatch, cards: list[Card], torch: TorchCards | None = None) -> None:
    """A machine with these cards, as NVML tells of them, and what torch says if it is asked."""

    def ask(kind: type, module: str) -> TorchCards:
        assert module == "engine.machine.cards"
        if torch is None:
            raise InputError("no answer")
        return torch

    monkeypatch.setattr(devices, "TRACES", ("/",))
    monkeypatch.setattr(devices, "_cards", lambda: cards)
    monkeypatch.setattr(processes, "ask", ask)


def broken(monkeypatch: pytest.MonkeyPatch, *traces: Path, torch: TorchCards | None = None) -> None:
    """A machine whose NVML fails, with these traces of a card."""

    def fail() -> list[Card]:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)

    machine(monkeypatch, [], torch)
    monkeypatch.setattr(devices, "_cards", fail)
    monkeypatch.setattr(devices, "TRACES", tuple(map(str, traces)))


@pytest.mark.parametrize(
    ("wish", "named"),
    [
        (None, [("GPU-aaa1", "GPU-aaa1"), ("GPU-aaa2", "GPU-aaa2"), ("GPU-b", "GPU-b")]),
        ("", []),
        ("-1", []),
        ("2,0", [("2", "GPU-b"), ("0", "GPU-aaa1")]),
        ("0,7,1", [("0", "GPU-aaa1")]),  # the list ends at the first invalid name
        ("1x, 0", [("1x", "GPU-aaa2"), ("0", "GPU-aaa1")]),
        ("1,1", []),  # CUDA ignores a list with a duplicate
        ("GPU-b", [("GPU-b", "GPU-b")]),
        ("GPU-aaa", []),  # two cards match
        ("MIG-1234, 1", [("MIG-1234", None), ("1", "GPU-aaa2")]),
    ],
)
def test_cuda_visible_devices_is_respected(
    monkeypatch: pytest.MonkeyPatch, wish: str | None, named: list[tuple[str, str | None]]
) -> None:
    machine(monkeypatch, CARDS)
    if wish is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", wish)
    assert [(device.visible, device.card) for device in devices._cuda()] == named


@pytest.mark.parametrize(("cards", "wish"), [(MIXED, "0"), (MIXED, "GPU-new,0"), (SLICED, "1")])
def test_numbers_of_cards_that_only_cuda_can_tell_are_asked_of_it(
    monkeypatch: pytest.MonkeyPatch, cards: list[Card], wish: str
) -> None:
    names = wish.split(",")
    said = TorchCards(rocm=False, cards=tuple(TorchCard(f"GPU-{place}", True) for place in range(len(names))))
    machine(monkeypatch, cards, said)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", wish)
    found = devices._cuda()
    assert [(device.visible, device.card) for device in found] == [(n, f"GPU-{p}") for p, n in enumerate(names)]


def test_in_the_order_of_the_bus_numbers_of_different_cards_are_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, MIXED)
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert devices._cuda() == [Device("cuda:0", "1", True, card="GPU-new", model=H100)]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert not devices._cuda()[0].native_bf16


def test_each_slice_of_a_divided_card_is_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, SLICED)
    assert [device.visible for device in devices._cuda()] == ["MIG-1", "MIG-2", "GPU-b"]


def test_batches_are_split_over_undivided_cards_as_a_process_sees_one_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, [*SLICED, Card("GPU-c", A100, True)])
    assert [device.visible for device in devices.chosen(None, split=2)] == ["GPU-b,GPU-c"]
    assert len(devices.chosen(None)) == 4
    machine(monkeypatch, SLICED)
    with pytest.raises(InputError, match=r"split 2 is out of range \(1 to 1\): this machine has 1 undivided CUDA"):
        devices.chosen(None, split=2)
    machine(monkeypatch, SLICED[:1])
    with pytest.raises(InputError, match=r"split 2 is out of range \(1 to 1\): this machine has 0 undivided CUDA"):
        devices.chosen(None, split=2)


def test_a_broken_nvml_does_not_hide_a_card_that_torch_can_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cards = (TorchCard("GPU-x", True), TorchCard("GPU-y", True))
    broken(monkeypatch, tmp_path, torch=TorchCards(False, cards))
    assert [(device.name, device.visible) for device in devices.usable()] == [("cuda:0", "0"), ("cuda:1", "1")]
    assert devices.unclear() is None


def test_without_nvml_and_torch_the_cpu_is_used_but_not_without_a_word(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken(monkeypatch, tmp_path)
    assert devices.usable()[0].name == "cpu"
    assert "training on the CPU" in (devices.unclear() or "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices.unclear() is None  # as requested
    broken(monkeypatch, tmp_path / "no trace of a card")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert devices.unclear() is None


def test_rocm_is_torchs_cuda_under_a_variable_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken(monkeypatch, tmp_path, torch=TorchCards(True, (TorchCard("GPU-x", True),)))
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "3")
    (device,) = devices.usable()
    assert (device.name, device.visible, device.variable) == ("cuda:0", "3", "HIP_VISIBLE_DEVICES")


def test_torch_answers_when_it_is_asked() -> None:
    torch = pytest.importorskip("torch")
    found = processes.ask(TorchCards, "engine.machine.cards")
    assert len(found.cards) == torch.cuda.device_count()
    if not torch.version.hip and found.cards:
        assert {card.uuid for card in found.cards} <= {card.uuid for card in devices._cards()}


def test_without_cards_each_core_is_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_cuda", list)
    found = devices.usable()
    assert len(found) == devices.cores()
    assert {device.name for device in found} == {"cpu"}
    assert devices.chosen(1) == found[:1]
    with pytest.raises(InputError, match=r"workers 99 is out of range \(1 to \d+\): this machine has \d+ cores"):
        devices.chosen(99)


def test_several_cards_are_the_place_of_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = [Device(f"cuda:{i}", f"{i}", i != 3, card=f"GPU-{i}") for i in range(5)]
    monkeypatch.setattr(devices, "_cuda", lambda: cards)
    assert devices.chosen(None, split=2) == [
        Device("cuda:0+cuda:1", "0,1", True, 2, "GPU-0,GPU-1"),
        Device("cuda:2+cuda:3", "2,3", False, 2, "GPU-2,GPU-3"),
    ]
    assert devices.Meter(devices.chosen(1, split=3)).cards == {f"cuda:{i}": f"GPU-{i}" for i in range(3)}
    for arguments, said in (
        ((None, 1, 6), r"split 6 is out of range \(1 to 5\): this machine has 5 CUDA devices"),
        ((3, 1, 2), r"workers 3 is out of range \(1 to 2\): this machine has 2 groups of 2 CUDA devices"),
        ((None, 2, 2), "per_device 2 does not go with split 2"),
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


def test_a_large_node_has_no_more_decoders_than_its_devices_can_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "cores", lambda: 256)
    assert [devices.decoders(1), devices.decoders(8)] == [32, 31]
    assert devices.decoders(1, split=8) == 255  # 31 for each of eight processes
    assert devices.decoders(1, split=2) == 64


def test_an_apple_gpu_is_used_where_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, [], TorchCards(False, (), apple=True))
    monkeypatch.setattr(devices, "TRACES", ())
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert devices.chosen(None, only="mps") == [Device("mps", None, True)]
    assert {device.name for device in devices.chosen(None)} == {"cpu"}
    assert "device mps" in str(devices.emulated(["fast"]))
    refused: list[dict[str, Any]] = [{"workers": 2}, {"workers": None, "split": 2}, {"workers": None, "per_device": 2}]
    for options in refused:
        with pytest.raises(InputError, match=r"Apple GPU|CUDA device"):
            devices.chosen(**options, only="mps")


def test_an_apple_gpu_that_torch_does_not_find_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="torch finds none here"):
        devices.chosen(None, only="mps")
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    machine(monkeypatch, [], TorchCards(False, ()))
    with pytest.raises(InputError, match="torch finds none here"):
        devices.chosen(None, only="mps")


@pytest.mark.parametrize(
    ("told", "name"),
    [
        (
            "processor\t: 0\nmodel name\t: Intel(R) Xeon(R) Platinum 8488C CPU @ 2.40GHz\nflags: x\n",
            "Intel Xeon Platinum 8488C",
        ),
        ("model name\t: AMD EPYC 7763 64-Core Processor\n", "AMD EPYC 7763 64-Core"),
        ("processor\t: 0\nBogoMIPS\t: 50.00\n", "aarch64"),
    ],
)
def test_a_cpu_has_the_name_that_its_maker_gave_it(monkeypatch: pytest.MonkeyPatch, told: str, name: str) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: told)
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    devices.cpu_name.cache_clear()
    assert devices.cpu_name() == name
    devices.cpu_name.cache_clear()
