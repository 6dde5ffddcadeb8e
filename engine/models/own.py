"""A person's own model, named `package.module:factory`. Nothing here imports torch.

Its *identity* has the hash of the source behind it, `package.module:factory@<16 hexadecimal digits>`: of the module's
file, or of every .py file of the package that it is in. What is queued holds the identity; where the source lies is
remembered beside it, like the file of a data set.
"""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from engine.errors import InputError

DIGITS = 16  # of the source's hash


@dataclass(frozen=True)
class Source:
    """Where a model's source was found: the folder to import `module` from, its file, and the model's identity."""

    module: str
    factory: str
    folder: Path
    file: Path
    digest: str

    @property
    def identity(self) -> str:
        """What a run knows the model by."""
        return f"{self.module}:{self.factory}@{self.digest}"


def is_own(name: str) -> bool:
    """Whether `name`, as it was given or as an identity, is that of a person's own model."""
    return ":" in name


def find(name: str, folder: str = "") -> Source:
    """The source of the model called `name`, in `folder`, else in the current one, else where Python finds modules.

    Raises InputError where it is not found, or is another than an identity names. The code itself is not run.
    """
    given, _, expected = name.partition("@")
    module, _, factory = given.partition(":")
    if not all(part.isidentifier() for part in [*module.split("."), factory]):
        raise InputError(f"model {given!r} is not understood: name your own as package.module:factory, e.g. nets:small")
    top, *inner = module.split(".")
    spec = _spec(top, [*([folder] if folder else []), str(Path.cwd())])
    if spec is None:
        where = f"{folder}, in " if folder and Path(folder) != Path.cwd() else ""
        raise InputError(
            f"module {top!r} of model {given} was not found in {where}{Path.cwd()} or where Python looks: go to the"
            " folder that holds it, or put that folder on PYTHONPATH"
        )
    places = spec.submodule_search_locations
    root = Path(next(iter(places))) if places else Path(spec.origin or "")
    file = _file(root, inner, module)
    digest = _digest(root)
    if expected and digest != expected:
        raise InputError(
            f"the source of model {given} is not what it was when this was queued ({root} has hash {digest}, not"
            f" {expected}): put it back, or queue the model as it is now under another --name"
        )
    return Source(module, factory, root.parent.absolute(), file.absolute(), digest)


def _spec(top: str, first: list[str]) -> ModuleSpec | None:
    """Where the module or package `top` would be imported from. Namespace packages come last, as for Python."""
    importlib.invalidate_caches()
    if found := PathFinder.find_spec(top, [*first, *sys.path]):
        return found
    try:
        return importlib.util.find_spec(top)  # what was installed to be edited where it is
    except ValueError:  # __main__
        return None


def _file(root: Path, inner: list[str], module: str) -> Path:
    """The file of a module in the package or file at `root`."""
    if root.is_dir():
        place = root.joinpath(*inner)
        for file in (place / "__init__.py", place.with_name(f"{place.name}.py")):
            if file.is_file() and (inner or file.name == "__init__.py"):
                return file
        raise InputError(
            f"there is no module {module} in {root.parent}: name a Python file as in package.module:factory"
        )
    if inner or root.suffix != ".py":
        raise InputError(f"there is no source of module {module}: {root or module} is no Python file that holds it")
    return root


def _digest(root: Path) -> str:
    """The hash of a module's file, or of every module of a package with its place in it."""
    files = {root.name: root}
    if root.is_dir():
        inside = {file.relative_to(root).with_suffix(""): file for file in root.rglob("*.py")}
        files = {place.as_posix(): file for place, file in inside.items() if all(map(str.isidentifier, place.parts))}
    found = hashlib.sha256()
    for place, file in sorted(files.items()):
        data = file.read_bytes()
        found.update(f"{place}\0{len(data)}\0".encode() + data)
    return found.hexdigest()[:DIGITS]


_loaded: dict[str, Source] = {}  # by the name of the outermost package: what was imported here, and nowhere else


def load(name: str, folder: str = "") -> Callable[..., Any]:
    """The factory of the model called `name`, whose code is run for that. Raises InputError like `find`.

    What was imported before from another source is imported anew: a worker lives longer than a person's edits.
    """
    source = find(name, folder)
    top = source.module.partition(".")[0]
    before = _loaded.get(top)
    if before and (before.folder, before.digest) != (source.folder, source.digest):
        for imported in [key for key in sys.modules if key.partition(".")[0] == top]:
            del sys.modules[imported]
    folder = str(source.folder)
    sys.path[:] = [folder, *(place for place in sys.path if place != folder)]
    if top not in sys.modules:
        _loaded[top] = source
    try:
        module = importlib.import_module(source.module)
    except (Exception, SystemExit) as error:
        raise InputError(f"{source.file} cannot be imported: {describe(error)}") from error
    if Path(module.__file__ or "").absolute() != source.file:
        raise InputError(
            f"module {top!r} in {source.folder} cannot be imported: {module.__file__ or 'Python itself'} has that name"
            " too; rename yours"
        )
    factory = getattr(module, source.factory, None)
    if not callable(factory):
        raise InputError(f"{source.file} has no function or class {source.factory!r}")
    return factory  # type: ignore[no-any-return]


def describe(error: BaseException) -> str:
    """An exception of someone else's code in a line: what, and where it was raised."""
    trace, place = error.__traceback__, ""
    while trace:
        file = Path(trace.tb_frame.f_code.co_filename).name
        if not file.startswith("<frozen"):  # Python's own import, as of a module with a syntax error
            place = f" ({file}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"
