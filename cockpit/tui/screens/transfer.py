"""The forms of the queue: a new transfer (sources x targets x optimizers x replicates), and extending experiments."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

from cockpit.requests import outlook
from cockpit.requests.request import add_all, request_of
from cockpit.tui.screens.form import Form, hint
from engine.analysis.estimates import Place
from engine.analysis.previews import Preview
from engine.plan.definitions import Definition
from engine.plan.options import OPTIONS
from engine.store import database


class Transfer(Form):
    """A new experiment."""

    AUTO_FOCUS = "#source"
    FIELDS: ClassVar[Mapping[str, str]] = {
        name: hint(one, one.help, one.default_text) for name, one in OPTIONS.items() if name != "preset"
    }
    FIRST = (
        "source",
        "target",
        "optimizer",
        "target_optimizer",
        "replicates",
        "model",
        "width",
        "levels",
        "epochs",
        "batch_size",
        "scope",
        "random",
        "profile",
        "name",
    )
    COMMAND = "cockpit queue add"
    heading = "New transfer"
    empty = "Name a source: the data set that tickets are found on."

    def chosen(self) -> Sequence[str]:
        """No experiment, as the form's does not exist yet."""
        return ()

    def enough(self, options: Mapping[str, Any]) -> bool:
        return "source" in options

    def stand_in(self, field: str) -> Mapping[str, Any]:
        return {"source": ["digits"]} if field == "source" else {}

    def outlook(self, options: Mapping[str, Any]) -> list[str]:
        asked = request_of(options)
        _, found, where = outlook.preview([asked], self.cockpit.path)
        return _said(asked.name, found, where, [asked.definition])

    def carry_out(self, options: Mapping[str, Any], path: Path, said: str) -> list[tuple[str, str]]:
        with closing(database.writer(path)) as connection:
            (added,) = add_all(connection, [request_of(options)], said)
        return [(added.name, outlook.describe(added.name, added))]


class Extend(Form):
    """More levels, replicates, data sets or tickets for existing experiments."""

    AUTO_FOCUS = "#levels"
    FIELDS: ClassVar[Mapping[str, str]] = {name: hint(one, one.more) for name, one in OPTIONS.items() if one.more}
    FIRST = ("levels", *(name for name in FIELDS if name != "levels"))
    COMMAND = "cockpit queue extend {names}"
    empty = "Nothing to extend yet: give more levels, replicates, targets, ... Only new runs are trained."

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.heading = f"Extend {', '.join(names)}"

    def chosen(self) -> Sequence[str]:
        """The experiments to extend."""
        return self.names

    def enough(self, options: Mapping[str, Any]) -> bool:
        return bool(options)

    def outlook(self, options: Mapping[str, Any]) -> list[str]:
        wider, found, where = outlook.preview_wider(self.names, options, self.cockpit.path)
        return _said(", ".join(self.names), found, where, wider)

    def carry_out(self, options: Mapping[str, Any], path: Path, said: str) -> list[tuple[str, str]]:
        with closing(database.writer(path)) as connection:
            return [
                (one.name, outlook.describe(one.name, one))
                for one in outlook.widen(connection, self.names, options, said)
            ]


def _said(name: str, preview: Preview, where: Sequence[Place], definitions: Sequence[Definition]) -> list[str]:
    """The summary of an experiment to queue, as lines."""
    _, device_time, done_in, files = outlook.cells(preview.estimate)
    lines = [f"{name}: {preview.curves} curves, {preview.runs} runs", f"{preview.new} new, {preview.existing} there"]
    if not preview.estimate.runs:
        lines.append("nothing is left to train")
    elif preview.estimate.timed:
        lines.append(f"done in {done_in}, device time {device_time}, ticket files {files}")
    else:
        lines.append(f"ticket files {files}")
    warnings = *outlook.absent(definitions), *outlook.emulated({one.profile for one in definitions})
    return lines + outlook.basis(preview.estimate, where) + [str(one) for one in warnings]
