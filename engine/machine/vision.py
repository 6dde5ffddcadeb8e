"""Importing torchvision, with a clear error if its release does not fit torch's."""

from types import ModuleType

from engine.errors import InputError

FIX = (
    "install both anew, together and from one index (a CPU-only torch and a torchvision for CUDA do not go together):"
    " pip uninstall torch torchvision, then pip install torch torchvision"
)


def torchvision() -> ModuleType:
    """Import torchvision. Raises InputError if it is not installed or does not fit torch."""
    from importlib.metadata import version

    try:
        import torchvision as module
    except ImportError as error:
        raise InputError(f"torchvision cannot be used ({error}): {FIX}") from None
    except RuntimeError as error:  # such as "operator torchvision::nms does not exist"
        pair = f"torchvision {version('torchvision')} does not go with torch {version('torch')}"
        raise InputError(f"{pair} ({str(error).splitlines()[0]}): {FIX}") from None
    imported: ModuleType = module
    return imported
