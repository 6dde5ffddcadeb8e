"""The records of a run besides its accuracy: losses, top-5 accuracy, accuracy before training, FLOPs."""

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from sklearn.metrics import log_loss, top_k_accuracy_score
from torch import nn

from cockpit.views import run_pages
from engine.datasets import load
from engine.datasets.pipeline import Data
from engine.models import flops, nets
from engine.recipes import Run
from engine.store import database, merge, queue, rows, run_details
from engine.tickets import starts
from engine.training import loop
from tests.conftest import add, work_off
from tests.databases import exported, silently
from tests.trainings import TRAINING, files

CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("exact_on_cpu")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain of two levels, with a fifth of the images held out and smoothed labels."""
    path = tmp_path_factory.mktemp("recorded") / "experiments.db"
    options: dict[str, Any] = {"target": ["digits-a"], "random": ["none"], "levels": 2, "replicates": 1, "epochs": 3}
    add(path, "mine", **options, validation=0.2, label_smoothing=0.1, prune_rate=0.5)
    work_off(path)
    return path


def probabilities(model: nn.Module, data: Data) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A network's outputs for the test images, in float64, and their labels."""
    ((pixels, labels),) = data.test.batches(10_000)
    images = (pixels.double() - data.mean.double()) / data.std.double()
    with torch.no_grad():
        return model.double().eval()(images).softmax(1).numpy(), labels.numpy()


def test_an_evaluation_is_what_scikit_learn_finds_in_float64() -> None:
    t = replace(TRAINING, width=0.5)
    data = Data(load.load(t.dataset, ""), t, CPU)
    state = loop.begin(nets.initialise(nets.build(t.model, t.width, data.shape, 10), "init", 0), {}, t, CPU)
    found = loop.evaluate(state, data, data.test, t, lambda _: None)
    scores, labels = probabilities(state.model, data)
    assert found.accuracy == pytest.approx((scores.argmax(1) == labels).mean(), abs=1e-12)
    assert found.top5 == pytest.approx(top_k_accuracy_score(labels, scores, k=5), abs=1e-12)
    assert found.loss == pytest.approx(log_loss(labels, scores), rel=1e-5)
    assert found.top5 is not None
    assert found.accuracy < found.top5 < 1


def test_a_label_is_among_the_first_five_as_a_sort_of_its_row_says_ties_to_the_lower_class() -> None:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randint(0, 4, (500, 12), generator=draw).float()
    labels = torch.randint(0, 12, (500,), generator=draw)
    for row, label, rank in zip(logits.tolist(), labels.tolist(), loop._rank(logits, labels).tolist(), strict=True):
        assert sorted(range(12), key=lambda one: (-row[one], one)).index(label) == rank
    assert torch.equal(loop._rank(logits, logits.argmax(1)), torch.zeros(500, dtype=torch.int64))


def test_flops_are_those_counted_by_hand() -> None:
    total, by_weight = flops.count(nets.build("conv-2", 1.0, (3, 32, 32), 10), (3, 32, 32))
    expected = {
        "conv1.weight": 2 * 9 * 3 * 64 * 32 * 32,
        "conv2.weight": 2 * 9 * 64 * 64 * 32 * 32,
        "linear1.weight": 2 * 16 * 16 * 64 * 256,
        "linear2.weight": 2 * 256 * 256,
        "output.weight": 2 * 256 * 10,
    }
    assert by_weight == expected
    assert total == sum(expected.values())


@pytest.mark.parametrize("separate", [False, True])
def test_flops_of_attention_are_those_of_its_projections(separate: bool) -> None:
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            sizes: dict[str, int] = {"kdim": 6, "vdim": 7} if separate else {}
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True, **sizes)
            self.keys, self.values = nn.Linear(8, 6), nn.Linear(8, 7)
            self.output = nn.Linear(8, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x.flatten(2)  # (N, 5 tokens, 8)
            keys, values = (self.keys(x), self.values(x)) if separate else (x, x)
            logits: torch.Tensor = self.output(self.attention(x, keys, value=values, need_weights=False)[0].mean(1))
            return logits

    _, by_weight = flops.count(Attending(), (5, 2, 4))
    projections = {name: count for name, count in by_weight.items() if name.startswith("attention")}
    inputs = {"q": 8, "k": 6, "v": 7} if separate else {"in": 3 * 8}
    assert projections == {
        "attention.out_proj.weight": 2 * 5 * 8 * 8,
        **{f"attention.{name}_proj_weight": 2 * 5 * 8 * size for name, size in inputs.items()},
    }


def test_a_run_knows_what_its_ticket_can_do_before_it_is_trained(recorded: Path) -> None:
    with files(recorded) as read, closing(database.reader(recorded)) as connection:
        for row in exported(recorded, "runs", "mine"):
            recipe = connection.execute("SELECT recipe FROM runs WHERE digest = ?", (row["digest"],)).fetchone()[0]
            run = Run.from_json(recipe)
            model, masks = starts.start(run, (1, 8, 8), 10, read)
            for name, mask in masks.items():
                model.get_parameter(name).data *= mask
            data = Data(load.load(run.training.dataset, ""), run.training, CPU)
            scores, labels = probabilities(model, data)
            assert row["untrained_accuracy"] == pytest.approx((scores.argmax(1) == labels).mean(), abs=1e-12)


def test_the_epoch_of_least_validation_loss_follows_from_the_epochs(recorded: Path) -> None:
    epochs = exported(recorded, "epochs", "mine")
    assert all(None not in (epoch["validation_loss"], epoch["test_loss"], epoch["test_top5"]) for epoch in epochs)
    for row in exported(recorded, "runs", "mine"):
        own = [epoch for epoch in epochs if epoch["digest"] == row["digest"]]
        least = min(own, key=lambda epoch: (epoch["validation_loss"], epoch["epoch"]))
        assert row["least_validation_loss_epoch"] == least["epoch"]


def test_the_flops_that_remain_are_those_of_the_weights_that_do(recorded: Path) -> None:
    total, by_weight = flops.count(nets.build("vgg-digits", 0.25, (1, 8, 8), 10), (1, 8, 8))
    layers = exported(recorded, "layers", "mine")
    for row in exported(recorded, "runs", "mine"):
        expected = float(total)
        for layer in (one for one in layers if one["digest"] == row["digest"]):
            share = layer["weights_remaining"] / layer["weights_total"]
            assert layer["flops"] == by_weight[layer["name"]]
            assert layer["flops_remaining"] == pytest.approx(layer["flops"] * share)
            expected -= layer["flops"] * (1 - share)
        assert row["flops"] == total
        assert row["flops_remaining"] == pytest.approx(expected)
    assert min(row["flops_remaining"] for row in exported(recorded, "runs", "mine")) < total / 2


def test_what_is_recorded_moves_along_in_a_merge(recorded: Path, tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    with closing(database.writer(path)) as connection:
        merge.merge(connection, path, recorded, silently)
    for table in ("runs", "epochs", "layers"):
        assert exported(path, table, "mine") == exported(recorded, table, "mine")


def test_what_is_recorded_is_listed_and_shown(recorded: Path) -> None:
    with closing(database.reader(recorded)) as connection:
        dense, *_, last = rows.runs(connection, queue.experiment_id(connection, "mine"))
        detail = run_details.read(connection, last.id)
        assert detail is not None
        assert f"({last.untrained_accuracy:.2%} untrained)" in str(run_pages.heading(detail, "mine"))
        assert f"{last.flops_remaining:.2%} of the network's FLOPs remain" in str(run_pages.heading(detail, "mine"))
        told = str(run_pages.by_epoch(detail))
        for epoch in detail.epochs:
            assert f"{epoch.validation_loss:.4f}  {epoch.test_loss:.4f}".split() == [
                word for word in told.split() if word in (f"{epoch.validation_loss:.4f}", f"{epoch.test_loss:.4f}")
            ]
            assert f"{epoch.test_top5:.2%}" in told
    assert dense.flops_remaining == 1.0
    assert last.flops_remaining is not None
    assert last.flops_remaining < 0.5
    assert last.untrained_accuracy is not None
