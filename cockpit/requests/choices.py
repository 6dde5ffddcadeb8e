"""Completions for the options of an experiment."""

from collections.abc import Mapping

from cockpit.requests.completing import Callback, among, data_sets
from engine.plan.options import OPTIONS

OF_OPTIONS: Mapping[str, Callback] = {
    name: data_sets if option.data_set else among(option.choices)
    for name, option in OPTIONS.items()
    if option.data_set or option.choices
}
