"""torchvision, imported where it is needed: it takes a second, and not every installation fits its torch."""

import importlib
from types import ModuleType

from engine.errors import InputError


def torchvision(module: str) -> ModuleType:
    """The module `torchvision.<module>`. Raises InputError where torchvision cannot be imported."""
    try:
        return importlib.import_module(f"torchvision.{module}")
    except (ImportError, OSError, RuntimeError) as error:  # a CPU-only torch beside a CUDA torchvision: RuntimeError
        import torch

        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"torchvision cannot be imported ({reason}): it must fit torch, which is {torch.__version__} here;"
            " `pip install --force-reinstall torch torchvision` from one index pairs them"
        ) from None
