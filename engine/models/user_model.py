"""User models, named `package.module:factory`. No torch.

The *identity* of a user model is `package.module:factory@HASH`, with 16 hexadecimal digits of a hash of its source. The
source is the module's file, or all .py files of its package, and the modules of the same folder that these import,
directly or not. Runs have the identity; the database also records the folder of the source.
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

DIGITS = 16  # of the source's hash in an identity
OURS = ("cockpit", "engine")
# Packages that networks and training need: no module in a model's folder can replace them.
NEEDED = {"PIL", "mpmath", "msgspec", "numpy", "platformdirs", "psutil", "safetensors", "scipy", "sklearn"} | {
    "sqlite_utils", "sympy", "torch", "torchgen", "torchvision", "triton", "typing_extensions",
}  # fmt: skip
INSTALLED = ("site-packages", "dist-packages")  # folders of distributions in any environment


@dataclass(frozen=True)
class Source:
    """A model's source: the folder to import `module` from, the module's file, and the hash.

    `names` are the modules and packages of the folder that belong to it; `code` is the content of their files.
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
        """The digits of the hash in the identity."""
        return self.sha256[:DIGITS]

    @property
    def name(self) -> str:
        """The user's name of the model."""
        return f"{self.module}:{self.factory}"

    @property
    def identity(self) -> str:
        """The model in recipes."""
        return f"{self.name}@{self.digest}"


def is_own(name: str) -> bool:
    """Whether a name or identity belongs to a user model."""
    return ":" in name


def find(name: str, folder: str = "") -> Source:
    """The source of the model `name` or identity: in `folder`, else in the current one, else on Python's path.

    Raises InputError if it is not found, or has another hash than the identity. Does not run the code.
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
    """The spec of the module or package `top`, searched in `first`, then on Python's path; None if not found."""
    importlib.invalidate_caches()
    if found := PathFinder.find_spec(top, [*first, *sys.path]):
        return found
    try:
        return importlib.util.find_spec(top)  # finds editable installations
    except ValueError:  # __main__
        return None


def _root(spec: ModuleSpec) -> Path:
    """The folder of a package, or the file of a module."""
    folders = spec.submodule_search_locations
    return Path(next(iter(folders))) if folders else Path(spec.origin or "")


def _file(root: Path, inner: list[str], module: str) -> Path:
    """The file of a module in the package or file at `root`. Raises InputError if it has none."""
    if root.is_dir():
        path = root.joinpath(*inner)
        for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
            if file.is_file() and (inner or file.name == "__init__.py"):
                return file
        raise InputError(
            f"module {module} does not exist in {root.parent}: name a Python file as in package.module:factory"
        )
    if inner or root.suffix != ".py":
        raise InputError(f"module {module} has no source: {root or module} is not a Python file that holds it")
    return root


def is_installed(path: Path) -> bool:
    """Whether a file belongs to Python, an installed distribution, or cockpit."""
    import sysconfig

    library = Path(sysconfig.get_path("stdlib"))
    ours = any(path.is_relative_to(ROOT / name) for name in OURS)
    return ours or path.is_relative_to(library) or not set(INSTALLED).isdisjoint(path.parts)


def _gather(top: str, root: Path) -> tuple[frozenset[str], dict[str, tuple[Path, bytes]]]:
    """The names of a model's modules, and their paths and contents by the relative path that is hashed with each.

    They are the model's module or package, and the modules of the same folder that these import, directly or not. For
    an installed model it is the package only: its folder has other distributions.
    """
    own = {root.name: root} if root.is_file() else {f.relative_to(root).with_suffix(""): f for f in _modules(root)}
    code = {str(relative): (file, file.read_bytes()) for relative, file in own.items()}
    names, folder = {top}, root.parent
    if is_installed(root):
        return frozenset(names), code
    _refuse_taken(top, folder)
    waiting = list(code.values())
    while waiting:
        for name in _imports(waiting.pop()[1]) - names:
            if (helper := _in_folder(name, folder)) is None:
                continue
            names.add(name)
            files = _modules(helper) if helper.is_dir() else [helper]
            added = {file.relative_to(folder).as_posix(): (file, file.read_bytes()) for file in files}
            code |= added
            waiting += added.values()
    return frozenset(names), code


def _modules(package: Path) -> Iterable[Path]:
    """The .py files of a package that can be imported."""
    return (
        file
        for file in package.rglob("*.py")
        if all(map(str.isidentifier, file.relative_to(package).with_suffix("").parts))
    )


def _in_folder(name: str, folder: Path) -> Path | None:
    """The module or package in this folder that `import name` finds; None if it finds none there.

    Raises InputError if its name is taken (`_refuse_taken`).
    """
    _refuse_taken(name, folder)
    spec = PathFinder.find_spec(name, [str(folder), *sys.path])
    root = _root(spec).absolute() if spec else folder
    return root if root.parent == folder and not _taken(name) else None


def _taken(name: str) -> bool:
    """Whether a module's name belongs to Python or cockpit."""
    return name in OURS or name in sys.stdlib_module_names


def _refuse_taken(name: str, folder: Path) -> None:
    """Raise InputError for a module in this folder that is never imported, as Python or cockpit has its name."""
    spec = PathFinder.find_spec(name, [str(folder)]) if _taken(name) else None
    if spec is None or spec.loader is None or is_installed(Path(spec.origin or "").absolute()):
        return
    owner = "cockpit" if name in OURS else "Python"
    raise InputError(
        f"module {name!r} in {spec.origin} cannot be imported: {owner} itself has that name too; rename yours"
    )


@functools.lru_cache(1024)
def _imports(code: bytes) -> frozenset[str]:
    """The top-level names of the modules that a file imports, anywhere in it."""
    try:
        nodes = list(ast.walk(ast.parse(code)))
    except (SyntaxError, ValueError):  # an extension module, or a file that fails when it is imported
        return frozenset()
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    for node in nodes:
        match node:
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                names.add(name)
    return frozenset(name.partition(".")[0] for name in names) - {""}


def _hash(code: Mapping[str, tuple[Path, bytes]]) -> str:
    total = hashlib.sha256()
    for relative, (_, data) in sorted(code.items()):
        total.update(f"{relative}\0{len(data)}\0".encode() + data)
    return total.hexdigest()


class _Code(SourceFileLoader):
    """A loader that runs the code that was hashed, even if the file or its bytecode has changed since."""

    def __init__(self, name: str, path: str, code: bytes) -> None:
        super().__init__(name, path)
        self.code = code

    def get_data(self, path: str) -> bytes:
        return self.code if path == self.path else super().get_data(path)

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.code, self.path)


class _Loaded:
    """A source and its modules. Only the modules of the source in use are in `sys.modules`.

    As a finder on `sys.meta_path`, it finds only the hashed modules of its folder. A process therefore runs each source
    once, with its own helper modules, even if it has imported others of the same names.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.before: set[str] = set()  # names in `sys.modules` before it was last loaded
        self.others: set[Path] = set()  # files that it imported, neither hashed nor installed
        self.modules: dict[str, ModuleType] = {}  # its modules, while another source is in use
        self.outside: dict[str, ModuleType] = {}  # other modules of its names, while it is in use

    def use(self) -> None:
        """Put its modules into `sys.modules`."""
        self.outside = self._taken_out()
        sys.modules.update(self.modules)
        sys.meta_path.insert(0, self)

    def leave(self) -> None:
        """Restore `sys.modules`."""
        sys.meta_path.remove(self)
        self.modules = self._taken_out()
        sys.modules.update(self.outside)

    def _taken_out(self) -> dict[str, ModuleType]:
        names = [name for name in sys.modules if name.partition(".")[0] in self.source.names]
        return {name: sys.modules.pop(name) for name in names}

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The spec of a module of the source; ImportError for another module of its folder, None for all others."""
        folder = str(self.source.folder)
        spec = PathFinder.find_spec(name, [folder] if path is None else path)
        if spec is None:
            return None
        if name.partition(".")[0] not in self.source.names:
            others = [entry for entry in sys.path if Path(entry).absolute() != self.source.folder]
            if path is not None or spec.loader is None or PathFinder.find_spec(name, others):
                return None
            raise ImportError(f"{spec.origin} {_UNSEEN}", name=name)
        if spec.loader is None and path is None:
            spec.submodule_search_locations = [str(_root(spec))]  # only this portion of a namespace package
        elif isinstance(spec.loader, SourceFileLoader):
            code = self.source.code.get(Path(spec.loader.path).absolute())
            if code is None:
                raise ImportError(f"{spec.origin} was not there when the model was hashed", name=name)
            spec.loader = _Code(name, spec.loader.path, code)
        return spec

    def elsewhere(self) -> set[Path]:
        """The files of modules that it has imported, neither hashed nor installed.

        Raises InputError for a file in its folder.
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
_of_installed: dict[str, str] = {}  # the hash of each installed package when it was first used


def load(name: str, folder: str = "") -> Callable[..., Any]:
    """Import the factory of the model `name`, which runs its code. Raises InputError like `find`, or if that fails.

    A worker may train several versions of a model, and models of several folders: each has its own modules.
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
    """Make `import` find the modules of a source, until another source is used."""
    if is_installed(source.file):  # other code may use the package as well, so it stays imported
        top = source.module.partition(".")[0]
        if _of_installed.setdefault(top, source.sha256) != source.sha256:
            raise InputError(f"package {top!r} has changed since this process imported it: start the process again")
        return
    for name in NEEDED & source.names:
        spec = PathFinder.find_spec(name)
        if spec and spec.origin and is_installed(Path(spec.origin).absolute()):
            raise InputError(
                f"module {name!r} in {source.folder} cannot be imported: {spec.origin} has that name too; rename yours"
            )
    wanted = _loaded.setdefault((source.folder, source.sha256), _Loaded(source))
    if wanted not in _in_use:
        put_back()
        wanted.use()
        _in_use.append(wanted)
    wanted.before = set(sys.modules)


def elsewhere() -> list[Path]:
    """The files that the model in use has imported so far, neither hashed nor installed.

    Raises InputError for a file in its folder, because the hash should include it.
    """
    return sorted(path for loaded in _in_use for path in loaded.elsewhere())


def put_back() -> None:
    """Restore `sys.modules` to its state before a model was loaded."""
    while _in_use:
        _in_use.pop().leave()


def describe(error: BaseException) -> str:
    """An exception of a user's code in one line: its type, message, file and line."""
    trace, where = error.__traceback__, ""
    while trace:
        file = Path(trace.tb_frame.f_code.co_filename)
        if not file.name.startswith("<frozen") and file != Path(__file__):  # neither the import machinery nor `load`
            where = f" ({file.name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return f"{type(error).__name__}: {' '.join(str(error).split())}{where}"
