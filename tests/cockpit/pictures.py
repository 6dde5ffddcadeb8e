"""The figures that are compared with reference images; `python -m tests.cockpit.pictures` draws the references again.

They are drawn from `tests/data/cockpit.db`, one of them with missing results, and without text, because versions of
font libraries draw text differently. Other tests check the text.
"""

import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cockpit.cli.results import figure
from cockpit.views import figures
from tests.conftest import copied

REFERENCES = Path(__file__).parents[1] / "data" / "figures"
FIXTURE = Path(__file__).parents[1] / "data" / "cockpit.db"
DOTS = 50  # an inch


def partial(folder: Path) -> Path:
    """The fixture with missing results: at some levels of some curves, one replicate or none is done."""
    copy = copied(FIXTURE, folder)
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute(
            "UPDATE runs SET status = 'waiting', test_accuracy = NULL WHERE target = 'digits-b'"
            " AND (level >= 4 AND seed = 1 OR ticket = 'random-preserved' AND level = 6)"
        )
        connection.commit()
    return copy


DRAWINGS: dict[str, Callable[[Path, Path], None]] = {
    "accuracy": lambda output, _: figure("halves", output, db=str(FIXTURE)),
    "partial": lambda output, folder: figure("halves", output, db=str(partial(folder))),
    "narrowed": lambda output, _: figure("halves", output, y=(0.9, 0.96), db=str(FIXTURE)),
    "remaining-full": lambda output, _: figure("halves", output, x="remaining", full=True, db=str(FIXTURE)),
    "ratios-pruned": lambda output, _: figure("halves", output, layers=True, db=str(FIXTURE)),
    "ratios-remaining": lambda output, _: figure("halves", output, layers=True, ratio="remaining", db=str(FIXTURE)),
}


@contextmanager
def without_text() -> Iterator[None]:
    """Settings for small figures without text."""
    save = Figure.savefig

    def stripped(figure: Figure, *arguments: Any, **options: Any) -> None:
        for axes in figure.findobj(Axes):
            axes.set(title="", xlabel="", ylabel="")
            axes.tick_params(labelleft=False, labelbottom=False)
            if legend := axes.get_legend():
                legend.remove()
        save(figure, *arguments, **options)

    with mock.patch.object(Figure, "savefig", stripped), mock.patch.object(figures, "DOTS", DOTS):
        yield


def main() -> None:
    """Draw the references."""
    REFERENCES.mkdir(exist_ok=True)
    for name, draw in DRAWINGS.items():
        with tempfile.TemporaryDirectory() as folder, without_text():
            draw(REFERENCES / f"{name}.png", Path(folder))


if __name__ == "__main__":
    main()
