"""What can train on this machine: CUDA devices if there are any, else CPU cores. Nothing here imports torch."""

import os
import platform
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.errors import InputError, Range

PER_DEVICE = Range(1, 64)  # workers


@dataclass(frozen=True)
class Device:
    """One place where one worker process trains one run at a time: a device, or several as one (`together`)."""

    name: str  # as torch calls it: cpu, cuda:0; of several cpu+cpu, cuda:0+cuda:1
    visible: str | None  # what CUDA_VISIBLE_DEVICES must say for it; None for a CPU core
    native_bf16: bool
    split: int = 1  # over how many devices it splits each batch


@dataclass(frozen=True)
class Load:
    """How busy a device is, now: `cpu` is the host itself. What a device does not tell is None."""

    device: str
    busy: float  # fraction of the cores or of the card, in [0, 1]
    memory_used: int  # bytes
    memory_total: int
    celsius: float | None = None
    watts: float | None = None


def found() -> list[Device]:
    """The devices that `CUDA_VISIBLE_DEVICES` leaves, else one `cpu` for each core this process may use."""
    return _cuda() or [Device("cpu", None, _cpu_has_bf16())] * cores()


def chosen(workers: int | None, per_device: int = 1, split: int = 1) -> list[Device]:
    """A place for each worker: so many devices (None: all), each of them `per_device` times.

    With `split`, each place is so many devices, which train one run together. Raises InputError for a number there are
    no devices for.
    """
    devices = found()
    kind = "CUDA devices" if devices[0].visible else "cores"
    Range(1, len(devices)).check("--split", split, f"this machine has {len(devices)} {kind}")
    if split > 1:
        if per_device > 1:
            raise InputError(f"--per-device {per_device} does not go with --split {split}: give one of them")
        devices = [together(devices[place : place + split]) for place in range(0, len(devices) - split + 1, split)]
        kind = f"groups of {split} {kind}"
    if workers is not None:
        Range(1, len(devices)).check("--workers", workers, f"this machine has {len(devices)} {kind}")
    PER_DEVICE.check("--per-device", per_device)
    if per_device > 1 and not devices[0].visible:
        raise InputError(f"--per-device {per_device} needs a CUDA device, this machine has none: leave it out")
    return [device for device in devices[:workers] for _ in range(per_device)]


def together(devices: list[Device]) -> Device:
    """Several devices as the place of one worker."""
    cards = [device.visible for device in devices if device.visible]
    name, bf16 = "+".join(device.name for device in devices), all(device.native_bf16 for device in devices)
    return Device(name, ",".join(cards) or None, bf16, len(devices))


def cores() -> int:
    """The number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decoders(workers: int) -> int:
    """How many processes decode images for each of so many workers: its share of the cores but the one it needs."""
    return max(1, cores() // workers - 1)


def default_profile() -> Literal["exact", "fast"]:
    """`fast` where every device has native bf16, else `exact`."""
    return "fast" if all(device.native_bf16 for device in found()) else "exact"


def _cuda() -> list[Device]:
    import pynvml

    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        bf16 = {
            pynvml.nvmlDeviceGetUUID(handle): pynvml.nvmlDeviceGetCudaComputeCapability(handle)[0] >= 8
            for handle in handles
        }
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return []
    # A slice of a card (MIG) is not among the cards; every card that has slices multiplies bfloat16.
    return [Device(f"cuda:{place}", uuid, bf16.get(uuid, True)) for place, uuid in enumerate(visible(list(bf16)))]


class Meter:
    """Tells how busy this host and the cards among `places` are, since it was last asked."""

    def __init__(self, places: list[Device]) -> None:
        import psutil

        named = [(place.name.split("+"), place.visible.split(",")) for place in places if place.visible]
        self.cards = {name: card for names, cards in named for name, card in zip(names, cards, strict=True)}
        psutil.cpu_percent()  # it measures from one call to the next

    def read(self) -> list[Load]:
        """The load now; the host is the device `cpu`."""
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
            with suppress(pynvml.NVMLError):  # a slice of a card does not tell its load
                handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
                memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
                busy = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
                celsius = _told(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU)
                milliwatts = _told(pynvml.nvmlDeviceGetPowerUsage, handle)
                watts = None if milliwatts is None else milliwatts / 1000
                loads.append(Load(name, busy, int(memory.used), int(memory.total), celsius, watts))
        return loads


def _told(ask: Callable[..., float], *about: object) -> float | None:
    """What a card says of itself; None if it is one that does not."""
    import pynvml

    try:
        return ask(*about)
    except pynvml.NVMLError:
        return None


def visible(uuids: list[str]) -> list[str]:
    """The cards that CUDA_VISIBLE_DEVICES names, as UUIDs: the list ends at the first name that is none.

    Numbers are in the order of the PCI bus, as nvidia-smi shows them (CUDA_DEVICE_ORDER=PCI_BUS_ID).
    """
    wish = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wish is None:
        return uuids
    chosen: list[str] = []
    for name in (part.strip() for part in wish.split(",")):
        matches = [uuid for uuid in uuids if name and uuid.startswith(name)]
        if name.isdigit() and int(name) < len(uuids):
            chosen.append(uuids[int(name)])
        elif name.startswith("MIG-"):
            chosen.append(name)
        elif len(matches) == 1:
            chosen += matches
        else:
            break
    return chosen


def _cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 itself (AVX-512 BF16, AMX, Arm BF16); emulated, it is slower than fp32."""
    if platform.system() != "Linux":
        return False
    words = set(Path("/proc/cpuinfo").read_text(errors="replace").split())
    return bool(words & {"avx512_bf16", "amx_bf16", "bf16"})
