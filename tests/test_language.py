"""The language of messages, help, docstrings and docs: no turns of phrase that readers stumble over."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
ROOMS = [ROOT / room for room in ("engine", "cockpit", "benchmarks")]
FILES = [file for room in ROOMS for file in sorted(room.rglob("*.py"))]
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
NEVER = re.compile(
    r"\b(so many|there (is|are)|it is there|that of|goes on|all the same|as it is|is told|comes to|beside|by itself"
    r"|mend(s|ed)?|looked at)\b",
    re.IGNORECASE,
)


def texts(file: Path) -> Iterator[tuple[int, str]]:
    """The texts of a module with their lines: messages, help and docstrings."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = " ".join(node.value.split())
            if " " in text:  # a single word is a name
                yield node.lineno, text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_is_worded_plainly(page: Path) -> None:
    lines = enumerate(page.read_text().splitlines(), 1)
    assert not [f"{page.name}:{number}: {line}" for number, line in lines if NEVER.search(line)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_message_is_worded_plainly(file: Path) -> None:
    assert not [f"{file.name}:{number}: {text}" for number, text in texts(file) if NEVER.search(text)]


@pytest.mark.parametrize("file", sorted((ROOT / "tests").rglob("*.py")), ids=lambda file: str(file.relative_to(ROOT)))
def test_a_docstring_of_a_test_is_worded_plainly(file: Path) -> None:
    nodes = ast.walk(ast.parse(file.read_text()))
    docstrings = (ast.get_docstring(node) or "" for node in nodes if isinstance(node, DOCUMENTED))
    assert not [text for text in docstrings if NEVER.search(" ".join(text.split()))]


def test_the_list_finds_whole_words() -> None:
    assert NEVER.search("There is no run")
    assert NEVER.search("It lies beside the file")
    assert not NEVER.search("besides, whereas it isolates; there isn't a thereof")
