"""The options of an experiment, which several commands and experiment files share."""

import inspect
import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, get_args

from typer import Option

from cockpit.requests import choices
from cockpit.requests.shared import COUNT, command_line
from engine.datasets.catalog import FORMS, PHOTOGRAPHS, SETS
from engine.errors import InputError, quoted
from engine.models.catalog import MODELS
from engine.plan import presets
from engine.plan.definitions import Definition, define
from engine.store import adding, labels, queue, titles

WHAT, TICKETS, TRAINING, OPEN = "What", "Tickets", "Training", "What the paper leaves open"

MODEL_HELP = f"The network: {', '.join(MODELS)}, or your own as package.module:factory. See `cockpit models list`."


@dataclass(frozen=True)
class Wanted:
    """An experiment that a person asked for: the name, if one was given, and what it is."""

    given_name: str | None
    definition: Definition
    profile_given: bool
    pause_after: int | None = None
    data_names: Mapping[str, str] = field(default_factory=dict)  # display names of data sets, by identity

    @property
    def name(self) -> str:
        """The name given, or one made of the contents."""
        return self.given_name or adding.default_name(self.definition)

    def resolved(self, connection: sqlite3.Connection) -> Definition:
        """The definition. Where it was queued before, it keeps the profile that was resolved then."""
        stored = None if self.profile_given else queue.stored_profile(connection, self.name)
        return replace(self.definition, profile=stored) if stored else self.definition


def add_all(connection: sqlite3.Connection, asked: Sequence[Wanted], command: str | None = None) -> list[adding.Added]:
    """Put all of them into the queue, or none, with the command that does this: this one, if none is given."""
    wishes = [adding.Wish(one.name, one.resolved(connection), one.pause_after) for one in asked]
    found = adding.add_all(connection, wishes, command or command_line())
    for identity, title in {pair for one in asked for pair in one.data_names.items()}:
        titles.name_data(connection, identity, title)
    return found


def _option(panel: str, help: str, default: str | None = None) -> Any:
    text = f"{help} Default: {default}." if default else help
    return Option(help=text, rich_help_panel=panel, show_default=False)


def experiment_options(
    *,
    preset: Annotated[str | None, "as an argument of the command line, where an experiment file may stand, too"] = None,
    name: Annotated[str | None, _option(WHAT, "The experiment's name.", "from its contents")] = None,
    source: Annotated[
        list[str] | None,
        _option(
            WHAT,
            f"Data set that tickets are found on: {', '.join((*SETS, *PHOTOGRAPHS, *FORMS))}; its half with -a or -b"
            " behind it; or a ticket's file, ticket:FILE. Repeatable.",
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        _option(WHAT, "Data set that tickets are trained on. Repeatable.", "each source its own"),
    ] = None,
    model: Annotated[str | None, _option(WHAT, MODEL_HELP, "by the size of the images")] = None,
    width: Annotated[float | None, _option(WHAT, "Multiplier of the model's channels.", "1")] = None,
    images: Annotated[int | None, _option(WHAT, "Use at most N training images per data set.", "all")] = None,
    test_images: Annotated[int | None, _option(WHAT, "Use at most N test images per data set.", "all")] = None,
    replicates: Annotated[int | None, _option(WHAT, "Seeds that each point is trained with.", "6")] = None,
    seed: Annotated[int | None, _option(WHAT, "The first replicate's seed; the next has the next.", "0")] = None,
    levels: Annotated[int | None, _option(TICKETS, "Pruning iterations.", "30")] = None,
    evaluate: Annotated[
        str | None,
        _option(
            TICKETS,
            "Levels trained on a target: paper (0-6, then every third), all, or a list as 0-6,9,12.",
            "paper",
        ),
    ] = None,
    prune_rate: Annotated[
        float | None, _option(TICKETS, "Fraction of the remaining weights pruned at each level.", "0.2")
    ] = None,
    scope: Annotated[
        list[str] | None,
        _option(TICKETS, "Pool of weights compared: global or layerwise. Repeatable.", "global"),
    ] = None,
    rewind: Annotated[
        int | None,
        _option(TICKETS, "Epoch rewound to (late resetting); 0 is the start.", "1; of imagenet and places365 3"),
    ] = None,
    random: Annotated[
        list[str] | None,
        _option(TICKETS, "Random tickets to compare with: global, local, preserved, none. Repeatable.", "global"),
    ] = None,
    optimizer: Annotated[
        list[str] | None, _option(TRAINING, "Of the source: sgd, adam or adamw. Repeatable.", "the model's")
    ] = None,
    target_optimizer: Annotated[
        list[str] | None, _option(TRAINING, "Of the target. Repeatable.", "the source's")
    ] = None,
    learning_rate: Annotated[
        float | None, _option(TRAINING, "At the first epoch.", "0.1 for sgd, 0.0003 for adam and adamw")
    ] = None,
    weight_decay: Annotated[float | None, _option(TRAINING, "L2 penalty; decoupled with adamw.", "0.0001")] = None,
    epochs: Annotated[int | None, _option(TRAINING, "Epochs; the milestones move along.", "the model's")] = None,
    batch_size: Annotated[int | None, _option(TRAINING, "Images a step.", "the model's")] = None,
    profile: Annotated[
        str | None,
        _option(
            TRAINING,
            "exact: float32, same bits again; fast: bfloat16.",
            "fast where the devices have bfloat16",
        ),
    ] = None,
    split: Annotated[
        int | None, _option(TRAINING, "Devices that each batch is split over: see `cockpit work --split`.", "1")
    ] = None,
    batch_norm: Annotated[
        str | None, _option(TRAINING, "Over each device's part of a batch, or, on CUDA, over the whole.", "part")
    ] = None,
    augmentation: Annotated[
        str | None,
        _option(OPEN, "none, crop, crop-flip, or standard: by the data set (flips unless characters).", "standard"),
    ] = None,
    prunable: Annotated[
        str | None,
        _option(OPEN, "conv; conv+output: the output layer too; conv+linear: every linear layer too.", "conv"),
    ] = None,
    rewinds: Annotated[str | None, _option(OPEN, "all, or weights: without batch-norm statistics.", "all")] = None,
    schedule: Annotated[
        str | None,
        _option(OPEN, "After rewinding: restart from epoch 0, or continue from the rewind epoch.", "restart"),
    ] = None,
    validation: Annotated[
        float | None,
        _option(
            OPEN,
            "Fraction of the training set held out; accuracy is read at its best epoch, not the last.",
            "0",
        ),
    ] = None,
    scale: Annotated[
        str | None,
        _option(
            WHAT,
            f"Make it small, and say so in its name: {', '.join(presets.NAMED_SCALES)}, sizes"
            f" ({', '.join(presets.SCALE_KEYS)}) as in width=0.125,epochs=8, or both as in small,replicates=3.",
        ),
    ] = None,
    pause_after: Annotated[
        int | None, _option(WHAT, "Failures in a row after which it is paused; 0: never.", str(queue.PAUSE_AFTER))
    ] = None,
) -> "Wanted":
    """The experiment that a preset and these options stand for. Experiment files have the same, by the same names."""
    given = {key: value for key, value in locals().items() if value is not None and value != []}
    named, chosen, shrunk, patience = (given.pop(key, None) for key in ("name", "preset", "scale", "pause_after"))
    if not given and chosen is None:
        raise InputError("nothing to train: name a preset, as in `cockpit run digits`, or a data set with --source")
    if named is not None:
        check_name(named)
    if patience is not None:
        COUNT.check("--pause-after", patience)
    chosen = presets.named(chosen) if chosen else None
    options = {"source": (), **(presets.options(chosen) if chosen else {})}
    if shrunk is not None:
        sizes = presets.scale(shrunk)
        if twice := sizes.options.keys() & given:
            named_twice = min(twice).replace("_", "-")
            raise InputError(
                f"--{named_twice} is a size that --scale {shrunk} gives, and names say: give it in one of them"
            )
        options |= sizes.options
    definition = define(**{**options, **given})
    if shrunk is not None and named is None:
        named = sizes.of(chosen or adding.default_name(definition))
    return Wanted(named or chosen, definition, "profile" in options | given, patience)


# What each option takes, by its name in Python: str, int, float or list[str].
KINDS: Mapping[str, Any] = {
    name: get_args(get_args(parameter.annotation)[0])[0]  # of Annotated[kind | None, ...]
    for name, parameter in inspect.signature(experiment_options).parameters.items()
}


for _name, _complete in choices.OF_OPTIONS.items():
    inspect.signature(experiment_options).parameters[_name].annotation.__metadata__[0].autocompletion = _complete


def check_name(name: str) -> None:
    """Raises InputError for a name that could not be typed, or not be told apart, in another command."""
    if not name.strip():
        raise InputError("--name is empty: give the experiment a name, or leave the option out")
    if not labels.is_typeable(name):
        raise InputError(
            f"--name {quoted(name)} cannot be used: up to {labels.LONGEST_NAME} printable characters, no - in front,"
            " no : (`cockpit diff` has NAME:SCOPE), no braces (experiment files have keys in them)"
        )


def concerned(problem: str, values: Mapping[str, Sequence[str]]) -> str | None:
    """The option that is to be mended: the one that the problem names, or a data set or the model of which it does."""
    options: list[str] = re.findall(r"(?:^|--)([a-z][a-z-]*)", problem)
    for name in (option.replace("-", "_") for option in options):
        if name in KINDS:
            return name
    problem = problem.partition(": choose from")[0]
    values = {
        name: [value.strip() for value in values.get(name, ())] for name in ("target", "source", "model", "preset")
    }
    values["model"] = [value.partition("@")[0] for value in values["model"]]  # messages leave the hash out
    for said in (repr, str):  # a name may be a part of another
        for name, given in values.items():
            if any(said(value) in problem for value in given if value):
                return name
    return None
