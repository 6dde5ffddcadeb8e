"""Small images in a terminal: two pixels per character in colour, else characters as shades."""

from collections.abc import Sequence
from itertools import zip_longest

from rich.text import Text

from cockpit.text.console import Console

GAP = 2  # columns between two images
ROWS = 2  # most rows of images
SHADES = " .:-=+*#%@"

Pixel = Sequence[int]  # red, green, blue
Picture = Sequence[Sequence[Pixel]]


def show(pictures: Sequence[tuple[str, Picture]]) -> None:
    """Print images with their captions side by side, as many as fit into `ROWS` rows."""
    console = Console()
    coloured = console.is_terminal and not console.no_color
    width = max(len(picture[0]) for _, picture in pictures)
    abreast = max(1, (console.width + GAP) // (width + GAP))
    for start in range(0, min(len(pictures), ROWS * abreast), abreast):
        row = pictures[start : start + abreast]
        console.print()
        console.print((" " * GAP).join(caption[:width].ljust(width) for caption, _ in row), soft_wrap=True)
        drawn = [draw(picture, coloured) for _, picture in row]
        for lines in zip_longest(*drawn, fillvalue=Text(" " * width)):
            console.print(Text(" " * GAP).join(lines), soft_wrap=True)


def draw(picture: Picture, coloured: bool) -> list[Text]:
    """An image as lines of text; each line has two rows of pixels."""
    lines = []
    for top in range(0, len(picture), 2):
        upper, lower = picture[top], picture[min(top + 1, len(picture) - 1)]
        line = Text()
        for above, below in zip(upper, lower, strict=True):
            if coloured:
                line.append("▀", style=f"{_colour(above)} on {_colour(below)}")
            else:
                line.append(SHADES[(sum(above) + sum(below)) * len(SHADES) // (6 * 256)])
        lines.append(line)
    return lines


def _colour(pixel: Pixel) -> str:
    return "#{:02x}{:02x}{:02x}".format(*pixel)
