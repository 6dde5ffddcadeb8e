"""What can train on this machine: CUDA devices if there are any, else CPU cores. Nothing here imports torch."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.errors import InputError


@dataclass(frozen=True)
class Device:
    """One place where one worker process trains one run at a time."""

    name: str  # as torch calls it: cpu, cuda:0
    visible: str | None  # what CUDA_VISIBLE_DEVICES must say for it; None for a CPU core
    native_bf16: bool


def found() -> list[Device]:
    """The devices that `CUDA_VISIBLE_DEVICES` leaves, else one `cpu` for each core this process may use."""
    return _cuda() or [Device("cpu", None, _cpu_has_bf16())] * cores()


def chosen(workers: int | None) -> list[Device]:
    """The devices that so many workers use; None for all. Raises InputError for a number there are no devices for."""
    devices = found()
    if workers is not None and not 1 <= workers <= len(devices):
        kind = "CUDA devices" if devices[0].visible else "cores"
        raise InputError(f"--workers {workers} is out of range: this machine has {len(devices)} {kind} for one each")
    return devices[:workers]


def cores() -> int:
    """The number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
