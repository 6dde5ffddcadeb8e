"""Figures as files: comparison with reference images, and refused requests."""

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.testing.compare import compare_images

from cockpit.cli.results import figure
from cockpit.views import figures
from tests.cockpit.pictures import DRAWINGS, FIXTURE, REFERENCES, without_text
from tests.conftest import Cockpit, add, copied
from tests.hostile import NAMES, hostile

SIZES = "differs from the paper: width 0.5, 4 epochs, 6 levels,"
TOLERANCE = 3.0  # root mean square over pixels from 0 to 255


def differs(name: str, actual: Path) -> bool:
    reference = actual.with_name(f"{name}-reference.png")
    shutil.copy(REFERENCES / f"{name}.png", reference)  # compare_images writes its difference next to both
    return compare_images(str(reference), str(actual), TOLERANCE) is not None


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_figure_looks_like_its_reference(name: str, tmp_path: Path) -> None:
    with without_text():
        DRAWINGS[name](tmp_path / f"{name}.png", tmp_path)
    assert not differs(name, tmp_path / f"{name}.png")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("accuracy", "UPDATE runs SET test_accuracy = test_accuracy + 0.02 WHERE ticket = 'winning'"),
        ("accuracy", "UPDATE runs SET status = 'failed' WHERE ticket = 'random-global' AND level > 3"),
        ("ratios-pruned", "UPDATE layers SET weights_remaining = weights_remaining - 20 WHERE layer = 0"),
    ],
)
def test_a_figure_of_other_data_does_not_look_like_the_reference(name: str, change: str, tmp_path: Path) -> None:
    copy = copied(FIXTURE, tmp_path)
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute(change)
        connection.commit()
    with without_text():
        figure("halves", tmp_path / "other.png", layers=name.startswith("ratios"), db=str(copy))
    assert differs(name, tmp_path / "other.png")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "accuracy",
            ("from digits a, global (n=2)", "0.49", "90", "fraction of weights pruned", "50"),
        ),
        (
            "partial",
            ("from digits a, global (n=1-2 of 2)", "dense (n=2)", "77 of 94 runs done"),
        ),
        ("remaining-full", ("weights remaining, %", "51", "test accuracy, %", "halves · digits b · VGG-digits x 1/2")),
        ("ratios-pruned", ("level 6, 73.79 % pruned (n=2)", "ratio of the fraction pruned", "layer", SIZES)),
        ("ratios-remaining", ("ratio of the fraction remaining", "1.5")),
    ],
)
def test_a_figure_says_what_it_shows(name: str, said: tuple[str, ...], tmp_path: Path) -> None:
    DRAWINGS[name](tmp_path / "drawn.svg", tmp_path)
    text = (tmp_path / "drawn.svg").read_text()
    for one in said:
        assert f"<!-- {one} -->" in text


@pytest.mark.parametrize("form", figures.FORMS)
def test_the_same_data_makes_the_same_file_whatever_a_persons_style_is(
    form: str, tmp_path: Path, cockpit: Cockpit
) -> None:
    (tmp_path / "matplotlibrc").write_text("font.size: 30\naxes.facecolor: red\n")
    written = []
    for styled in ("", str(tmp_path / "matplotlibrc")):
        found = cockpit("figure", "halves", "-o", f"halves.{form}", "--db", FIXTURE, MATPLOTLIBRC=styled)
        assert (found.returncode, found.stdout, found.stderr) == (0, "", f"wrote halves.{form}\n")
        written.append((tmp_path / f"halves.{form}").read_bytes())
    assert written[0] == written[1]


def drawn_axes(path: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Axes:
    """The matplotlib figure of an experiment."""
    kept: list[Figure] = []

    def keep(drawn: Figure, file: str | Path, **_: object) -> None:
        kept.append(drawn)
        Path(file).touch()

    monkeypatch.setattr(Figure, "savefig", keep)
    figure("halves", path.with_name("drawn.png"), db=str(path), **options)
    return kept[0].axes[0]


def test_no_shade_is_cut_unless_the_axis_is_narrowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = copied(FIXTURE, tmp_path)
    axes = drawn_axes(copy, monkeypatch)
    shades = [shade.get_datalim(axes.transData) for shade in axes.collections]
    low, high = axes.get_ylim()
    assert len(shades) > 3
    assert low < min(shade.y0 for shade in shades) < max(shade.y1 for shade in shades) < high
    assert drawn_axes(copy, monkeypatch, y=(0.9, 0.96)).get_ylim() == (0.9, 0.96)


def test_one_point_alone_has_its_deviation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = copied(FIXTURE, tmp_path)
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("UPDATE runs SET status = 'waiting', test_accuracy = NULL WHERE level > 0")
        connection.commit()
    axes = drawn_axes(copy, monkeypatch)
    assert any(
        segment[0][1] < segment[1][1] for bar in axes.collections for segment in getattr(bar, "get_segments", list)()
    )


def test_an_experiment_of_scopes_alone_is_drawn_layer_by_layer(cockpit: Cockpit, tmp_path: Path) -> None:
    copy = copied(FIXTURE, tmp_path)
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute(
            "DELETE FROM curve_points WHERE curve_id IN (SELECT id FROM experiment_curves WHERE ticket LIKE 'random%')"
        )
        connection.execute("DELETE FROM experiment_curves WHERE ticket LIKE 'random%'")
        connection.commit()
    for arguments, title in (
        ((), "halves: fraction pruned, global / layerwise"),
        (("--curves",), "halves · digits b · VGG-digits x 1/2"),
        (("--target", "digits-a"), "halves · digits a · VGG-digits x 1/2"),
    ):
        assert title in cockpit("plot", "halves", *arguments, "--db", copy).stdout
        cockpit("figure", "halves", *arguments, "-o", "drawn.svg", "--db", copy)
        assert f"<!-- {title} -->" in (tmp_path / "drawn.svg").read_text()


def test_a_chain_of_an_optimizer_that_is_only_a_source_is_not_in_the_figure(cockpit: Cockpit, tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    add(path, "five", target=["digits-a"], optimizer=["sgd", "adam"], target_optimizer=["sgd"], levels=2, replicates=2)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE runs SET status = 'done', test_accuracy = 0.5, weights_remaining = 9 - level")
        connection.execute("UPDATE runs SET weights_total = 9")
        connection.commit()
    cockpit("figure", "five", "-o", "five.svg")
    text = (tmp_path / "five.svg").read_text()
    assert "own, found by adam (n=2)" in text
    assert "own, adam" not in text
    assert "own, adam" in cockpit("plot", "five", "--target", "digits-a").stdout


def test_ratios_on_the_terminal_are_those_of_the_view(cockpit: Cockpit) -> None:
    text = cockpit("plot", "halves", "--layers", "--db", FIXTURE).stdout
    with closing(sqlite3.connect(f"file:{FIXTURE}?mode=ro", uri=True)) as connection:
        rows = connection.execute(
            "SELECT level, avg(pruned_ratio) FROM layer_ratios WHERE experiment = 'halves' AND target = 'digits-a'"
            " AND level > 0 GROUP BY level, layer ORDER BY level, layer"
        ).fetchall()
    table = [line.split() for line in text.splitlines() if re.match(r" +\d +\d+\.\d\d ", line)]
    shown = [(int(line[0]), ratio) for line in table for ratio in line[2:]]
    assert shown == [(level, f"{ratio:.3f}") for level, ratio in rows]
    assert "\x1b" not in text


def test_of_several_chains_it_is_said_first_that_a_scope_is_missing(cockpit: Cockpit, tmp_path: Path) -> None:
    add(tmp_path / "experiments.db", "five", target=["digits-a"], optimizer=["sgd", "adam"])
    refused = cockpit("figure", "five", "--layers", "-o", "x.png")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "five has no layerwise scope: `cockpit queue extend five --scope layerwise` adds it" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("halves", "-o", "x.gif"), "unknown form of figures 'gif': choose from png, svg, pdf"),
        (("halves", "-o", "x.png", "--y", 0.9, 0.2), "--y 0.9 0.2 is not a range of accuracies"),
        (("halves", "-o", "x.png", "--x", "level"), "unknown --x 'level': choose from remaining, pruned, log-pruned"),
        (("halves", "-o", "x.png", "--layers", "--ratio", "kept"), "unknown --ratio 'kept'"),
        (("halves", "-o", "x.png", "--ratio", "kept"), "unknown --ratio 'kept'"),
        (("halves", "-o", "x.png", "--layers", "--target", "digits-a"), "--target applies only to curves"),
        (("halves", "-o", "x.png", "--layers", "--no-inset"), "--no-inset applies only to curves"),
        (("halves", "-o", "x.png", "--label", "own"), "--label own has no '=': give CURVE=TEXT"),
        (("halves", "-o", "x.png", "--label", "digits-b dens=own"), "did you mean 'digits-b dense'"),
        (("halves", "-o", "no/x.png"), "folder no for x.png does not exist"),
        (("later", "-o", "x.png", "--layers"), "later has no layerwise scope"),
        (("halvs", "-o", "x.png"), "did you mean 'halves'"),
    ],
)
def test_what_cannot_be_drawn_is_one_line_and_nothing_is_written(
    cockpit: Cockpit, tmp_path: Path, arguments: tuple[object, ...], message: str
) -> None:
    found = cockpit("figure", *arguments, "--db", FIXTURE)
    assert (found.returncode, found.stdout) == (2, "")
    assert message in found.stderr
    assert len(found.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_figure_of_hostile_names_shows_them_as_text(cockpit: Cockpit, tmp_path: Path) -> None:
    for name in hostile(tmp_path / "experiments.db"):
        found = cockpit("figure", name, "--curves", "-o", "drawn.svg")
        assert "Traceback" not in found.stderr
    with closing(sqlite3.connect(tmp_path / "experiments.db")) as connection, connection:
        connection.execute("UPDATE experiments SET name = '_$x^{$ _'  WHERE name = ?", (NAMES[0],))
        connection.execute("UPDATE experiment_curves SET title = '_$\\frac{' || id")
    assert cockpit("figure", "_$x^{$ _", "--curves", "-o", "drawn.svg").returncode == 0
    text = (tmp_path / "drawn.svg").read_text()
    ElementTree.fromstring(text)
    assert "_$x^{$ _" in text
    assert "_$\\frac{" in text


def test_the_dense_rule_lies_under_the_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = drawn_axes(copied(FIXTURE, tmp_path), monkeypatch)
    lines = {str(line.get_label()).split(" (")[0]: line for line in drawn.get_lines()}
    over = [line.get_zorder() for name, line in lines.items() if name != "dense"]
    assert lines["dense"].get_zorder() < min(over)
    assert {line.get_linestyle() for line in lines.values()} <= {"-", "None"}


def test_title_labels_and_inset_are_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = copied(FIXTURE, tmp_path)
    curve = "digits-b random-global"
    plain = drawn_axes(copy, monkeypatch, y=(0.9, 0.96))
    chosen = drawn_axes(
        copy, monkeypatch, y=(0.9, 0.96), title="My = title", label=[f"{curve}=by = chance"], no_inset=True
    )
    assert (len(plain.child_axes), len(chosen.child_axes)) == (1, 0)
    assert chosen.get_title().splitlines()[0] == "My = title"
    assert plain.get_title().splitlines()[1:] == chosen.get_title().splitlines()[1:]
    names = [name for axes in (plain, chosen) for name in axes.get_legend_handles_labels()[1]]
    half = len(names) // 2
    changed = [pair for pair in zip(names[:half], names[half:], strict=True) if pair[0] != pair[1]]
    assert [new for _, new in changed] == ["by = chance (n=2)"]
    assert drawn_axes(copy, monkeypatch, title="").get_title().startswith("differs")
    assert drawn_axes(copy, monkeypatch, layers=True, title="Ratios").get_title().startswith("Ratios")
