"""A network's definition as Python files that need torch and safetensors, but not cockpit."""

import ast
import inspect
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from engine.errors import InputError
from engine.models import architectures, nets, user_model
from engine.models.architectures import Shape

HEAD = '''"""{about}

    from {module} import load
    net = load()

Written by `cockpit tickets export`. Needs torch and safetensors.
"""

{imports}
'''
IMPORTS = ("from pathlib import Path", "from safetensors.torch import load_file", "from torch.nn.utils import prune")
TAIL = '''

FILE = Path(__file__).with_name({file!r})
SHAPE = {shape}  # channels, height, width of the images


def network() -> nn.Module:
    """The network, without the ticket's weights."""
    return {call}


def load(path: Path = FILE) -> nn.Module:
    """The network with the ticket's weights and masks. Pruned weights stay 0 during training."""
    ticket = load_file(path)
    net = network()
    net.load_state_dict({{name: value for name, value in ticket.items() if not name.startswith("mask/")}})
    for name in [name.removeprefix("mask/") for name in ticket if name.startswith("mask/")]:
        layer, _, weight = name.rpartition(".")
        prune.custom_from_mask(net.get_submodule(layer), weight, ticket[f"mask/{{name}}"])
    return net
'''


def files(
    name: str, width: float, shape: Shape, classes: int, folder: str, ticket: str, about: str
) -> dict[str, bytes]:
    """The files to put next to the file `ticket`, by name: a module that loads it, and the source of a user model.

    `about` describes the ticket in one line. The source of an installed package is imported, not copied.
    """
    try:
        made = nets.maker(name, width, shape, classes, folder)
    finally:
        user_model.put_back()
    source = user_model.find(name, folder) if user_model.is_own(name) else None
    module = "load_" + "".join(c if f"_{c}".isidentifier() else "_" for c in Path(ticket).stem)
    defined: list[str] = []
    if source:
        maker, imports = source.factory, ["from torch import nn", f"from {source.module} import {source.factory}"]
    else:
        maker = made.func.__name__
        imports, defined = _statements(maker)
    about = "".join(c if c.isprintable() and c not in '"\\' else "_" for c in about)  # so that names are no code
    head = HEAD.format(about=about, module=module, imports=_sorted([*IMPORTS, *imports]))
    tail = TAIL.format(file=ticket, shape=tuple(shape), call=f"{maker}({_arguments(made)})")
    by_name = {f"{module}.py": "".join([head, *(f"\n\n{part}\n" for part in defined), tail]).encode()}
    if source and not user_model.is_installed(source.file):
        by_name |= {str(path.relative_to(source.folder)): code for path, code in source.code.items()}
    return by_name


def write(folder: Path, files: dict[str, bytes]) -> list[str]:
    """Write files, given by name, into a folder; returns their paths.

    Raises InputError, and writes none, if one would replace a file of other content.
    """
    for name, data in files.items():
        file = folder / name
        if not name.startswith("load_") and file.exists() and file.read_bytes() != data:
            raise InputError(f"{file} is not the source of this model: export to another folder")
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return [str(folder / name) for name in files]


def _arguments(made: "partial[Any]") -> str:
    return ", ".join([*map(repr, made.args), *(f"{key}={value!r}" for key, value in made.keywords.items())])


def _sorted(imports: Iterable[str]) -> str:
    """Import statements as text, those of the standard library first."""
    groups: dict[bool, list[str]] = {True: [], False: []}
    for line in sorted(imports):
        groups[line.split()[1].partition(".")[0] in sys.stdlib_module_names].append(line)
    return "\n\n".join("\n".join(group) for group in groups.values())


def _statements(name: str) -> tuple[list[str], list[str]]:
    """The imports and the definitions in `architectures` that the definition of `name` uses, with itself."""
    text = inspect.getsource(architectures)
    statements = [one for one in ast.parse(text).body if not isinstance(one, ast.Expr)]
    needed, waiting = set(), {name}
    while waiting:
        wanted = waiting.pop()
        for one in statements:
            if one not in needed and wanted in _defines(one):
                needed.add(one)
                waiting |= {inner.id for inner in ast.walk(one) if isinstance(inner, ast.Name)}
    parts = {one: ast.get_source_segment(text, one) or "" for one in statements if one in needed}
    imports = [part for one, part in parts.items() if isinstance(one, ast.Import | ast.ImportFrom)]
    return imports, [part for part in parts.values() if part not in imports]


def _defines(statement: ast.stmt) -> set[str]:
    """The names that a statement of a module defines."""
    match statement:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
            return {name}
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            return {alias.asname or alias.name for alias in names}
        case ast.Assign(targets=targets):
            return {target.id for target in targets if isinstance(target, ast.Name)}
    return set()
