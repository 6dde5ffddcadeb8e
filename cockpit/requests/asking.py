"""Experiments of a command line: presets and experiment files, with the options given."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import structs

from cockpit.requests.request import NAME, SUFFIX, Request, check_name, request_of
from engine.errors import InputError
from engine.machine import paths
from engine.plan import presets
from engine.plan.options import given


def asked_for(what: Sequence[str], options: Mapping[str, Any]) -> list[Request]:
    """The experiments of presets and experiment files, each with the options given.

    Raises InputError if one of them is invalid.
    """
    options_given = given(options)
    if not what:
        return [request_of(options_given)]
    name = options_given.pop("name", None)
    asked: list[Request] = []
    for one in what:
        if one.endswith(SUFFIX):
            from cockpit.requests import experiment_files

            asked += experiment_files.read(paths.given(one), options_given)
        elif paths.given(one + SUFFIX).is_file() and one not in presets.PRESETS:
            raise InputError(f"unknown preset {one!r}: for the experiment file, write {one}{SUFFIX}")
        else:
            members = presets.members(one, options_given)
            alone = (
                options_given if len(members) == 1 else {}
            )  # in a list, an experiment may ignore options that it does not use
            asked += [request_of({"preset": member, **alone}, options_given) for member in members]
    if name is None:
        return asked
    check_name(name)
    if len(asked) > 1:
        raise InputError(NAME, f" {name!r} cannot name {len(asked)} experiments: omit it")
    return [structs.replace(asked[0], given_name=name)]
