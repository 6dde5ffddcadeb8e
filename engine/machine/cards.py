"""The devices that torch can use: `python -m engine.machine.cards` (JSON). A process of its own imports torch."""

import torch

from engine.machine import processes
from engine.machine.devices import TorchCard, TorchCards


def seen() -> TorchCards:
    """The CUDA or ROCm devices, in torch's order, and whether there is an Apple GPU."""
    cards = []
    for place in range(torch.cuda.device_count()):
        with torch.cuda.device(place):
            uuid = f"GPU-{torch.cuda.get_device_properties(place).uuid}"
            cards.append(
                TorchCard(
                    uuid, torch.cuda.is_bf16_supported(including_emulation=False), torch.cuda.get_device_name(place)
                )
            )
    return TorchCards(torch.version.hip is not None, tuple(cards), torch.backends.mps.is_available())


if __name__ == "__main__":
    processes.answer(seen)
