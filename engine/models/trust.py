"""The user models that may run on this machine: those that the user has named or allowed. No torch.

The hashes of allowed sources are in a file of the user, because databases and ticket files from elsewhere name models,
too, and must not be able to grant them permission.
"""

import os
from pathlib import Path

from engine.errors import InputError, OptionName
from engine.models import user_model

VARIABLE = "COCKPIT_TRUSTED_MODELS"


class Untrusted(InputError):
    """A model's source must not run before the user has allowed it."""

    def __init__(self, source: user_model.Source) -> None:
        super().__init__(
            f"model {source.name} is Python code that was not named here before, and may come from elsewhere: read"
            f" {source.file}, then give ",
            OptionName("trust_models"),
            " once to run it",
            option="model",
        )
        self.source = source


def path() -> Path:
    """`COCKPIT_TRUSTED_MODELS`, else `cockpit/trusted-models` in the system's folder for user state."""
    from platformdirs import user_state_path

    return Path(os.environ.get(VARIABLE) or user_state_path("cockpit") / "trusted-models")


def named(name: str) -> user_model.Source:
    """The source of a model that the user names, which is recorded as trusted.

    A name with a hash may come from somebody else's record, so it grants nothing.
    """
    source = user_model.find(name)
    if "@" not in name:
        record(source)
    return source


def record(source: user_model.Source) -> None:
    """Record that a source may run. Raises InputError if the file cannot be written."""
    if trusted(source):
        return
    try:
        path().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path().open("a", encoding="utf-8") as file:
            file.write(f"{source.sha256} {source.name} {str(source.file)!r}\n")
    except OSError as error:
        raise InputError(
            f"{path()} cannot be written ({error.strerror}), which lists the models that may be run: name another file"
            f" with {VARIABLE}"
        ) from None


def trusted(source: user_model.Source) -> bool:
    """Whether a source may run. Raises InputError if the file cannot be read."""
    try:
        lines = path().read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise InputError(f"{path()} cannot be read ({error.strerror}): name another file with {VARIABLE}") from None
    return source.sha256 in {line.partition(" ")[0] for line in lines}


def require(name: str, folder: str = "") -> None:
    """Raise Untrusted if `name` is a user model that must not run yet, InputError if it is not found."""
    if user_model.is_own(name) and not trusted(source := user_model.find(name, folder)):
        raise Untrusted(source)


def refused(error: BaseException) -> user_model.Source | None:
    """The untrusted source that caused an error; None if something else did."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, Untrusted):
            return seen.source
        seen = seen.__context__
    return None
