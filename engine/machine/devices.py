"""The devices of this machine that can train: its CUDA devices, else its CPU cores; an Apple GPU if named. No torch."""

import os
import platform
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec

from engine.errors import InputError, OptionName, Range, quoted
from engine.machine import processes

PER_DEVICE = Range(1, 64)  # workers
APPLE = "mps"  # torch's name of the GPU of Apple's processors
MOST_DECODERS = 32  # per device; a core decodes 300 to 500 photographs of 500x375 pixels a second
# Files of NVIDIA's driver, also under Windows (WSL), and of AMD's.
TRACES = ("/dev/nvidiactl", "/proc/driver/nvidia/version", "/dev/dxg", "/dev/kfd")
NUMBERS = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?")  # a device, or a range of devices
NUMBER = re.compile(r"\+?\d+")  # matched at the start of a name: CUDA reads 1x as 1


class Device(msgspec.Struct, frozen=True):
    """The device of one worker process, which trains one run at a time; several devices as one: `together`."""

    name: str  # torch's: cpu, cuda:0; of several cpu+cpu, cuda:0+cuda:1
    visible: str | None  # value of the environment variable `variable` that selects it; None for a CPU core
    native_bf16: bool
    split: int = 1  # number of devices that share each batch
    card: str | None = None  # its UUID in the driver's library (NVML); several are separated by commas
    variable: str = "CUDA_VISIBLE_DEVICES"
    model: str | None = None  # the maker's name, which runs record; None if not known

    @property
    def is_slice(self) -> bool:
        """Whether it is a slice of a divided card (MIG)."""
        return self.visible is not None and "MIG-" in self.visible


class TorchCard(msgspec.Struct, frozen=True):
    """A device as torch sees it: its UUID in NVML, and whether it has native bfloat16."""

    uuid: str
    bf16: bool
    model: str | None = None


class TorchCards(msgspec.Struct, frozen=True):
    """The devices that torch can use, in its order, and whether it is built for ROCm and can use an Apple GPU."""

    rocm: bool
    cards: tuple[TorchCard, ...]
    apple: bool = False


class Load(msgspec.Struct, frozen=True):
    """The present load of a device; `cpu` is the whole host. Values that a device does not report are None."""

    device: str
    busy: float  # fraction of the cores or of the card, in [0, 1]
    memory_used: int  # bytes
    memory_total: int
    celsius: float | None = None
    watts: float | None = None


def usable() -> list[Device]:
    """The CUDA devices that `CUDA_VISIBLE_DEVICES` allows, else a `cpu` for each core this process may use."""
    return _cuda() or [Device("cpu", None, _cpu_has_bf16(), model=cpu_name())] * cores()


def numbered(text: str, number: int) -> list[int]:
    """The numbers in a text such as 0-3,6, sorted. Raises InputError unless all are below `number`."""
    option, chosen = OptionName("devices"), set[int]()
    for part in text.split(","):
        match = NUMBERS.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last or last >= number:
            raise InputError(
                option, f" {quoted(text)} is not understood: give numbers from 0 to {number - 1} as in 0-3,6"
            )
        chosen |= set(range(first, last + 1))
    return sorted(chosen)


def chosen(workers: int | None, per_device: int = 1, split: int = 1, only: str | None = None) -> list[Device]:
    """The device of each worker: the first `workers` devices (None: all), each `per_device` times.

    With `split`, each worker has that number of devices, which train one run together. `only` selects devices, as in
    0-3,6, or an Apple GPU as mps. Raises InputError if this machine does not have these devices.
    """
    devices, named = usable(), OptionName("per_device")
    if only == APPLE:
        devices = [_apple()]
    elif only is not None:
        devices = _only(devices, only, workers)
    kind = "CUDA devices" if devices[0].visible else "Apple GPU" if only == APPLE else "cores"
    if split > 1 and any(device.is_slice for device in devices):  # CUDA shows a process at most one slice
        devices, kind = [device for device in devices if not device.is_slice], "undivided CUDA devices"
    Range(1, max(1, len(devices))).check(OptionName("split"), split, f"this machine has {len(devices)} {kind}")
    if split > 1:
        if per_device > 1:
            why = f" {per_device} does not go with "
            raise InputError(named, why, OptionName("split"), f" {split}: give one of them")
        devices = [together(devices[first : first + split]) for first in range(0, len(devices) - split + 1, split)]
        kind = f"groups of {split} {kind}"
    if workers is not None:
        Range(1, len(devices)).check(OptionName("workers"), workers, f"this machine has {len(devices)} {kind}")
    PER_DEVICE.check(named, per_device)
    if per_device > 1 and not devices[0].visible:
        raise InputError(named, f" {per_device} needs a CUDA device, this machine has none: leave it out")
    return [device for device in devices[:workers] for _ in range(per_device)]


def _only(devices: list[Device], text: str, workers: int | None) -> list[Device]:
    option = OptionName("devices")
    if not devices[0].visible:
        why = f" {quoted(text)} needs CUDA devices, this machine has none: give "
        raise InputError(option, why, OptionName("workers"), f" N, at most {len(devices)}")
    if workers is not None:
        raise InputError(option, f" {quoted(text)} excludes ", OptionName("workers"), ": give one of them")
    return [devices[number] for number in numbered(text, len(devices))]


def _apple() -> Device:
    """The GPU of this machine's Apple processor. Raises InputError if torch finds none."""
    if not _has_apple_processor() or not processes.ask(TorchCards, "engine.machine.cards").apple:
        raise InputError(OptionName("devices"), " mps needs an Apple GPU, and torch finds none here: leave it out")
    return Device(APPLE, None, native_bf16=True)  # its `fast` is float32, so nothing is emulated


def _has_apple_processor() -> bool:
    return platform.system() == "Darwin" and platform.machine() == "arm64"


def together(devices: list[Device]) -> Device:
    """Several devices as the device of one worker."""
    cards = [device.visible for device in devices if device.visible]
    name, bf16 = "+".join(device.name for device in devices), all(device.native_bf16 for device in devices)
    known = ",".join(device.card or "" for device in devices)
    return Device(
        name, ",".join(cards) or None, bf16, len(devices), known or None, devices[0].variable, devices[0].model
    )


def cores() -> int:
    """The number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decoders(workers: int, split: int = 1) -> int:
    """The number of processes that decode images for each of `workers`: its share of the cores, less one for itself.

    At least 1, and at most `MOST_DECODERS` for each of its `split` devices.
    """
    return max(1, min(cores() // workers - 1, MOST_DECODERS * split))


def default_profile() -> Literal["exact", "fast"]:
    """`fast` if all devices have native bfloat16, else `exact`."""
    return "fast" if all(device.native_bf16 for device in usable()) else "exact"


def emulated(profiles: Iterable[str]) -> str | None:
    """A warning that this machine emulates the arithmetic of one of these profiles; None if it does not.

    The factor is for ResNet-20, measured between 9.3 and 12 (docs/performance.md).
    """
    if "fast" not in profiles or default_profile() == "fast":
        return None
    faster = "; its GPU (device mps) trains it in float32" if _has_apple_processor() else ""
    return (
        "profile fast is emulated on this machine, which has no native bfloat16: on a CPU with AVX2 a training took 10"
        f" times as long as in exact{faster}"
    )


class Card(msgspec.Struct, frozen=True):
    """A card as the driver's library (NVML) describes it; `slices` are the names of its MIG slices."""

    uuid: str
    model: str
    native_bf16: bool
    slices: tuple[str, ...] = ()


def _cuda() -> list[Device]:
    """The CUDA devices that CUDA_VISIBLE_DEVICES allows; else ROCm's, which torch calls CUDA devices, too."""
    if not any(Path(trace).exists() for trace in TRACES):
        return []
    import pynvml  # imported here, as it takes three times as long as starting Python

    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        cards = _cards()
    except pynvml.NVMLError:  # missing, or of another version than the driver: torch may still use a card
        return _from_torch(allowed)
    every = [name for card in cards for name in card.slices or (card.uuid,)]
    names = every if allowed is None else visible(allowed, cards)
    if names is None:
        return _from_torch(allowed)
    known = [_card(name, cards) for name in names]
    # A named slice has no known card; all cards with slices have native bfloat16.
    return [
        Device(f"cuda:{number}", name, True)
        if card is None
        else Device(f"cuda:{number}", name, card.native_bf16, card=card.uuid, model=card.model)
        for number, (name, card) in enumerate(zip(names, known, strict=True))
    ]


def _cards() -> list[Card]:
    """The cards in the order of the PCI bus, as in nvidia-smi. Raises NVMLError."""
    import pynvml

    def about(number: int) -> Card:
        handle = pynvml.nvmlDeviceGetHandleByIndex(number)
        bf16 = pynvml.nvmlDeviceGetCudaComputeCapability(handle)[0] >= 8
        return Card(pynvml.nvmlDeviceGetUUID(handle), pynvml.nvmlDeviceGetName(handle), bf16, _slices(handle))

    pynvml.nvmlInit()
    try:
        return [about(number) for number in range(pynvml.nvmlDeviceGetCount())]
    finally:
        pynvml.nvmlShutdown()


def _slices(handle: object) -> tuple[str, ...]:
    import pynvml

    slices = []
    with suppress(pynvml.NVMLError):  # a card that cannot be divided
        if pynvml.nvmlDeviceGetMigMode(handle)[0] == pynvml.NVML_DEVICE_MIG_ENABLE:
            for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
                with suppress(pynvml.NVMLError):  # no slice has this number
                    slices.append(pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)))
    return tuple(slices)


def visible(allowed: str, cards: list[Card]) -> list[str] | None:
    """The names in the value of CUDA_VISIBLE_DEVICES that CUDA accepts, unchanged: those before the first invalid one.

    A number stays a number, as it means the same card to a worker. None if only CUDA can tell which cards numbers
    mean: it counts the fastest first unless CUDA_DEVICE_ORDER is PCI_BUS_ID, and divided cards by its own rules.
    """
    counted = os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID" or len({card.model for card in cards}) < 2
    names: list[str] = []
    for name in (part.strip() for part in allowed.split(",")):
        if NUMBER.match(name) and (not counted or any(card.slices for card in cards)):
            return None
        if not name.startswith("MIG-") and _card(name, cards) is None:
            break
        names.append(name)
    return names if len(set(names)) == len(names) else []  # CUDA accepts none if one is named twice


def _card(name: str, cards: list[Card]) -> Card | None:
    """The card of a name in CUDA_VISIBLE_DEVICES: a number, or an unambiguous beginning of a UUID."""
    if number := NUMBER.match(name):
        return cards[int(number[0])] if int(number[0]) < len(cards) else None
    matches = [card for card in cards if name and card.uuid.startswith(name)]
    return matches[0] if len(matches) == 1 else None


@cache
def _from_torch(allowed: str | None) -> list[Device]:
    """The devices that torch finds, in a separate process, which takes a few seconds."""
    try:
        seen = processes.ask(TorchCards, "engine.machine.cards")
    except InputError:
        return []  # `unclear` warns about it
    variable = "HIP_VISIBLE_DEVICES" if seen.rocm else "CUDA_VISIBLE_DEVICES"
    names = [part.strip() for part in (os.environ.get(variable) or allowed or "").split(",") if part.strip()]
    names = names or [str(number) for number in range(len(seen.cards))]
    return [
        Device(f"cuda:{number}", name, card.bf16, card=card.uuid, variable=variable, model=card.model)
        for number, (name, card) in enumerate(zip(names, seen.cards, strict=False))
    ]


def unclear() -> str | None:
    """A warning that the machine may have an unused card; None if it has no trace of a card, or uses it."""
    traces = [trace for trace in TRACES if Path(trace).exists()]
    if not traces or os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1") or _cuda():
        return None
    return (
        f"training on the CPU: this machine has {traces[0]}, but neither the driver's library (NVML) nor torch finds a"
        " card; `cockpit doctor` says more, CUDA_VISIBLE_DEVICES='' hides the cards"
    )


class CardProcess(msgspec.Struct, frozen=True):
    """A process of any user that uses a card, and the card's memory that it holds. `?`: not known."""

    pid: int
    user: str
    name: str
    memory: int | None  # bytes


def processes_on(devices: list[Device]) -> dict[str, tuple[CardProcess, ...]]:
    """The processes, of any user, that use each of these devices, by the device's name."""
    import psutil
    import pynvml

    by_device: dict[str, tuple[CardProcess, ...]] = {}
    with suppress(pynvml.NVMLError):
        if any(device.card for device in devices):
            pynvml.nvmlInit()
        for device in devices:
            handle = pynvml.nvmlDeviceGetHandleByUUID(device.card) if device.card else None
            users = []
            for one in pynvml.nvmlDeviceGetComputeRunningProcesses(handle) if handle else ():
                user, name = "?", "?"
                with suppress(psutil.Error):
                    process = psutil.Process(one.pid)
                    user, name = process.username(), process.name()
                users.append(CardProcess(one.pid, user, name, one.usedGpuMemory))
            by_device[device.name] = tuple(users)
    return by_device


class Meter:
    """Measures the load of this host and of the cards among `devices` since the last reading."""

    def __init__(self, devices: list[Device]) -> None:
        import psutil

        named = [(device.name.split("+"), device.card.split(",")) for device in devices if device.card]
        self.cards = {name: card for names, cards in named for name, card in zip(names, cards, strict=True) if card}
        psutil.cpu_percent()  # starts the first interval

    def read(self) -> list[Load]:
        """The load of the host (device `cpu`), then of the cards."""
        import psutil

        memory = psutil.virtual_memory()
        host = Load("cpu", psutil.cpu_percent() / 100, memory.total - memory.available, memory.total)
        return [host, *self._cards()]

    def _cards(self) -> list[Load]:
        import pynvml

        if not self.cards:
            return []
        loads = []
        with suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
        for name, uuid in self.cards.items():
            with suppress(pynvml.NVMLError):  # slices of a card report no load
                handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
                memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
                busy = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
                celsius = _reported(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU)
                milliwatts = _reported(pynvml.nvmlDeviceGetPowerUsage, handle)
                watts = None if milliwatts is None else milliwatts / 1000
                loads.append(Load(name, busy, int(memory.used), int(memory.total), celsius, watts))
        return loads


def _reported(ask: Callable[..., float], *about: object) -> float | None:
    """A value from a card; None if the card does not report it."""
    import pynvml

    try:
        return ask(*about)
    except pynvml.NVMLError:
        return None


@cache
def cpu_name() -> str:
    """The model of this machine's CPU, without trademarks; its architecture if the system names no model."""
    match = None
    with suppress(OSError):
        match = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(errors="replace"), re.MULTILINE)
    plain = re.sub(r"\((R|TM)\)|\bCPU\b|\bProcessor\b|@.*", "", match[1] if match else platform.processor())
    return " ".join(plain.split()) or platform.machine()


def _cpu_has_bf16() -> bool:
    """Whether the CPU has native bfloat16 (AVX-512 BF16, AMX, Arm BF16); emulated, it is slower than float32."""
    if platform.system() != "Linux":
        return False
    words = set(Path("/proc/cpuinfo").read_text(errors="replace").split())
    return bool(words & {"avx512_bf16", "amx_bf16", "bf16"})
