"""The options of an experiment (`engine.plan.options`) as parameters of Typer."""

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer

from cockpit.requests import completing
from cockpit.requests.asking import asked_for
from cockpit.requests.choices import OF_OPTIONS
from cockpit.requests.trusting import TrustModels, asking
from engine.plan.option import Option
from engine.plan.options import OPTIONS

What = Annotated[
    list[str] | None,
    typer.Argument(
        help="Presets (`cockpit presets list` has them: digits, fig1a, ...) and experiment files (.toml). Options given"
        " with them override their own.",
        show_default=False,
        autocompletion=completing.presets_and_files,
    ),
]
KEYWORD = inspect.Parameter.KEYWORD_ONLY


def takes_experiments(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command presets, experiment files and all options; it receives the experiments as `asked`."""
    shared = [_parameter(option) for name, option in OPTIONS.items() if name != "preset"]  # which `what` names
    what = inspect.Parameter("what", KEYWORD, default=None, annotation=What)

    def gather(arguments: dict[str, Any], trust_models: bool) -> Any:
        given = {one.name: arguments.pop(one.name) for one in shared}
        named = arguments.pop("what") or ()
        return {"asked": asking(trust_models, lambda: asked_for(named, given))}

    return _with(command, "asked", [what, *shared], gather)


def takes_more(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of `queue extend`; it receives them as `more`, and `trust_models`."""
    shared = [_parameter(option, option.more) for option in OPTIONS.values() if option.more]

    def gather(arguments: dict[str, Any], trust_models: bool) -> Any:
        return {"more": {one.name: arguments.pop(one.name) for one in shared}, "trust_models": trust_models}

    return _with(command, "more", shared, gather)


def _with(
    command: Callable[..., Any],
    instead: str,
    shared: Iterable[inspect.Parameter],
    gather: Callable[[dict[str, Any], bool], dict[str, Any]],
) -> Callable[..., Any]:
    """The command with `parameters` in place of one parameter, whose value `gather` builds from theirs."""
    own = [p for p in inspect.signature(command).parameters.values() if p.name not in (instead, "trust_models")]
    trust = inspect.Parameter("trust_models", KEYWORD, default=False, annotation=TrustModels)
    first = [p for p in own if p.default is p.empty]
    parameters = [p.replace(kind=KEYWORD) for p in [*first, *shared, trust, *(p for p in own if p not in first)]]

    @functools.wraps(command)
    def wrapper(trust_models: bool, **arguments: Any) -> Any:
        found = gather(arguments, trust_models)
        return command(**found, **arguments)

    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
    return wrapper


def _parameter(option: Option, help: str = "") -> inspect.Parameter:
    kind: Any = list[str] if option.several else option.kind
    words = f"{help or option.help}." + (" Repeatable." if option.several else "")
    about = typer.Option(
        help=words,
        rich_help_panel=None if help else option.panel,
        show_default=False if help or not option.default_text else option.default_text,
        autocompletion=OF_OPTIONS.get(option.name),
    )
    return inspect.Parameter(option.name, KEYWORD, default=None, annotation=Annotated[kind | None, about])
