"""torchvision, which fails in a way of its own where it and torch are not from one release."""

from types import ModuleType

from engine.errors import InputError

FIX = (
    "install both anew, together and from one index (a CPU-only torch and a torchvision for CUDA do not go together):"
    " pip uninstall torch torchvision, then pip install torch torchvision"
)


def torchvision() -> ModuleType:
    """The module. Raises InputError where it is not installed, or does not go with torch."""
    from importlib.metadata import version

    try:
        import torchvision as module
    except ImportError as error:
        raise InputError(f"torchvision cannot be used ({error}): {FIX}") from None
    except RuntimeError as error:  # operator torchvision::nms does not exist
        pair = f"torchvision {version('torchvision')} does not go with torch {version('torch')}"
        raise InputError(f"{pair} ({str(error).splitlines()[0]}): {FIX}") from None
    found: ModuleType = module
    return found
