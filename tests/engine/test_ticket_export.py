"""Ticket files: their content, faults of altered ones, and training from them elsewhere."""

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import engine
from engine.errors import InputError
from engine.plan import defining, experiments
from engine.recipes import Imported, Random, RandomGlobal, Run, Winning
from engine.results import ticket_export
from engine.store import adding, care, database, merge, queue, rows
from engine.store.files import Folder
from engine.tickets import starts, tensorfiles, ticketfiles
from tests.conftest import TINY, add, copied, work_off
from tests.databases import silently
from tests.tickets import export


@pytest.fixture
def ticket(trained: Path, tmp_path: Path) -> Path:
    """The ticket of level 2, seed 1, of the layerwise chain."""
    return export(trained, "tiny:layerwise", 2, 1, tmp_path / "ticket.safetensors")


def sound(file: Path) -> ticketfiles.Description:
    """The facts of a sound file."""
    told = ticket_export.verify(file)
    assert told.ok, told.problems
    assert told.about is not None
    return told.about


def test_a_ticket_file_is_sound_and_the_same_whoever_trained_it(trained: Path, tmp_path: Path, ticket: Path) -> None:
    told = sound(ticket)
    assert (told.level, told.seed, told.data.name) == (2, 1, "digits-a")
    kept = ticketfiles.read(ticket).kept()
    assert all(remaining == round(total * 0.8**2) for remaining, total in kept.values())  # layerwise
    transferred = "tiny:digits-a -> digits-b winning layerwise"
    assert export(trained, transferred, 2, 1, tmp_path / "other.safetensors").read_bytes() == ticket.read_bytes()


def test_a_global_ticket_keeps_exactly_its_total_and_its_runs_are_named(trained: Path, tmp_path: Path) -> None:
    told = sound(export(trained, "tiny:global", 3, 0, tmp_path / "t.safetensors"))
    assert told.weights_remaining == round(told.weights_total * 0.8**3)
    run = Run.from_json(json.dumps(told.recipe))
    assert isinstance(run.ticket, Winning)
    assert [maker.digest for maker in told.made_by] == [needed.digest for needed in run.needs()]
    assert all(maker.test_accuracy is not None for maker in told.made_by)


@pytest.mark.parametrize(
    "chain",
    [
        "tiny:global",
        "tiny:layerwise",
        "tiny:digits-a -> digits-b winning layerwise",
        "tiny:digits-b random-global",
        "tiny:digits-a -> digits-b random-local layerwise",
        "tiny:digits-a -> digits-b random-preserved global",
    ],
)
def test_all_levels_of_a_chain_are_named_as_one_chain(trained: Path, tmp_path: Path, chain: str) -> None:
    files = [export(trained, chain, level, 1, tmp_path / f"{level}.safetensors") for level in range(4)]
    assert all(ticket_export.verify(file).ok for file in files)
    found = [ticketfiles.source(f"ticket:{file}") for file in files]
    assert [[ticket.level for ticket in levels] for levels in ticketfiles.by_name(found).values()] == [[0, 1, 2, 3]]


@pytest.mark.parametrize("prunable", ["conv", "conv+output", "conv+linear"])
def test_every_level_of_a_late_rewound_chain_counts_the_same_weights(tmp_path: Path, prunable: str) -> None:
    path = tmp_path / "experiments.db"
    small = {"model": "conv-2", "target": ["digits-a"], "levels": 1, "replicates": 1, "rewind": 1}
    add(path, "narrow", **small)
    add(path, "one", **small, prunable=prunable)
    work_off(path)
    told = [sound(export(path, "one:global", level, 0, tmp_path / f"{level}.st")) for level in (0, 1)]
    assert told[0].weights_total == told[1].weights_total
    with engine.open(path) as db:
        tickets = [db.ticket("one:global", level) for level in (0, 1)]
        assert tickets[0].masks.keys() == tickets[1].masks.keys() == db.masks("one:global", 0).keys()
    total, remaining = (
        [sum(int(part(mask)) for mask in one.masks.values()) for one in tickets]
        for part in (torch.numel, torch.count_nonzero)
    )
    assert total == [told[0].weights_total] * 2
    assert remaining == [total[0], told[1].weights_remaining]


def test_the_ticket_of_a_dense_run_is_its_late_reset_state(trained: Path, tmp_path: Path) -> None:
    found = ticketfiles.read(export(trained, "tiny:global", 0, 0, tmp_path / "t.safetensors"))
    assert found.run.ticket.name == "winning"
    with closing(database.reader(trained)) as connection:
        digest, sha256 = connection.execute(
            "SELECT r.digest, f.sha256 FROM runs r JOIN files f ON f.run_id = r.id AND f.kind = 'rewind' AND r.seed = 0"
            " AND r.target = 'digits-a'"
        ).fetchone()
        rewound = starts.unpack_state(Folder(database.files_folder(trained)).get(sha256))
    assert found.about.made_by[0].digest == digest
    state, masks = starts.unpack_ticket(found.data)
    assert all(torch.equal(state[name], value) for name, value in rewound.items())
    assert all(bool(mask.all()) for mask in masks.values())


@pytest.mark.parametrize("kind", [RandomGlobal, Random])
def test_random_tickets_are_exported_and_sound(trained: Path, tmp_path: Path, kind: type) -> None:
    curve = "digits-b random-global" if kind is RandomGlobal else "digits-a -> digits-b random-preserved layerwise"
    told = sound(export(trained, f"tiny:{curve}", 3, 0, tmp_path / "t.safetensors"))
    assert told.ticket == curve.rsplit(maxsplit=1)[-1] or told.ticket == "random-preserved"


def altered(ticket: Path, change: Callable[[dict[str, Tensor], dict[str, Any]], None], *, sign: bool = True) -> Path:
    """A file with changed content, and with the right digest if `signed`."""
    tensors, about = tensorfiles.unpack(ticket.read_bytes())
    change(tensors, about)
    data = tensorfiles.pack(tensors, about)
    if sign:
        data = tensorfiles.pack(tensors, {**about, "digest": ticketfiles.content_digest(data)})
    place = ticket.with_name("altered.safetensors")
    place.write_bytes(data)
    return place


def flip_a_weight(tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    tensors["conv1.weight"].neg_()


def keep_one_more(tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    mask = tensors["mask/conv1.weight"].flatten()
    mask[(~mask).nonzero()[0]] = True


def tell_another_level(tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    about["recipe"]["ticket"]["level"] = 7


def tell_another_width(tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    about["recipe"]["training"]["width"] = 0.5


def lose_a_layer(tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    del tensors["output.weight"]


def lose_a_mask(tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    del tensors["mask/conv1.weight"]


def spoil_a_weight(tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    tensors["output.bias"][0] = torch.nan


@pytest.mark.parametrize(
    ("change", "sign", "said"),
    [
        (flip_a_weight, False, "does not have the digest"),
        (tell_another_level, False, "does not have the digest"),
        (keep_one_more, True, "conv1.weight: 36 of 54 weights remain, at level 2 35 do"),
        (tell_another_level, True, "at level 7 11 do"),
        (tell_another_width, True, r"conv1.weight is of shape \(6, 1, 3, 3\), not \(12, 1, 3, 3\)"),
        (lose_a_layer, True, "output.weight is missing"),
        (lose_a_mask, True, "conv1.weight has no mask"),
        (spoil_a_weight, True, "output.bias holds what is no finite number"),
    ],
)
def test_what_is_wrong_with_a_file_is_found(ticket: Path, change: Any, sign: bool, said: str) -> None:
    told = ticket_export.verify(altered(ticket, change, sign=sign))
    assert not told.ok
    assert any(re.search(said, problem) for problem in told.problems), told.problems


@pytest.mark.parametrize("data", [b"", b"hello, world", b"\x02\0\0\0\0\0\0\0{}", b"\x02\0\0\0\0\0\0\0[]"])
def test_what_is_no_ticket_file_is_refused_in_words(tmp_path: Path, data: bytes) -> None:
    place = tmp_path / "t.safetensors"
    place.write_bytes(data)
    with pytest.raises(InputError, match="not a cockpit ticket file"):
        ticketfiles.read(place)
    (problem,) = ticket_export.verify(place).problems
    assert problem.startswith("not a cockpit ticket file")


def test_a_file_that_is_cut_off_is_said_to_be(ticket: Path) -> None:
    data = ticket.read_bytes()
    ticket.write_bytes(data[:-1])
    said = f"cut off: only {len(data) - 1:,} of its {len(data):,} bytes are here"
    with pytest.raises(InputError, match=said):
        ticketfiles.read(ticket)
    assert [said in problem for problem in ticket_export.verify(ticket).problems] == [True]


def test_of_problems_of_one_kind_a_few_are_named(ticket: Path) -> None:
    def tell_another_model(tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
        about["recipe"]["training"]["model"] = "vgg19"

    problems = ticket_export.verify(altered(ticket, tell_another_model)).problems
    missing = [problem for problem in problems if problem.endswith("is missing, which vgg19 has")]
    assert len(missing) == 3
    assert problems[problems.index(missing[-1]) + 1] == "81 more like this"


def test_an_imported_ticket_trains_to_the_same_bits_as_where_it_was_found(trained: Path, tmp_path: Path) -> None:
    """Transferring a ticket gives the same training from its chain and from its imported file."""
    place = export(trained, "tiny:global", 3, 1, tmp_path / "t.safetensors")
    path = tmp_path / "experiments.db"
    add(path, "theirs", source=[f"ticket:{place}"], width=None, levels=None, seed=1, replicates=1)
    place.unlink()  # cockpit keeps a copy
    work_off(path)
    query = "SELECT test_accuracy FROM runs WHERE target = 'digits-b' AND level = 3 AND seed = 1 AND ticket = ?"
    query += " AND coalesce(scope, 'global') = 'global'"
    with closing(database.reader(path)) as here, closing(database.reader(trained)) as there:
        (ours,), (theirs,) = here.execute(query, ("imported",)), there.execute(query, ("winning",))
        assert tuple(ours) == tuple(theirs)
        points = {row.curve: (row.level, row.n) for row in rows.curves(here, "theirs")}
    assert sorted(points.values()) == [(0, 1), (3, 1), (3, 1)]  # dense, imported, random
    with engine.open(path) as db, pytest.raises(InputError, match="was imported"):
        db.ticket(next(run["digest"] for run in db.runs() if run["ticket"] == "imported"))


def test_an_experiment_of_a_ticket_can_be_extended_without_its_file(trained: Path, tmp_path: Path) -> None:
    place = export(trained, "tiny:global", 3, 1, tmp_path / "t.safetensors")
    path = tmp_path / "experiments.db"
    added = add(path, "theirs", source=[f"ticket:{place}"], width=None, levels=None, seed=1, replicates=1)
    place.unlink()
    with closing(database.writer(path)) as connection:
        wider = defining.extended(queue.definition_of(connection, added.experiment), replicates=2)
        assert adding.extend(connection, added.experiment, wider, "extend").new == 3
        files = connection.execute("SELECT count(*), count(DISTINCT sha256) FROM files WHERE kind = 'ticket'")
        assert tuple(files.fetchone()) == (2, 1)
        assert care.check(connection, Folder(database.files_folder(path)), silently).errors == {}


def test_a_lost_imported_file_fails_the_run_and_queueing_it_again_heals_it(trained: Path, tmp_path: Path) -> None:
    place = export(trained, "tiny:global", 3, 1, tmp_path / "t.safetensors")
    path = tmp_path / "experiments.db"
    wanted: dict[str, Any] = {
        "source": [f"ticket:{place}"],
        "width": None,
        "levels": None,
        "replicates": 1,
        "random": ["none"],
    }
    added = add(path, "theirs", **wanted)
    folder = Folder(database.files_folder(path))
    for file in folder.tickets():
        file.path.unlink()
    work_off(path)
    with closing(database.writer(path)) as connection:
        (failed,) = rows.errors(connection)
        assert "no run here can make it again" in (failed.error or "")
        add(path, "theirs", **wanted)
        queue.retry_failed(connection, added.experiment)
        work_off(path)
        assert rows.errors(connection) == []


def test_imported_files_go_along_with_backups_and_merges(trained: Path, tmp_path: Path, ticket: Path) -> None:
    path, copy, other = (tmp_path / name for name in ("experiments.db", "copy.db", "other.db"))
    cockpit_import(path, ticket)
    care.backup(path, copy, silently)
    with closing(database.writer(other)) as connection:
        merge.merge(connection, other, copy, silently)
    for place in (copy, other):
        (kept,) = Folder(database.files_folder(place)).imported()
        assert kept.read_bytes() == ticket.read_bytes()


def cockpit_import(path: Path, ticket: Path) -> None:
    command = [sys.executable, "-m", "cockpit", "tickets", "import", str(ticket), "--db", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("--source ticket:")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"target": ()}, "no target: ticket:digits-a@"),
        ({"model": "resnet20"}, "model resnet20 differs from vgg-digits, which ticket:digits-a@"),
        ({"width": 0.5}, "width 0.5 differs from 0.25, which ticket:digits-a@"),
        ({"random": ["local"]}, "needs a data set as source"),
    ],
)
def test_options_that_do_not_go_with_a_ticket_are_refused(ticket: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        defining.define(**{**TINY, "source": [f"ticket:{ticket}"], "width": None, "levels": None, **options})
    with pytest.raises(InputError, match="two files are the ticket of level 2"):
        defining.define(**{**TINY, "source": [f"ticket:{ticket}"] * 2, "width": None, "levels": None})


def test_a_recipe_of_an_imported_ticket_is_read_back() -> None:
    run = Run(Imported("ab" * 32, 4), experiments.curves(defining.define(**TINY))[0].points[0].run.training)
    assert Run.from_json(run.to_json()) == run
    assert run.needs() == ()


def test_results_are_read_from_python_without_torch(trained: Path) -> None:
    code = (
        "import sys, engine\n"
        f"with engine.open({str(trained)!r}) as db:\n"
        "    assert db.experiments() == ['tiny'] and db.curves('tiny') and db.runs() and db.records('layers')\n"
        "    assert len(db.run('tiny:global', 2)) == 64\n"
        "assert not {'torch', 'numpy', 'pandas'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_records_are_the_rows_of_the_export_and_masks_those_of_the_run(trained: Path) -> None:
    with engine.open(trained) as db:
        (point,) = [
            p for p in db.curves("tiny") if p["curve"] == "digits-a -> digits-a winning global" and p["level"] == 3
        ]
        runs = [run for run in db.runs("tiny") if run["curve"] == point["curve"] and run["level"] == 3]
        assert point["mean"] == pytest.approx(sum(run["test_accuracy"] for run in runs) / 2)
        digest = db.run("tiny:global", 3, 1)
        assert digest == runs[1]["digest"]
        masks = db.masks(digest)
        assert sum(int(mask.sum()) for mask in masks.values()) == runs[1]["weights_remaining"]
        (statistics,) = [
            one for one in db.records("statistics", "tiny") if (one["curve"], one["level"]) == (point["curve"], 3)
        ]
        assert (statistics["mean"], statistics["n"]) == (pytest.approx(point["mean"]), 2)
        with pytest.raises(InputError, match="unknown experiment 'tin'"):
            db.records("statistics", "tin")
        pandas = pytest.importorskip("pandas")
        assert isinstance(db.frame("runs"), pandas.DataFrame)


def test_records_and_frames_hold_the_last_attempt_of_each_run_or_all(trained: Path, tmp_path: Path) -> None:
    path = copied(trained, tmp_path)
    with closing(sqlite3.connect(path)) as connection, connection:
        (abandoned,) = connection.execute("SELECT min(id) FROM runs").fetchone()
        connection.execute("UPDATE runs SET attempt = 2 WHERE id = ?", (abandoned,))
        names = ", ".join(row[1] for row in connection.execute("PRAGMA table_info(epochs)") if row[1] != "attempt")
        recorded = connection.execute(
            f"INSERT INTO epochs (attempt, {names}) SELECT 2, {names} FROM epochs WHERE run_id = ?", (abandoned,)
        ).rowcount
    with engine.open(path) as db:
        last, every = (db.records("epochs", all_attempts=chosen) for chosen in (False, True))
        assert len(every) - len(last) == recorded > 0
        pytest.importorskip("pandas")
        for chosen, records in ((False, last), (True, every)):
            frame = db.frame("epochs", all_attempts=chosen)
            assert list(frame.columns) == list(records[0])
            assert frame["digest"].tolist() == [record["digest"] for record in records]
            assert frame["attempt"].tolist() == [record["attempt"] for record in records]
        assert db.frame("epochs").equals(db.frame("epochs", all_attempts=False))


def test_an_absent_database_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        engine.open(tmp_path / "none.db")
