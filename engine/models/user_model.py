"""A person's own model, named `package.module:factory`. Nothing here imports torch.

Its *identity* has the hash of the source behind it, `package.module:factory@<16 hexadecimal digits>`: of the module's
file, or of every .py file of the package that it is in, and of the modules in the same folder that those import, and
so on. What is queued holds the identity; the folder of the source is remembered beside it, like the file of a data set.
"""

import ast
import functools
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from engine.errors import InputError, OptionName
from engine.machine.processes import ROOT

DIGITS = 16  # of the source's hash, in an identity
OURS = ("cockpit", "engine")
# What every network stands on, and what trains it: no module of a folder can be imported in place of these.
NEEDED = {"PIL", "mpmath", "msgspec", "numpy", "platformdirs", "psutil", "safetensors", "scipy", "sklearn"} | {
    "sqlite_utils", "sympy", "torch", "torchgen", "torchvision", "triton", "typing_extensions",
}  # fmt: skip
INSTALLED = ("site-packages", "dist-packages")  # folders that hold distributions, whatever environment they are of


@dataclass(frozen=True)
class Source:
    """Where a model's source was found: the folder to import `module` from, its file, and what was hashed.

    `names` are the modules and packages of the folder that belong to it, `code` is the content of their files.
    """

    module: str
    factory: str
    folder: Path
    file: Path
    sha256: str
    names: frozenset[str]
    code: Mapping[Path, bytes] = field(repr=False, compare=False)

    @property
    def digest(self) -> str:
        """The part of the hash that identities have."""
        return self.sha256[:DIGITS]

    @property
    def name(self) -> str:
        """What a person calls the model."""
        return f"{self.module}:{self.factory}"

    @property
    def identity(self) -> str:
        """What a run knows the model by."""
        return f"{self.name}@{self.digest}"


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
    root = _root(spec).absolute()
    file = _file(root, inner, module)
    names, code = _gather(top, root)
    sha256 = _hash(code)
    if expected and sha256[:DIGITS] != expected:
        raise InputError(
            f"the source of model {given} is not what it was when this was queued ({root} has hash {sha256[:DIGITS]},"
            f" not {expected}): put it back, or queue the present model under another ",
            OptionName("name"),
            option="model",
        )
    return Source(module, factory, root.parent, file, sha256, names, dict(code.values()))


def _spec(top: str, first: list[str]) -> ModuleSpec | None:
    """Where the module or package `top` would be imported from. Namespace packages come last, as for Python."""
    importlib.invalidate_caches()
    if found := PathFinder.find_spec(top, [*first, *sys.path]):
        return found
    try:
        return importlib.util.find_spec(top)  # what was installed to be edited where it is
    except ValueError:  # __main__
        return None


def _root(spec: ModuleSpec) -> Path:
    """The folder of a package, or the file of a module."""
    places = spec.submodule_search_locations
    return Path(next(iter(places))) if places else Path(spec.origin or "")


def _file(root: Path, inner: list[str], module: str) -> Path:
    """The file of a module in the package or file at `root`."""
    if root.is_dir():
        place = root.joinpath(*inner)
        for file in (place / "__init__.py", place.with_name(f"{place.name}.py")):
            if file.is_file() and (inner or file.name == "__init__.py"):
                return file
        raise InputError(
            f"module {module} does not exist in {root.parent}: name a Python file as in package.module:factory"
        )
    if inner or root.suffix != ".py":
        raise InputError(f"module {module} has no source: {root or module} is not a Python file that holds it")
    return root


def is_installed(path: Path) -> bool:
    """Whether a file belongs to Python, to an installed distribution, or to this program."""
    import sysconfig

    library = Path(sysconfig.get_path("stdlib"))
    ours = any(path.is_relative_to(ROOT / name) for name in OURS)
    return ours or path.is_relative_to(library) or not set(INSTALLED).isdisjoint(path.parts)


def _gather(top: str, root: Path) -> tuple[frozenset[str], dict[str, tuple[Path, bytes]]]:
    """The modules of its folder that a model is made of, and their files by the place that is hashed with each.

    Those are its own module or package, and what that and they import from the same folder. Of what is installed it
    is the package alone: whatever else lies in its folder are other distributions.
    """
    own = {root.name: root} if root.is_file() else {f.relative_to(root).with_suffix(""): f for f in _modules(root)}
    code = {str(place): (file, file.read_bytes()) for place, file in own.items()}
    names, folder = {top}, root.parent
    if is_installed(root):
        return frozenset(names), code
    _refuse_taken(top, folder)
    waiting = list(code.values())
    while waiting:
        for name in _imports(waiting.pop()[1]) - names:
            if (beside := _beside(name, folder)) is None:
                continue
            names.add(name)
            files = _modules(beside) if beside.is_dir() else [beside]
            found = {file.relative_to(folder).as_posix(): (file, file.read_bytes()) for file in files}
            code |= found
            waiting += found.values()
    return frozenset(names), code


def _modules(package: Path) -> Iterable[Path]:
    """The .py files of a package that can be imported."""
    return (
        file
        for file in package.rglob("*.py")
        if all(map(str.isidentifier, file.relative_to(package).with_suffix("").parts))
    )


def _beside(name: str, folder: Path) -> Path | None:
    """The module or package `name` in this folder, if an import finds that. Raises InputError if it must not be one."""
    _refuse_taken(name, folder)
    found = PathFinder.find_spec(name, [str(folder), *sys.path])
    root = _root(found).absolute() if found else folder
    return root if root.parent == folder and not _taken(name) else None


def _taken(name: str) -> bool:
    """Whether a module's name is Python's or this program's own."""
    return name in OURS or name in sys.stdlib_module_names


def _refuse_taken(name: str, folder: Path) -> None:
    """Raises InputError for a module in this folder whose name is Python's or this program's, and so never imported."""
    found = PathFinder.find_spec(name, [str(folder)]) if _taken(name) else None
    if found is None or found.loader is None or is_installed(Path(found.origin or "").absolute()):
        return
    owner = "cockpit" if name in OURS else "Python"
    raise InputError(
        f"module {name!r} in {found.origin} cannot be imported: {owner} itself has that name too; rename yours"
    )


@functools.lru_cache(1024)
def _imports(code: bytes) -> frozenset[str]:
    """The outermost names of the modules that the statements of a file import, wherever in it those stand."""
    try:
        nodes = list(ast.walk(ast.parse(code)))
    except (SyntaxError, ValueError):  # an extension, or what fails when it is imported
        return frozenset()
    found = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    for node in nodes:
        match node:
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                found.add(name)
    return frozenset(name.partition(".")[0] for name in found) - {""}


def _hash(code: Mapping[str, tuple[Path, bytes]]) -> str:
    found = hashlib.sha256()
    for place, (_, data) in sorted(code.items()):
        found.update(f"{place}\0{len(data)}\0".encode() + data)
    return found.hexdigest()


class _Code(SourceFileLoader):
    """Runs what was hashed of a file, whatever the file or its bytecode on the disk are by now."""

    def __init__(self, name: str, path: str, code: bytes) -> None:
        super().__init__(name, path)
        self.code = code

    def get_data(self, path: str) -> bytes:
        return self.code if path == self.path else super().get_data(path)

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.code, self.path)


class _Loaded:
    """A source and its modules, of which those of the source in use alone are in `sys.modules`.

    As a finder it gives the modules that were hashed, and nothing else of the folder. So each source is run once in a
    process, with its own helpers, whatever others of the same names were imported before.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.before: set[str] = set()  # what was imported when it was last loaded
        self.others: set[Path] = set()  # files that it imported and that are neither hashed nor installed
        self.modules: dict[str, ModuleType] = {}  # while another source is in use
        self.outside: dict[str, ModuleType] = {}  # of the same names, while this one is

    def use(self) -> None:
        """Put the modules in place."""
        self.outside = self._taken_out()
        sys.modules.update(self.modules)
        sys.meta_path.insert(0, self)

    def leave(self) -> None:
        """Put back what was there before."""
        sys.meta_path.remove(self)
        self.modules = self._taken_out()
        sys.modules.update(self.outside)

    def _taken_out(self) -> dict[str, ModuleType]:
        names = [name for name in sys.modules if name.partition(".")[0] in self.source.names]
        return {name: sys.modules.pop(name) for name in names}

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The module `name` if it belongs to the source. Raises ImportError if it lies in its folder and does not."""
        folder = str(self.source.folder)
        found = PathFinder.find_spec(name, [folder] if path is None else path)
        if found is None:
            return None
        if name.partition(".")[0] not in self.source.names:
            others = [place for place in sys.path if Path(place).absolute() != self.source.folder]
            if path is not None or found.loader is None or PathFinder.find_spec(name, others):
                return None
            raise ImportError(f"{found.origin} {_UNSEEN}", name=name)
        if found.loader is None and path is None:
            found.submodule_search_locations = [str(_root(found))]  # of a namespace package this portion, and no other
        elif isinstance(found.loader, SourceFileLoader):
            code = self.source.code.get(Path(found.loader.path).absolute())
            if code is None:
                raise ImportError(f"{found.origin} was not there when the model was hashed", name=name)
            found.loader = _Code(name, found.loader.path, code)
        return found

    def elsewhere(self) -> set[Path]:
        """The files of modules that it has imported, and that are neither hashed nor installed.

        Raises InputError for one that lies in its folder.
        """
        files = [getattr(module, "__file__", None) for name, module in sys.modules.items() if name not in self.before]
        for path in {Path(file).absolute() for file in files if file} - set(self.source.code):
            if path.is_relative_to(self.source.folder) and path.suffix == ".py" and not is_installed(path):
                raise InputError(f"model {self.source.name}: {path} {_UNSEEN}")
            if not is_installed(path):
                self.others.add(path)
        return self.others


_UNSEEN = (
    "is imported in a way that the model's hash does not see: import it with an import statement, by its place in the"
    " model's folder"
)
_loaded: dict[tuple[Path, str], _Loaded] = {}  # by folder and hash
_in_use: list[_Loaded] = []  # none or one
_of_installed: dict[str, str] = {}  # the hash of a package that is installed, when it was first asked for


def load(name: str, folder: str = "") -> Callable[..., Any]:
    """The factory of the model called `name`, whose code is run for that. Raises InputError like `find`.

    A worker lives longer than a person's edits, and trains models of several folders: each gets its own modules.
    """
    source = find(name, folder)
    _use(source)
    try:
        module = importlib.import_module(source.module)
    except (Exception, SystemExit) as error:
        raise InputError(f"{source.file} cannot be imported: {describe(error)}") from error
    if Path(module.__file__ or "").absolute() != source.file:
        raise InputError(
            f"module {source.module!r} in {source.folder} cannot be imported: {module.__file__ or 'Python itself'} has"
            " that name too; rename yours"
        )
    factory = getattr(module, source.factory, None)
    if not callable(factory):
        raise InputError(f"{source.file} has no function or class {source.factory!r}")
    elsewhere()
    return factory  # type: ignore[no-any-return]


def _use(source: Source) -> None:
    """Make the modules of a source those that are imported by their names, until another is used."""
    if is_installed(source.file):  # others use it too, so it stays as it was imported
        top = source.module.partition(".")[0]
        if _of_installed.setdefault(top, source.sha256) != source.sha256:
            raise InputError(f"package {top!r} has changed since this process imported it: start the process again")
        return
    for name in NEEDED & source.names:
        found = PathFinder.find_spec(name)
        if found and found.origin and is_installed(Path(found.origin).absolute()):
            raise InputError(
                f"module {name!r} in {source.folder} cannot be imported: {found.origin} has that name too; rename yours"
            )
    wanted = _loaded.setdefault((source.folder, source.sha256), _Loaded(source))
    if wanted not in _in_use:
        put_back()
        wanted.use()
        _in_use.append(wanted)
    wanted.before = set(sys.modules)


def elsewhere() -> list[Path]:
    """The files that the model in use has imported so far, and that are neither hashed nor installed.

    Raises InputError for one in its own folder, which its hash should cover.
    """
    return sorted(path for loaded in _in_use for path in loaded.elsewhere())


def put_back() -> None:
    """Leave the modules of a person's process as they were before a model was loaded in it."""
    while _in_use:
        _in_use.pop().leave()


def describe(error: BaseException) -> str:
    """An exception of someone else's code in a line: what, and where it was raised."""
    trace, place = error.__traceback__, ""
    while trace:
        file = Path(trace.tb_frame.f_code.co_filename)
        if not file.name.startswith("<frozen") and file != Path(__file__):  # Python's own import, as of a syntax error
            place = f" ({file.name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"
