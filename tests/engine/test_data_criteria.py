"""Criteria that use a network and images, against their papers' formulas, and the masks of runs with them."""

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from engine.datasets import load
from engine.datasets.pipeline import Data
from engine.errors import InputError
from engine.models import nets
from engine.plan.defining import define
from engine.plan.experiments import curves
from engine.pruning import pruner
from engine.pruning.criteria import CRITERIA, OF_IMAGES, ROUNDS, needs_weights_alone
from engine.pruning.networks import Network
from engine.recipes import Chain, Rule, Run
from engine.store import database, exports, records
from engine.store.files import Folder
from engine.store.leases import Claim
from engine.tickets import starts
from engine.training import checkpoints, loop, profiles
from tests.conftest import TINY, add, work_off
from tests.trainings import TRAINING, files

CPU = torch.device("cpu")
SHORT = replace(TRAINING, width=0.25, epochs=2, milestones=(1, 2))
TARGET = replace(SHORT, dataset="digits-b")
Floats = NDArray[np.float64]
STEP = 1e-4


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    profiles.configure("exact", CPU)  # several threads are far slower for small tensors


def small(seed: int = 0) -> nn.Sequential:
    """A smooth network in float64, so that differences give its derivatives."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 1, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4, 3)).double()


LAYERS = ["0.weight", "3.weight"]
DRAW = torch.Generator().manual_seed(1)
IMAGES = torch.randn(10, 1, 4, 4, generator=DRAW, dtype=torch.float64)
LABELS = torch.arange(10) % 3


def batches() -> Iterator[tuple[Tensor, Tensor]]:
    yield IMAGES[:5], LABELS[:5]
    yield IMAGES[5:], LABELS[5:]


def network(model: nn.Module | None = None, masks: pruner.Masks | None = None) -> Network:
    found = Network(model or small(), LAYERS, (1, 4, 4), batches)
    found.mask(masks or {})
    return found


def loss(weights: Floats, model: nn.Module, batch: tuple[Tensor, Tensor], temperature: float) -> float:
    """The mean cross-entropy, written out, with these weights of all layers in place of the network's."""
    nn.utils.vector_to_parameters(torch.from_numpy(weights), [model.get_parameter(name) for name in LAYERS])
    with torch.no_grad():
        logits = model(batch[0]).numpy() / temperature
    rows = np.arange(len(logits))
    return float((np.log(np.exp(logits).sum(1)) - logits[rows, batch[1].numpy()]).mean())


def slope(weights: Floats, left: Floats, of: Callable[[Floats], float]) -> Floats:
    """The gradient by central differences; 0 where a weight is pruned."""
    found = np.zeros_like(weights)
    for place in np.flatnonzero(left):
        step = np.zeros_like(weights)
        step[place] = STEP
        found[place] = (of(weights + step) - of(weights - step)) / (2 * STEP)
    return found


def snip(weights: Floats, left: Floats, losses: list[Callable[[Floats], float]]) -> Floats:
    return np.abs(weights * sum(slope(weights, left, of) for of in losses))


def taylor(weights: Floats, left: Floats, losses: list[Callable[[Floats], float]]) -> Floats:
    return np.asarray(sum(np.abs(weights * slope(weights, left, of)) for of in losses))


def grasp(weights: Floats, left: Floats, losses: list[Callable[[Floats], float]]) -> Floats:
    """Half of how much the squared norm of the gradient grows along the weight, which is (H g) x weight."""

    def norm(at: Floats) -> float:
        return float((np.sum([slope(at, left, of) for of in losses], axis=0) ** 2).sum()) / 2

    return weights * slope(weights, left, norm)


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize(
    ("criterion", "formula", "temperature"), [("snip", snip, 1.0), ("taylor", taylor, 1.0), ("grasp", grasp, 200.0)]
)
def test_scores_are_those_of_the_papers_formula(
    criterion: str, formula: Callable[..., Floats], temperature: float, pruned: bool
) -> None:
    masks = {"0.weight": torch.arange(9).view(1, 1, 3, 3) % 3 > 0, "3.weight": torch.arange(12).view(3, 4) % 4 > 0}
    looked_at = network(masks=masks if pruned else None)
    found = CRITERIA.load(criterion)({}, {}, torch.Generator(), looked_at)
    flat = np.concatenate([weight.detach().numpy().ravel() for weight in looked_at.weights.values()])
    left = np.concatenate([mask.numpy().ravel() for mask in looked_at.masks.values()])
    model = small()
    losses = [lambda at, one=one: loss(at, model, one, temperature) for one in batches()]
    expected = formula(flat, left, losses)
    scores = np.concatenate([score.detach().numpy().ravel() for score in found.values()])
    assert scores == pytest.approx(expected, rel=1e-4, abs=1e-5 * np.abs(expected).max())
    assert np.abs(expected).max() > 0


def _same(looked_at: Network) -> Network:
    return looked_at


def flow(weights: list[Floats]) -> list[Floats]:
    """Of each weight of a chain of linear layers, the sum over all paths through it, each weight without its sign."""
    absolute = [np.abs(weight) for weight in weights]
    before = [np.ones(weights[0].shape[1])]
    for weight in absolute:
        before.append(weight @ before[-1])
    after = [np.ones(len(weights[-1]))]
    for weight in reversed(absolute):
        after.insert(0, after[0] @ weight)
    return [after[n + 1][:, None] * weight * before[n][None, :] for n, weight in enumerate(absolute)]


@pytest.mark.parametrize("rate", [0.2, 0.98])
def test_synflow_prunes_in_100_rounds_by_the_sums_over_paths(rate: float) -> None:
    torch.manual_seed(2)
    body = [nn.Flatten(), nn.Linear(16, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 4)]
    model = nn.Sequential(*body)
    model.get_buffer("2.running_mean").fill_(3.0)  # on no path through the network
    names = ["1.weight", "4.weight", "6.weight"]
    weights = [model.get_parameter(name).detach().double().numpy() for name in names]
    left, sizes = np.ones(16 * 9 + 9 * 7 + 7 * 4, bool), [weight.size for weight in weights]
    masks: pruner.Masks | None = None
    for level in (1, 2):
        for done in range(1, 101):
            parts = np.split(left, np.cumsum(sizes)[:-1])
            scores = flow([w * part.reshape(w.shape) for w, part in zip(weights, parts, strict=True)])
            score = np.concatenate([one.ravel() for one in scores])
            order = sorted(np.flatnonzero(left), key=lambda place: (-score[place], place))
            left = np.zeros_like(left)
            left[order[: round(left.size * (1 - rate) ** (level - 1 + done / 100))]] = True
        final = {name: model.get_parameter(name) for name in names}
        look = Network(model, names, (1, 4, 4), lambda: pytest.fail("synflow sees no images"))
        masks = pruner.prune(
            final, masks, Rule(rate=rate, criterion="synflow"), level, final, look=partial(_same, look)
        )
        assert np.concatenate([mask.numpy().ravel() for mask in masks.values()]).tolist() == left.tolist()


@pytest.mark.parametrize("scope", ["global", "layerwise"])
@pytest.mark.parametrize("criterion", [*OF_IMAGES, *ROUNDS])
def test_exact_counts_remain_at_each_of_30_levels_ties_included(criterion: str, scope: Any) -> None:
    model = small()
    for name in LAYERS:  # few distinct values, some 0
        weight = model.get_parameter(name)
        weight.data = (weight.data * 4).round() / 4
    final = {name: model.get_parameter(name).detach().clone() for name in LAYERS}
    rule, masks = Rule(scope=scope, criterion=criterion), network(model).masks
    for level in range(1, 31):
        before = masks
        looked_at = network(model)
        masks = pruner.prune(final, before, rule, level, final, look=partial(_same, looked_at))
        pools = [[name] for name in LAYERS] if scope == "layerwise" else [LAYERS]
        for pool in pools:
            total = sum(final[name].numel() for name in pool)
            assert sum(int(masks[name].sum()) for name in pool) == round(total * 0.8**level)
        assert all(bool((before[name] | ~masks[name]).all()) for name in LAYERS)


def test_equal_scores_go_to_the_lower_index_in_every_round() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 4, bias=False))
    nn.init.constant_(model.get_parameter("1.weight"), 0.5)
    final = {"1.weight": model.get_parameter("1.weight").detach().clone()}
    look = Network(model, final, (1, 4, 4), batches)
    masks = pruner.prune(final, None, Rule(rate=0.5, criterion="synflow"), 1, final, look=partial(_same, look))
    assert masks["1.weight"].flatten().tolist() == [True] * 32 + [False] * 32


def test_what_layers_draw_is_the_same_at_every_look() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Dropout(0.5), nn.Linear(8, 3)).double()
    looked_at = Network(model, ["1.weight"], (1, 4, 4), batches)
    state = torch.get_rng_state()
    first, again = ([one.item() for one in looked_at.losses()] for _ in range(2))
    assert first == again
    assert torch.equal(torch.get_rng_state(), state)


# Runs whose masks come from data or initial weights.

OPTIONS: dict[str, Any] = {
    **TINY,
    "levels": 2,
    "replicates": 1,
    "random": ["none"],
    "prune_at": "init",
    "criterion": "snip",
    "prune_batches": 2,
}


@pytest.fixture(scope="module")
def snipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("snip") / "experiments.db"
    add(path, "snip", **OPTIONS)
    add(path, "synflow", **{**OPTIONS, "criterion": "synflow", "prune_batches": 1, "target": ["digits-a"]})
    add(path, "taylor", **{**OPTIONS, "criterion": "taylor", "prune_at": "end", "target": ["digits-a"]})
    add(path, "one shot", **{**OPTIONS, "criterion": "grasp", "levels": 1, "prune_rate": 0.98, "target": ["digits-a"]})
    work_off(path)
    return path


def chain(path: Path, experiment: str) -> Chain:
    with closing(database.reader(path)) as connection:
        query = "SELECT recipe FROM runs JOIN curve_points p ON p.run_id = runs.id JOIN experiment_curves c"
        query += (
            " ON c.id = p.curve_id JOIN experiments e ON e.id = c.experiment_id WHERE e.name = ? AND runs.level > 0"
        )
        found = Run.from_json(connection.execute(query, (experiment,)).fetchone()[0]).chain
        statuses = {row[0] for row in connection.execute("SELECT status FROM runs")}
    assert statuses == {"done"}
    assert found is not None
    return found


@pytest.mark.parametrize(("experiment", "state"), [("snip", "rewind"), ("taylor", "final")])
def test_the_masks_of_a_chain_are_those_of_its_weights_and_first_batches(
    snipped: Path, experiment: str, state: str
) -> None:
    links = chain(snipped, experiment)
    t = links.training
    data = Data(load.load(t.dataset, ""), t, CPU)
    pixels = [batch for batch, _ in zip(data.epoch(t.seed, 0, 0, t.batch_size), range(2), strict=False)]
    with files(snipped) as read:
        model = nets.build(t.model, t.width, (1, 8, 8), 10)
        model.load_state_dict(starts.unpack_state(read(links.run(0), state)))
        model.train()
        layers = nets.prunable(model)
        slopes = []
        for images, labels in pixels:
            value = F.cross_entropy(model(data.normalised(images, torch.contiguous_format)), labels)
            slopes.append(torch.autograd.grad(value, list(layers.values())))
        parts = [[(w * g).detach() for w, g in zip(layers.values(), one, strict=True)] for one in slopes]
        of = [sum(one).abs() if experiment == "snip" else sum(p.abs() for p in one) for one in zip(*parts, strict=True)]
        flat = torch.cat([score.flatten() for score in of])
        kept = torch.zeros_like(flat, dtype=torch.bool)
        kept[flat.argsort(descending=True, stable=True)[: round(0.8 * len(flat))]] = True
        found = starts.unpack_masks(read(*links.mask_of(1)))
        differing = int((torch.cat([mask.flatten() for mask in found.values()]) ^ kept).sum())
        assert differing <= len(kept) // 1000  # rounding differs, as sums have another order
        below = starts.unpack_masks(read(*links.mask_of(2)))
    assert sum(pruner.remaining(below).values()) == round(len(kept) * 0.64)
    assert all(bool((found[name] | ~below[name]).all()) for name in found)


def test_one_shot_prunes_to_a_sparsity(snipped: Path) -> None:
    links = chain(snipped, "one shot")
    with files(snipped) as read:
        found = starts.unpack_masks(read(*links.mask_of(1)))
    total = sum(mask.numel() for mask in found.values())
    assert sum(pruner.remaining(found).values()) == round(0.02 * total)


def test_the_same_seed_gives_the_same_masks_and_a_target_has_its_sources(snipped: Path, tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    add(path, "snip", **OPTIONS)
    work_off(path)
    links = chain(path, "snip")
    with files(path) as read, files(snipped) as there:
        for level in (1, 2):
            assert read(*links.mask_of(level)) == there(*links.mask_of(level))
        moved = starts.start(Run(links.ticket(2), TARGET), (1, 8, 8), 10, read)[1]
        own = starts.start(links.run(2), (1, 8, 8), 10, read)[1]
    assert all(torch.equal(moved[name], mask) for name, mask in own.items())


def test_a_mask_that_takes_images_is_never_made_again_from_weights_alone(snipped: Path) -> None:
    links = chain(snipped, "snip")
    with closing(database.writer(snipped)) as connection:
        folder = Folder(database.files_folder(snipped))
        assert exports._is_here(connection, folder, links.run(1))
        producer, kind = links.mask_of(1)
        kept = records.file_of(connection, producer.digest, kind)
        connection.execute("UPDATE files SET kind = 'mask-away' WHERE kind = ?", (kind,))
        assert not exports._is_here(connection, folder, links.run(1))
        connection.execute("UPDATE files SET kind = ? WHERE kind = 'mask-away'", (kind,))
        assert records.file_of(connection, producer.digest, kind) == kept
    assert not any(needs_weights_alone(Rule(criterion=name)) for name in (*OF_IMAGES, *ROUNDS))


def test_the_first_mask_of_level_1_that_is_recorded_counts(snipped: Path) -> None:
    links = chain(snipped, "snip")
    producer, kind = links.mask_of(1)
    with closing(database.writer(snipped)) as connection:
        kept = records.file_of(connection, producer.digest, kind)
        connection.execute("UPDATE runs SET status = 'running', claim = 9 WHERE digest = ?", (links.run(1).digest,))
        row = connection.execute("SELECT id, attempt FROM runs WHERE digest = ?", (links.run(1).digest,)).fetchone()
        claim = Claim(row["id"], 9, row["attempt"], links.run(1))
        records.file(connection, claim, kind, "0" * 64, 1, producer.digest, None)
        assert records.file_of(connection, producer.digest, kind) == kept
        records.file(connection, claim, kind, "0" * 64, 1, producer.digest, kept)  # the file itself is lost
        assert records.file_of(connection, producer.digest, kind) == "0" * 64
        records.file(connection, claim, kind, str(kept), 1, producer.digest, "0" * 64)
        connection.execute("UPDATE runs SET status = 'done' WHERE digest = ?", (links.run(1).digest,))


def test_a_checkpoint_of_another_mask_is_not_used() -> None:
    profiles.configure("exact", CPU)
    model = nets.initialise(nets.build("vgg-digits", 0.25, (1, 8, 8), 10), "x", 0)
    masks = pruner.prune(nets.prunable(model), None, Rule(rate=0.5), 1)
    left = checkpoints.unpack(checkpoints.pack(loop.begin(model, masks, SHORT, CPU), "0" * 64, 1, 0.0))
    assert left.fits(masks)
    other = pruner.prune(nets.prunable(model), None, Rule(rate=0.5, criterion="random"), 1)
    assert not left.fits(other)


def test_pruning_before_training_rewinds_to_the_start_unless_asked_otherwise() -> None:
    for given, expected in ((None, 0), (1, 1)):
        found = define(**{**OPTIONS, "rewind": given})
        rules = {p.run.chain.rule for c in curves(found) for p in c.points if p.run.chain and p.level}
        assert {rule.rewind for rule in rules} == {expected}
        assert {(rule.prune_at, rule.prune_batches) for rule in rules} == {("init", 2)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"criterion": "movement", "prune_batches": 1}, "criterion movement compares weights before and after"),
        ({"criterion": "synflow"}, "prune_batches 2 is not used: criterion synflow sees no images"),
        ({"criterion": "magnitude"}, "prune_batches 2 is not used: criterion magnitude sees no images"),
        ({"prune_batches": 0}, r"prune_batches 0 is out of range \(1 to 1000000\)"),
        ({"prune_at": "middle"}, "unknown prune_at 'middle': choose from end, init"),
    ],
)
def test_what_a_criterion_cannot_use_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        define(**{**OPTIONS, **options})


def test_the_new_settings_at_their_defaults_leave_no_trace() -> None:
    assert Rule(prune_at="end", prune_batches=1).text == "{}"
    rule = replace(Rule(), criterion="snip", prune_at="init", prune_batches=3)
    assert Chain(SHORT, rule).ticket(0) == Chain(SHORT, Rule()).ticket(0)
    assert Run.from_json(Chain(SHORT, rule).run(2).to_json()) == Chain(SHORT, rule).run(2)
