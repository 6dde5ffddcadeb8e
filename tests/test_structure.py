"""The structure: packages with docstrings, few modules outside of packages, and no circle of imports."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("engine", "cockpit")
MOST_AT_THE_ROOT = 4


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True)


def test_no_files_import_each_other_in_a_circle(graph: grimp.ImportGraph) -> None:
    TopologicalSorter({module: graph.find_modules_directly_imported_by(module) for module in graph.modules}).prepare()


def test_no_rooms_import_each_other_in_a_circle(graph: grimp.ImportGraph) -> None:
    rooms: dict[str, set[str]] = {}
    for module in graph.modules - set(PACKAGES):  # `engine` itself is the Python API
        imported = graph.find_modules_directly_imported_by(module) - set(PACKAGES)
        rooms.setdefault(room(module), set()).update(room(other) for other in imported if room(other) != room(module))
    TopologicalSorter(rooms).prepare()


@pytest.mark.parametrize("package", PACKAGES)
def test_few_modules_lie_outside_of_rooms(package: str) -> None:
    assert len(list((ROOT / package).glob("*.py"))) <= MOST_AT_THE_ROOT


@pytest.mark.parametrize("package", PACKAGES)
def test_each_room_says_what_lives_in_it(package: str) -> None:
    for init in sorted((ROOT / package).glob("*/__init__.py")):
        assert len((ast.get_docstring(ast.parse(init.read_text())) or "").split()) > 8, init


def test_no_tests_import_another_file_of_tests() -> None:
    """No test file imports another; shared code is in helper files."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [part for alias in node.names for part in alias.name.split(".")]
                names += (getattr(node, "module", None) or "").split(".")
                assert not [name for name in names if name.startswith("test_")], (path, node.lineno)


def room(module: str) -> str:
    """The package of a module, or the module itself at the root."""
    return ".".join(module.split(".")[:2])
