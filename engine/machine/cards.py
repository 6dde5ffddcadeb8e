"""The devices that torch can use: `python -m engine.machine.cards` (JSON). A process of its own imports torch."""

import torch

from engine.machine import processes


def found() -> dict[str, object]:
    """The CUDA or ROCm devices in torch's order: the UUID by which NVML knows each, whether it multiplies bfloat16."""
    cards = []
    for place in range(torch.cuda.device_count()):
        with torch.cuda.device(place):
            uuid = f"GPU-{torch.cuda.get_device_properties(place).uuid}"
            cards.append({"uuid": uuid, "bf16": torch.cuda.is_bf16_supported(including_emulation=False)})
    return {"rocm": torch.version.hip is not None, "cards": cards}


if __name__ == "__main__":
    processes.answer(found)
