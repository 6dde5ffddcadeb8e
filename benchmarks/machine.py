"""The machine of a measurement, and the versions that its speed depends on."""

import os
import platform
import sqlite3
import sys
from pathlib import Path

import numpy as np
import torch

CPUS = Path("/proc/cpuinfo")


def about() -> dict[str, str | int | float]:
    """Versions, processor and its features, cores, card, and the load of other programs."""
    found: dict[str, str | int | float] = {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "numpy": np.__version__,
        "sqlite": sqlite3.sqlite_version,
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": _processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "load": round(os.getloadavg()[0], 2),  # processes that wanted a core in the last minute, before it began
    }
    if torch.cuda.is_available():
        found["card"] = torch.cuda.get_device_name()
    return found


def _processor() -> str:
    if CPUS.exists():
        for line in CPUS.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
