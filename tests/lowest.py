"""Print the lowest versions that pyproject.toml allows as constraints for pip: `python -m tests.lowest`."""

import re
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
LOWER_BOUND = re.compile(r"(?P<name>[\w.-]+)>=(?P<version>[\w.]+)")


def constraints() -> Iterator[str]:
    """A pin for each lower bound of the project and its extras."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    for requirement in chain(project["dependencies"], *project["optional-dependencies"].values()):
        if bound := LOWER_BOUND.match(requirement):
            yield f"{bound['name']}=={bound['version']}"


if __name__ == "__main__":
    print("\n".join(constraints()))
