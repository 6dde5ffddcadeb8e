"""Values of options without pydantic, and defaults in help without parentheses.

Typer 0.29 passes every value to pydantic, even of options that were left out. Importing pydantic and making a validator
for each option takes longer than most commands, so plain values are converted here. Only this module uses private names
of Typer. A Typer without these names is left unchanged. `python -m benchmarks starting` measures the gain.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, get_args

from typer import core

# Conversions of plain values. All other values, and all errors, are left to Typer.
PLAIN = {
    str: re.compile(r".*", re.DOTALL),
    int: re.compile(r"[+-]?[0-9]{1,18}"),
    float: re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{1,18})?([eE][+-]?[0-9]{1,3})?"),
}


def lighten() -> None:
    """Let Typer convert plain values without pydantic."""
    build = getattr(core, "build_runtime_param", None)
    if build is not None:
        vars(core)["build_runtime_param"] = lambda descriptor: _Plain(descriptor, build)


def plain_defaults() -> None:
    """Make Typer show a default given in words as `[default: 6]`, not `[default: (6)]`."""
    worded = getattr(core, "_get_default_string", None)
    if worded is not None:
        vars(core)["_get_default_string"] = lambda obj, **known: (
            obj.show_default if known["show_default_is_str"] else worded(obj, **known)
        )


class _Plain:
    """The converter of a parameter's values, in place of Typer's."""

    def __init__(self, descriptor: Any, build: Callable[[Any], Any]) -> None:
        self.descriptor, self.build = descriptor, build

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value for the command. Raises the same errors as Typer."""
        several = param.multiple or param.nargs == -1
        if value is None:
            return () if several else None
        kind, about = self.descriptor.annotation, self.descriptor.parameter_info
        kind = (*get_args(kind), None)[0] if several else kind
        values: Sequence[Any] = value if several else [value]
        if about.parser and all(isinstance(one, str) for one in values):
            return list(map(about.parser, values)) if several else about.parser(value)
        if kind in PLAIN and about.parser is about.min is about.max is None:
            if all(isinstance(one, str) and PLAIN[kind].fullmatch(one) for one in values):
                return list(map(kind, values)) if several else kind(value)
            if not several and type(value) is kind:  # a default
                return value
        return self.build(self.descriptor).coerce(value, param=param, ctx=ctx)


lighten()
plain_defaults()
