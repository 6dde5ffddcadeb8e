"""Consent to running the Python code of a model from elsewhere: `--trust-models`, or a question."""

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
        "--trust-models", help="Run Python code of models that a ticket file or database from elsewhere names."
    ),
]
Result = TypeVar("Result")


def asking(allowed: bool, act: Callable[[], Result]) -> Result:
    """The result of `act`. If a model's source is not trusted, asks the user and acts again.

    `allowed`: trust every source without asking. Raises InputError like `act`, and if the user declines.
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
    """Ask about the models of all waiting runs; name those that will not be trained on stderr."""
    for model in filter(user_model.is_own, queue.models(connection)):
        folder = database.model_folder(connection, model)
        try:
            asking(allowed, lambda model=model, folder=folder: trust.require(model, folder))  # type: ignore[misc]
        except trust.Untrusted as error:
            hints.warn(InputError("not trained: ", error))
        except InputError:  # its runs will say what is wrong
            continue


def _answered(source: user_model.Source) -> bool:
    """Whether a user at a terminal allows a source to run. False without a terminal."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr and sys.stderr.isatty()):
        return False
    code = "\n".join(map(str, source.code)) if len(source.code) < 20 else str(source.file)
    print(
        f"model {source.name} is new to this database and may come from elsewhere. Its code:\n{code}",
        file=sys.stderr,
    )
    return typer.confirm("Run it?", default=False, err=True)
