"""Linear mode connectivity: two trainings of one ticket, the line between them, and the error on it."""

import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.analysis import barriers
from engine.analysis.comparing import compare
from engine.analysis.statistics import Mean
from engine.datasets import load
from engine.datasets.pipeline import Data
from engine.errors import InputError
from engine.models import nets
from engine.plan.defining import define, extended
from engine.plan.experiments import curves
from engine.recipes import Line, Run, Winning
from engine.store import database, exports, merge, queue, records, sides
from engine.store.files import Folder
from tests import inprocess
from tests.conftest import TINY, add, work_off
from tests.databases import checked, exported, silently
from tests.trainings import files

CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("exact_on_cpu")
OPTIONS: dict[str, Any] = {"target": ["digits-a"], "random": ["none"], "levels": 1, "replicates": 2, "epochs": 2}


@pytest.fixture(scope="module")
def connected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain of one level and two replicates, with each ticket trained in two more orders."""
    path = tmp_path_factory.mktemp("connected") / "experiments.db"
    add(path, "mine", **OPTIONS, connect=5, augmentation="crop", prune_rate=0.5)
    work_off(path)
    return path


def test_the_ends_of_a_line_start_from_one_ticket_and_see_two_orders() -> None:
    found = {curve.ticket: curve for curve in curves(define(**{**TINY, **OPTIONS, "connect": 5}))}
    for one, other, line in zip(*(found[kind].points for kind in ("order-1", "order-2", "line")), strict=True):
        assert isinstance(line.run.ticket, Line)
        assert line.run.needs() == line.run.ticket.ends == (one.run, other.run)
        assert isinstance(one.run.ticket, Winning)
        assert one.run.ticket == other.run.ticket == line.run.ticket.chain.ticket(line.level)
        assert [run.training.data_seed for run in (one.run, other.run)] == [
            1000 + one.replicate,
            2000 + one.replicate,
        ]
        assert not one.run.is_link
        assert Run.from_json(line.run.to_json()) == line.run


def test_the_error_along_a_line_is_that_of_networks_mixed_by_hand_in_float64(connected: Path) -> None:
    found = exported(connected, "lines", "mine")
    assert len(found) == 2 * 2 * 5
    with files(connected) as read, closing(database.reader(connected)) as connection:
        for level in (0, 1):
            own = [row for row in found if row["level"] == level and row["replicate"] == 1]
            query = "SELECT recipe FROM runs WHERE ticket = 'line' AND level = ? AND seed = 1"
            run = Run.from_json(connection.execute(query, (level,)).fetchone()[0])
            assert isinstance(run.ticket, Line)
            first, second = (torch_state(read(end, "final")) for end in run.ticket.ends)
            assert any(not torch.equal(first[name], second[name]) for name in first)
            data = Data(load.load("digits-a", ""), run.training, CPU)
            plain = load.load("digits-a", "")
            for number, row in enumerate(own):
                at = number / 4
                assert row["position"] == at
                model = nets.build("vgg-digits", 0.25, (1, 8, 8), 10).double().eval()
                mixed = {k: (1 - at) * v.double() + at * second[k].double() for k, v in first.items()}
                model.load_state_dict({k: v.long() if "num" in k else v for k, v in mixed.items()})
                for part, images, labels in (
                    ("train", plain.train_images, plain.train_labels),
                    ("test", plain.test_images, plain.test_labels),
                ):
                    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).double()
                    with torch.no_grad():
                        logits = model((pixels - data.mean.double()) / data.std.double())
                    target = torch.from_numpy(labels)
                    loss = -logits.log_softmax(1)[torch.arange(len(target)), target].mean()
                    assert row[f"{part}_accuracy"] == float((logits.argmax(1) == target).double().mean())
                    assert row[f"{part}_loss"] == pytest.approx(float(loss), rel=1e-4)


def torch_state(data: bytes) -> dict[str, torch.Tensor]:
    from safetensors.torch import load as unpacked

    return unpacked(data)


def test_a_barrier_is_the_highest_error_above_the_mean_of_the_ends(connected: Path) -> None:
    found = exported(connected, "lines", "mine")
    with closing(database.reader(connected)) as connection:
        for one in barriers.read(connection, "mine"):
            for part, (mean, std) in (("train", one.train), ("test", one.test)):
                heights = []
                for replicate in (0, 1):
                    own = [r for r in found if (r["level"], r["replicate"]) == (one.level, replicate)]
                    errors = [1 - row[f"{part}_accuracy"] for row in own]
                    heights.append(max(errors) - (errors[0] + errors[-1]) / 2)
                assert mean == pytest.approx(sum(heights) / 2, abs=1e-12)
                assert std == pytest.approx(abs(heights[0] - heights[1]) / 2**0.5, abs=1e-12)
            assert one.n == 2


def test_a_line_is_a_run_whose_accuracy_is_the_least_on_it(connected: Path) -> None:
    assert not any(checked(connected).errors.values())
    with closing(database.reader(connected)) as connection:
        query = "SELECT id, level, seed, test_accuracy, test_epoch, epochs FROM runs WHERE ticket = 'line'"
        for run, level, seed, accuracy, epoch, epochs in connection.execute(query).fetchall():
            own = [
                row["test_accuracy"]
                for row in exported(connected, "lines", "mine")
                if (row["level"], row["seed"]) == (level, seed)
            ]
            assert (accuracy, epoch, epochs) == (min(own), None, 0)
            assert connection.execute("SELECT count(*) FROM epochs WHERE run_id = ?", (run,)).fetchone()[0] == 0


def test_the_ticket_of_a_line_is_the_chains(connected: Path) -> None:
    with closing(database.reader(connected)) as connection:
        names = ("mine:global", "mine:digits-a -> digits-a line")
        homes = [exports.of_run(connection, exports.run_of(connection, name, 1, 0)).run for name in names]
        assert homes[0] == homes[1]
        folder = Folder(database.files_folder(connected))
        chain, line = (sides.find(connection, name) for name in names)
        compared = compare(connection, folder, chain, line, 1)
    assert compared.total.overlap == Mean(1.0, 0.0, 2)


def test_lines_come_along_in_a_merge(connected: Path, tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    with closing(database.writer(path)) as connection:
        merge.merge(connection, path, connected, silently)
    assert exported(path, "lines", "mine") == exported(connected, "lines", "mine")


def test_only_the_ends_of_lines_keep_their_final_weights_unless_all_are_asked_for(
    connected: Path, tmp_path: Path
) -> None:
    def keeping(path: Path) -> set[tuple[str, int]]:
        query = "SELECT ticket, level FROM runs JOIN files ON run_id = runs.id WHERE kind = 'final'"
        with closing(database.reader(path)) as connection:
            return {(row[0], row[1]) for row in connection.execute(query)}

    assert keeping(connected) == {("dense", 0), ("winning", 0), ("winning", 1)}
    path = tmp_path / "experiments.db"
    add(path, "other", **{**OPTIONS, "replicates": 1, "random": ["global"], "epochs": 1}, keep="final")
    work_off(path)
    assert keeping(path) == {("dense", 0), ("winning", 1), ("random-global", 0), ("random-global", 1)}


def test_a_line_whose_end_was_lost_has_that_trained_again(connected: Path, tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    add(path, "mine", **{**OPTIONS, "levels": 0, "replicates": 1}, connect=3)
    with closing(database.writer(path)) as connection:
        connection.execute("UPDATE experiments SET state = 'active'")
    work_off(path)
    before = exported(path, "lines", "mine")
    with closing(database.writer(path)) as connection:
        query = "SELECT digest FROM runs WHERE ticket = 'winning'"
        for (digest,) in connection.execute(query).fetchall():
            stored = records.file_of(connection, digest, "final")
            (database.files_folder(path) / "tickets" / f"{stored}.safetensors").unlink()
        connection.execute("UPDATE runs SET status = 'waiting' WHERE ticket = 'line'")
    work_off(path)
    assert exported(path, "lines", "mine") == before


def test_lines_are_added_to_an_experiment_once() -> None:
    plain = define(**{**TINY, **OPTIONS})
    wider = extended(plain, connect=7)
    assert {c.ticket for c in curves(wider)} - {c.ticket for c in curves(plain)} == {"order-1", "order-2", "line"}
    with pytest.raises(InputError, match="connect 9 is not the 7 that are there: extend only adds"):
        extended(wider, connect=9)
    with pytest.raises(InputError, match="connect 2 leaves no network between the ends: give 3 or more"):
        define(**{**TINY, "connect": 2})


def test_connect_queues_once_then_shows_and_draws_what_was_found(
    connected: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(connected, "mine.db")
    code, out, err = inprocess.run("connect", "mine", "--json", "-o", "mine.svg", "--db", "mine.db")
    assert (code, err) == (0, "wrote mine.svg\n")
    with closing(database.reader(connected)) as connection:
        found = barriers.read(connection, "mine")
    assert [(one["level"], one["test"]["mean"], one["train"]["std"]) for one in json.loads(out)] == [
        (one.level, one.test.mean, one.train.std) for one in found
    ]
    assert "error barrier" in Path("mine.svg").read_text()
    code, out, err = inprocess.run("connect", "mine", "--points", "7", "--db", "mine.db")
    assert (code, out) == (2, "")
    assert "--connect 7 is not the 5 that are there: extend only adds" in err
    add(Path("other.db"), "other", **OPTIONS)
    code, out, err = inprocess.run("connect", "other", "--db", "other.db")
    assert (code, out) == (0, "")
    assert "12 new" in err
    assert "4 lines left: train them with `cockpit work --drain" in err
    with closing(database.reader(Path("other.db"))) as connection:
        assert queue.definition_of(connection, 1).connect == 31
    code, out, err = inprocess.run("connect", "other", "-o", "other.svg", "--db", "other.db")
    assert code == 2
    assert "has no line yet, so nothing can be drawn" in err
