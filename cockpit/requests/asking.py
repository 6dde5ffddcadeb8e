"""What a command line asks for: presets and experiment files, each with the options given beside them."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

from typer import Argument

from cockpit.requests import completing, files
from cockpit.requests.options import Wanted, check_name, experiment_options
from cockpit.requests.trusting import TrustModels, asking
from engine.errors import InputError
from engine.machine import paths
from engine.plan import presets

What = Annotated[
    list[str] | None,
    Argument(
        help="Presets (`cockpit presets list` has them: digits, fig1a, ...) and experiment files (.toml). Options given"
        " beside them override their own.",
        show_default=False,
        autocompletion=completing.presets_and_files,
    ),
]


def takes_experiments(command: Callable[..., Any]) -> Callable[..., Any]:
    """Let a command take presets, experiment files and `experiment_options`; it gets what they ask for as `asked`."""
    shared = {name: p for name, p in inspect.signature(experiment_options).parameters.items() if name != "preset"}
    what = inspect.Parameter("what", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=What)
    trust = inspect.Parameter("trust_models", what.kind, default=False, annotation=TrustModels)
    own = [p for p in inspect.signature(command).parameters.values() if p.name != "asked"]
    all_of_them = [p.replace(kind=p.KEYWORD_ONLY) for p in [what, *shared.values(), trust, *own]]

    @functools.wraps(command)
    def wrapper(what: list[str] | None, trust_models: bool, **arguments: Any) -> Any:
        given = {key: arguments.pop(key) for key in shared}
        return command(asked=asking(trust_models, lambda: asked_for(what or (), given)), **arguments)

    wrapper.__signature__ = inspect.Signature(all_of_them)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in all_of_them}
    return wrapper


def asked_for(what: Sequence[str], given: Mapping[str, Any]) -> list[Wanted]:
    """The experiments of presets and experiment files, each with the options given beside them.

    Raises InputError where there is something wrong with one of them.
    """
    beside = {key: value for key, value in given.items() if value is not None and value != []}
    if not what:
        return [experiment_options(**beside)]
    name = beside.pop("name", None)
    asked: list[Wanted] = []
    for one in what:
        if one.endswith(files.SUFFIX):
            asked += files.read(paths.given(one), beside)
        elif paths.given(one + files.SUFFIX).is_file() and one not in presets.PRESETS:
            raise InputError(f"there is no preset {one!r}: the experiment file is named {one}{files.SUFFIX}")
        else:
            asked += [experiment_options(preset=member, **beside) for member in presets.members(one, beside)]
    if name is None:
        return asked
    check_name(name)
    if len(asked) > 1:
        raise InputError(f"--name {name!r} cannot be the name of {len(asked)} experiments: leave it out")
    return [replace(asked[0], given_name=name)]
