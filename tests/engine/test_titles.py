"""Display names of data sets and curves, and their merging."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from engine.errors import InputError
from engine.store import database, queue, titles
from engine.store.merge import merge
from tests.conftest import add

CURVE = "digits-b random-global"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    add(tmp_path / "experiments.db", "tiny")
    return tmp_path / "experiments.db"


def digests(connection: sqlite3.Connection) -> list[str]:
    return [row[0] for row in connection.execute("SELECT digest FROM runs ORDER BY id")]


def test_a_display_name_is_that_of_all_parts_and_of_no_run(connection: sqlite3.Connection) -> None:
    before = digests(connection)
    assert titles.name_data(connection, "digits-a", "Handwriting").changed
    assert titles.of_data(connection, "tiny") == {"digits-a": "Handwriting", "digits-b": "Handwriting"}
    assert not titles.name_data(connection, "digits", " Handwriting ").changed
    assert digests(connection) == before
    titles.name_data(connection, "digits", "")
    assert titles.of_data(connection, "tiny") == {}


def test_a_curve_is_renamed_hidden_and_shown_again(connection: sqlite3.Connection) -> None:
    experiment = queue.experiment_id(connection, "tiny")
    titles.edit_curve(connection, experiment, CURVE, title="chance", hidden=True)
    found = titles.of_curves(connection, "tiny")[CURVE]
    assert (found.title, found.is_hidden) == ("chance", True)
    assert not titles.edit_curve(connection, experiment, CURVE, hidden=True).changed
    titles.edit_curve(connection, experiment, CURVE, title="", hidden=False)
    found = titles.of_curves(connection, "tiny")[CURVE]
    assert (found.title, found.is_hidden) == (None, False)


@pytest.mark.parametrize("title", ["x" * 41, "two\nlines", "\x1b[31m"])
def test_a_name_that_is_no_short_line_is_refused(connection: sqlite3.Connection, title: str) -> None:
    with pytest.raises(InputError, match="give 1 to 40 printable characters"):
        titles.name_data(connection, "digits", title)


def test_an_unknown_curve_is_refused_with_the_nearest(connection: sqlite3.Connection) -> None:
    with pytest.raises(InputError, match=f"did you mean '{CURVE}'"):
        titles.edit_curve(connection, queue.experiment_id(connection, "tiny"), CURVE[:-1], title="x")


def test_planned_levels_are_known_before_any_has_results(connection: sqlite3.Connection) -> None:
    plans = {name: found.plan for name, found in titles.of_curves(connection, "tiny").items()}
    assert plans[CURVE][0] == 1.0
    assert len(plans[CURVE]) > 1
    assert list(plans[CURVE]) == sorted(plans[CURVE], reverse=True)


def test_a_merge_brings_names_along_and_keeps_ones_own(path: Path, tmp_path: Path) -> None:
    here = tmp_path / "here.db"
    add(here, "other", source=["digits-b"], target=["digits-a"], seed=9)
    with closing(database.writer(path)) as there:
        titles.name_data(there, "digits", "Theirs")
        titles.edit_curve(there, queue.experiment_id(there, "tiny"), CURVE, title="chance", hidden=True)
    with closing(database.writer(here)) as connection:
        merge(connection, here, path, lambda *_: None)
        assert titles.of_data(connection, "other")["digits-a"] == "Theirs"
        found = titles.of_curves(connection, "tiny")[CURVE]
        assert (found.title, found.is_hidden) == ("chance", True)
        titles.name_data(connection, "digits", "Ours")
        merge(connection, here, path, lambda *_: None)
        assert titles.of_data(connection, "other")["digits-a"] == "Ours"
