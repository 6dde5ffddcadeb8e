"""Asking a person before the Python code of a model from elsewhere is run: `--trust-models`, or a question."""

import sqlite3
import sys
from collections.abc import Callable
from typing import Annotated, TypeVar

import typer

from cockpit.text import hints
from engine.errors import InputError
from engine.models import trust, user_model
from engine.store import database, queue

TrustModels = Annotated[
    bool,
    typer.Option(
        "--trust-models", help="Run the models' Python code that a ticket file or database from elsewhere names."
    ),
]
Result = TypeVar("Result")


def asking(allowed: bool, act: Callable[[], Result]) -> Result:
    """What `act` returns. Where a model's source is not trusted, that is asked, and it acts again.

    `allowed`: trust whatever it needs. Raises InputError like `act`, also where the answer is no.
    """
    while True:
        try:
            return act()
        except InputError as error:
            source = trust.refused(error)
            if source is None or not (allowed or _answered(source)):
                raise
            trust.record(source)


def of_queue(connection: sqlite3.Connection, allowed: bool) -> None:
    """Ask for the models of all that is waiting; say on stderr which of them will not be trained."""
    for model in filter(user_model.is_own, queue.models(connection)):
        folder = database.model_folder(connection, model)
        try:
            asking(allowed, lambda model=model, folder=folder: trust.require(model, folder))  # type: ignore[misc]
        except trust.Untrusted as error:
            hints.warn(InputError("not trained: ", error))
        except InputError:  # its runs will say what is wrong
            continue


def _answered(source: user_model.Source) -> bool:
    """Whether a person at a terminal lets a source be run. False where there is none to ask."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr and sys.stderr.isatty()):
        return False
    code = "\n".join(map(str, source.code)) if len(source.code) < 20 else str(source.file)
    print(
        f"model {source.name} was not named here before, and may come from elsewhere. Its code:\n{code}",
        file=sys.stderr,
    )
    return typer.confirm("Run it?", default=False, err=True)
