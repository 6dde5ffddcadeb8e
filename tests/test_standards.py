"""Standards of the code: lint, format, types, import contracts, and README's test command is CI's."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "check", "."),
        ("ruff", "format", "--check", "."),
        pytest.param(("mypy",), marks=pytest.mark.slow),
        ("importlinter.cli", "lint"),
    ],
    ids=["lint", "format", "types", "imports"],
)
def test_the_code_keeps_to(command: tuple[str, ...]) -> None:
    module = [sys.executable, "-m", *command]
    if command[0] == "importlinter.cli":  # has no __main__
        module = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()"]
    done = subprocess.run(module, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ci_runs_the_command_that_readme_gives_for_the_tests() -> None:
    readme = (ROOT / "README.md").read_text()
    commands = re.findall(r"^python3 -m venv .*$", readme, flags=re.MULTILINE)
    assert len(commands) == 2
    assert commands[0].endswith("cockpit run digits")
    assert commands[1] in (ROOT / ".ci" / "run").read_text()


def test_readme_names_only_files_that_exist() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")]:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_the_index_of_decisions_lists_every_record() -> None:
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text()
    listed = {}
    for section in index.split("\n## ")[1:]:
        page = re.findall(r"\(([a-z]+\.md)\)", section)[0]
        listed[page] = re.findall(r"^\| (\d{4}-\d\d-\d\d) \| (.+) \|$", section, flags=re.MULTILINE)
    records = {
        page.name: [
            (date, title) for title, date in re.findall(r"^## (.+)\n\n\*(.+)\*$", page.read_text(), flags=re.MULTILINE)
        ]
        for page in folder.glob("*.md")
        if page.name != "README.md"
    }
    assert listed == records
