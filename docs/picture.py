"""A command's coloured output as an SVG: `python docs/picture.py docs/digits.svg cockpit plot scopes@digits`."""

import os
import subprocess
import sys

from rich.console import Console
from rich.text import Text

WIDTH = 100


def main(path: str, command: list[str]) -> None:
    """Run `command` and draw what it printed."""
    environment = {**os.environ, "FORCE_COLOR": "1", "COLORTERM": "truecolor", "COLUMNS": str(WIDTH)}
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=WIDTH, file=nowhere)
        console.print(Text.from_ansi(printed), end="")
        console.save_svg(path, title=" ".join(command))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
