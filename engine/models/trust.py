"""Which sources of own models are run here: those that their user has named, or has answered for. No torch here.

A source is remembered by its hash, in a file of the user's: a database or a ticket file from elsewhere names models,
too, and must not be able to bring the permission to run them.
"""

import os
from pathlib import Path

from engine.errors import InputError, OptionName
from engine.models import user_model

VARIABLE = "COCKPIT_TRUSTED_MODELS"


class Untrusted(InputError):
    """A model's source must not be run before its user has allowed that."""

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
    """`COCKPIT_TRUSTED_MODELS`, else `cockpit/trusted-models` where this system keeps its users' state."""
    from platformdirs import user_state_path

    return Path(os.environ.get(VARIABLE) or user_state_path("cockpit") / "trusted-models")


def named(name: str) -> user_model.Source:
    """The source of a model that a person names, which is remembered as trusted.

    A name with a hash comes from a record, whoever's that is, and changes nothing.
    """
    source = user_model.find(name)
    if "@" not in name:
        record(source)
    return source


def record(source: user_model.Source) -> None:
    """Remember that this source may be run. Raises InputError where that cannot be written."""
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
    """Whether this source may be run."""
    try:
        lines = path().read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise InputError(f"{path()} cannot be read ({error.strerror}): name another file with {VARIABLE}") from None
    return source.sha256 in {line.partition(" ")[0] for line in lines}


def require(name: str, folder: str = "") -> None:
    """Raises Untrusted where `name` is an own model that must not be run yet, InputError where it is not found."""
    if user_model.is_own(name) and not trusted(source := user_model.find(name, folder)):
        raise Untrusted(source)


def refused(error: BaseException) -> user_model.Source | None:
    """The source that was not trusted, where that is why an error was raised, whatever was said of it since."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, Untrusted):
            return seen.source
        seen = seen.__context__
    return None
