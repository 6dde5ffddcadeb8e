"""Experiment files: the options of `cockpit queue add` as TOML, for several experiments.

`[defaults]` holds options of all experiments, each `[[experiment]]` is one, and its table `matrix` lists alternatives
of options: one experiment per combination. `[data-names]` names data sets in charts. Keys are option names, as on the
command line without `--`.
"""

import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from msgspec import structs

from cockpit.requests.request import NAME, Request, check_name, request_of
from cockpit.text import hints
from cockpit.text.toml import Place, line_of, mismatch
from cockpit.text.toml import read as read_toml
from engine.datasets.catalog import split_part
from engine.datasets.specs import resolve
from engine.errors import InputError, quoted, unknown
from engine.plan.defining import options_of
from engine.plan.definitions import Definition
from engine.plan.options import OPTIONS
from engine.store import titles
from engine.store.adding import joined_names, model_in_name

DATA_NAMES = "data-names"
TABLES = ("defaults", "experiment", DATA_NAMES)
KEYS = {option.written: name for name, option in OPTIONS.items()}
EXAMPLE = 'write [[experiment]], and below it its options, as in source = "digits-a"'
MOST = 1000  # experiments of a file


@dataclass(frozen=True)
class Given:
    """The value of an option, and its place in the file."""

    value: Any
    place: Place


@dataclass(frozen=True)
class File:
    """An experiment file that locates errors."""

    path: Path
    text: str

    def fail(self, place: Place, problem: str | InputError) -> NoReturn:
        """Raise InputError for a problem at a place, with its line and key."""
        key = next((step for step in reversed(place) if isinstance(step, str)), "")
        where = f"[{key}]" if key in ("defaults", "experiment", "matrix") else key
        said = problem.worded(_written) if isinstance(problem, InputError) else problem
        raise InputError(f"{self.path}, line {line_of(self.text, place)}, {where}: {said}")


def _written(option: str) -> str:
    """An option in a message: as a key if it is one, else as on the command line."""
    return OPTIONS[option].written if option in OPTIONS else hints.flag(option)


def read(path: Path, overriding: Mapping[str, Any]) -> list[Request]:
    """The experiments of a file; the options in `overriding` override the file's.

    Raises InputError, with the line and the key, for an invalid file.
    """
    text, found = read_toml(path, "experiment file")
    file = File(path, text)
    _check_tables(file, found)
    names: dict[str, Place] = {}
    data_names = _data_names(file, found.get(DATA_NAMES, {}))
    asked = []
    for place, options in _experiments(file, found):
        one = _request(file, place, options, overriding)
        if one.name in names:
            first = line_of(file.text, names[one.name])
            fix = "give each its own name; in a matrix, use its keys in braces, as in name = '{source}-{optimizer}'"
            file.fail(place, f"{one.name!r} is also the name of the experiment of line {first}: {fix}")
        names[one.name] = place
        asked.append(structs.replace(one, data_names=data_names))
    return asked


def write(name: str, definition: Definition, pause_after: int) -> str:
    """The table of an experiment file that defines this experiment."""
    options = {"name": name, **options_of(definition), "pause_after": pause_after}
    lines = [f"{key} = {_literal(options[name])}" for key, name in KEYS.items() if name in options]
    return "\n".join(["[[experiment]]", *lines])


def write_data_names(experiments: Iterable[tuple[Definition, Mapping[str, str]]]) -> str:
    """The table of an experiment file with the display names of data sets; empty without any.

    Each definition comes with those names, by the names that it has for the sets.
    """
    found = {
        split_part(data.spec)[0]: said[data.name]
        for one, said in experiments
        for data in one.sources + one.targets
        if data.name in said
    }
    lines = [f"{_literal(spec)} = {_literal(title)}" for spec, title in sorted(found.items())]
    return "\n".join([f"[{DATA_NAMES}]", *lines]) if lines else ""


def _literal(value: Any) -> str:
    """A value in TOML, which for texts, numbers and their lists is nearly JSON. Escapes unprintable characters."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(one if one.isprintable() else f"\\U{ord(one):08x}" for one in text)


def _check_tables(file: File, found: Mapping[str, Any]) -> None:
    for key in found:
        if key not in TABLES:
            misplaced = f"; put {key} in [defaults] or below [[experiment]]" if key in KEYS else ""
            file.fail((key,), f"{unknown('table', key, TABLES)}{misplaced}")
    if not isinstance(found.get("defaults", {}), dict):
        file.fail(("defaults",), "must be a table: write [defaults], and the options below it")
    experiments = found.get("experiment")
    if not experiments:
        raise InputError(f"experiment file {file.path} defines no experiment: {EXAMPLE}")
    if not isinstance(experiments, list) or not all(isinstance(table, dict) for table in experiments):
        file.fail(("experiment",), f"must be a list of tables: {EXAMPLE}")


def _data_names(file: File, table: object) -> dict[str, str]:
    """The display names of data sets, by identity."""
    if not isinstance(table, dict):
        file.fail((DATA_NAMES,), f'must be a table: write [{DATA_NAMES}], and below it "npz:cifar10.npz" = "CIFAR-10"')
    found = {}
    for spec, title in table.items():
        place = (DATA_NAMES, spec)
        if must := mismatch(title, str):
            file.fail(place, f"is {quoted(title)}, must be {must}")
        try:
            found[resolve(_located(spec, file.path.parent)).identity] = titles.checked(title)
        except InputError as error:
            file.fail(place, error)
    return found


def _experiments(file: File, found: Mapping[str, Any]) -> Iterator[tuple[Place, dict[str, Given]]]:
    """The options and the place of each experiment; a matrix makes several."""
    defaults, count = _options(file, ("defaults",), found.get("defaults", {})), 0
    for number, table in enumerate(found["experiment"]):
        place = ("experiment", number)
        own = _options(file, place, {key: value for key, value in table.items() if key != "matrix"}, ("matrix",))
        axes = _axes(file, (*place, "matrix"), table.get("matrix", {}), own)
        count += math.prod(map(len, axes.values()))
        if count > MOST:
            many = "" if count > 10 * MOST else f" ({count} with these)"
            file.fail(place, f"too many experiments{many}: at most {MOST} per file, so use several files")
        for chosen in itertools.product(*axes.values()):
            yield place, {**defaults, **own, **dict(zip(axes, chosen, strict=True))}


def _axes(file: File, place: Place, matrix: object, own: Mapping[str, Given]) -> dict[str, list[Given]]:
    """The alternatives of each option in a matrix."""
    if not isinstance(matrix, dict):
        file.fail(place, 'must be a table of alternatives, as in matrix = { source = ["digits-a", "digits-b"] }')
    axes = {}
    for key, values in matrix.items():
        here = (*place, key)
        _check_key(file, here, [one for one in KEYS if one != "name"])
        if KEYS[key] in own:
            file.fail(here, f"is also set outside the matrix ({quoted(own[KEYS[key]].value)}): omit one of the two")
        if not isinstance(values, list) or not values:
            file.fail(here, f"is {quoted(values)}, must be a list of alternatives: each makes an experiment")
        axes[KEYS[key]] = [_option(file, (*here, number), key, value) for number, value in enumerate(values)]
    return axes


def _options(file: File, place: Place, table: Mapping[str, object], tables: tuple[str, ...] = ()) -> dict[str, Given]:
    """The options of a table, by their names in Python. `tables` may occur in it, too."""
    for key in table:
        _check_key(file, (*place, key), (*KEYS, *tables))
    return {KEYS[key]: _option(file, (*place, key), key, value) for key, value in table.items()}


def _check_key(file: File, place: Place, allowed: tuple[str, ...] | list[str]) -> None:
    if place[-1] not in allowed:
        file.fail(place, str(unknown("key", str(place[-1]), allowed)))


def _option(file: File, place: Place, key: str, value: Any) -> Given:
    """A checked value of the option; a path in it is relative to the file."""
    option = OPTIONS[KEYS[key]]
    if option.reads is not None:
        value = [_text(one) for one in value] if isinstance(value, list) else _text(value)
    if must := mismatch(value, list[str] if option.several else option.kind):
        file.fail(place, f"is {quoted(value)}, must be {must}")
    if option.several:
        value = [value] if isinstance(value, str) else value
    if option.data_set:
        value = [_located(spec, file.path.parent) for spec in value]
    return Given(value, place)


def _text(value: Any) -> Any:
    """A number as a person writes it where an option takes more than numbers; anything else unchanged."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _located(spec: str, folder: Path) -> str:
    """The name of a data set; a path relative to the experiment file becomes relative to this process."""
    kind, colon, path = spec.partition(":")
    return f"{kind}:{folder / path}" if colon and path and not path.startswith("~") else spec


def _request(file: File, place: Place, options: Mapping[str, Given], overriding: Mapping[str, Any]) -> Request:
    values = {key: option.value for key, option in options.items()} | dict(overriding)
    template = values.pop("name", None)
    shared = {key for key, option in options.items() if option.place[0] == "defaults"} - overriding.keys()
    try:
        found = request_of(
            {key: value for key, value in values.items() if key not in shared},
            {key: value for key, value in values.items() if key in shared},
        )
        return (
            found
            if template is None
            else structs.replace(found, given_name=_name(template, found.definition, values.get("preset")))
        )
    except InputError as error:
        if error.option in overriding:
            raise
        key = error.option
        file.fail(options[key].place if key is not None and key in options else place, error)


def _name(template: str, definition: Definition, preset: str | None) -> str:
    """The name of an experiment, with the value of each key in braces."""
    values = options_of(definition)
    sources, targets = (joined_names(group) for group in (definition.sources + definition.tickets, definition.targets))
    values |= {"source": [sources], "target": [targets], "model": model_in_name(definition)}
    values |= {"preset": preset} if preset else {}
    words = {key: "+".join(value) if isinstance(value, list) else str(value) for key, value in values.items()}

    def word(match: re.Match[str]) -> str:
        if KEYS.get(match[1]) not in words:
            raise unknown(("key in ", NAME), match[1], [key for key, name in KEYS.items() if name in words])
        return words[KEYS[match[1]]]

    name = re.sub(r"\{([^{}]*)\}", word, template)
    check_name(name)
    return name
