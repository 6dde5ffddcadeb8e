"""The devices that torch can use: `python -m engine.machine.cards` (JSON), a separate process as it imports torch."""

import torch

from engine.machine import processes
from engine.machine.devices import TorchCard, TorchCards


def seen() -> TorchCards:
    """The CUDA or ROCm devices, in torch's order, and whether torch finds an Apple GPU."""
    cards = []
    for number in range(torch.cuda.device_count()):
        with torch.cuda.device(number):
            uuid = f"GPU-{torch.cuda.get_device_properties(number).uuid}"
            bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
            cards.append(TorchCard(uuid, bf16, torch.cuda.get_device_name(number)))
    return TorchCards(torch.version.hip is not None, tuple(cards), torch.backends.mps.is_available())


if __name__ == "__main__":
    processes.answer(seen)
