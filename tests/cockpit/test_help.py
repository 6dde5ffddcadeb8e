"""The help: every command has an example that runs, and so do the commands of the docs."""

import re
import shlex
from pathlib import Path

import pytest

from tests.cockpit.commands import ALL

FORM = "Example: cockpit "
FOLDER = Path(__file__).parents[2]
PAGES = ["README.md", "CONTRIBUTING.md", *(str(page.relative_to(FOLDER)) for page in sorted(FOLDER.glob("docs/*.md")))]


def test_there_are_commands() -> None:
    assert {("run",), ("doctor",), ("queue", "add"), ("store", "check"), ("data", "get")} <= set(ALL)


@pytest.mark.parametrize("path", [path for path, one in ALL.items() if not one.hidden], ids=" ".join)
def test_a_command_has_an_example_that_parses(path: tuple[str, ...]) -> None:
    command = ALL[path]
    assert command.epilog, "has no example"
    assert command.epilog.startswith(FORM)
    assert "Example" not in (command.help or ""), "has another beside its epilog"
    words = shlex.split(command.epilog.removeprefix(FORM))
    assert tuple(words[: len(path)]) == path
    with command.make_context(" ".join(path), words[len(path) :]) as context:
        assert context.command is command


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_a_command_and_its_options_are_explained(path: tuple[str, ...]) -> None:
    command = ALL[path]
    assert command.help
    for parameter in command.params:
        explained = getattr(parameter, "hidden", False) or getattr(parameter, "help", None)
        assert explained, f"{parameter.name} is not explained"


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_parse(page: str) -> None:
    for block in re.findall(r"^```sh\n(.*?)^```", (FOLDER / page).read_text(), flags=re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removesuffix(" &"), comments=True)
            if words[:1] != ["cockpit"] or words[1:] in ([], ["--install-completion"], ["--show-completion"]):
                continue
            path = next((path for path in ALL if tuple(words[1 : 1 + len(path)]) == path), None)
            assert path, f"no such command: {line}"
            ALL[path].make_context(" ".join(path), words[1 + len(path) :]).close()
