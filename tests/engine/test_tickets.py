"""The initial states of runs, for tickets of really trained and of small made-up chains."""

from contextlib import closing
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor

from engine.datasets import load
from engine.datasets.pipeline import Data
from engine.errors import InputError
from engine.models import nets
from engine.pruning import pruner
from engine.recipes import Chain, Dense, RandomGlobal, Rule, Run, Scope, Training, Winning
from engine.store import database
from engine.store.files import Folder, LostFile
from engine.tickets import starts, tensorfiles
from engine.training import loop, profiles
from tests.conftest import add, work_off
from tests.trainings import TRAINING, files

CPU = torch.device("cpu")
SHORT = replace(TRAINING, width=0.25, epochs=2, milestones=(1, 2))
TARGET = replace(SHORT, dataset="digits-b")


def no_files(run: Run, kind: str) -> bytes:
    raise AssertionError(f"{run.ticket} needs no {kind} file")


def start(run: Run, read: starts.Read = no_files, classes: int = 10) -> tuple[dict[str, Tensor], pruner.Masks]:
    model, masks = starts.start(run, (1, 8, 8), classes, read)
    return {name: value.clone() for name, value in model.state_dict().items()}, masks


def state_after(run: Run, epochs: int) -> dict[str, Tensor]:
    """The state of a dense run at the end of an epoch, trained here."""
    profiles.configure("exact", CPU)
    data = Data(load.load(run.training.dataset, ""), run.training, CPU)
    model, masks = starts.start(run, (1, 8, 8), 10, no_files)
    state = loop.begin(model, masks, run.training, CPU)
    if epochs:
        for epoch in loop.train(state, data, run.training, lambda _: None):
            if epoch.epoch + 1 == epochs:
                break
    return {name: value.clone() for name, value in state.model.state_dict().items()}


@pytest.mark.parametrize("scope", ["global", "layerwise"])
@pytest.mark.parametrize("target", [SHORT, TARGET])
def test_survivors_start_bit_equal_to_the_state_at_the_rewind_epoch(
    trained: Path, scope: Scope, target: Training
) -> None:
    chain = Chain(SHORT, Rule(scope=scope))
    expected = state_after(chain.run(0), 1)
    with files(trained) as read:
        state, masks = start(Run(Winning(chain, 3), target), read)
    assert set(state) == set(expected)
    assert any("running_mean" in name for name in state)
    for name, value in state.items():
        survivors = masks.get(name, torch.ones_like(value, dtype=torch.bool))
        assert torch.equal(value[survivors], expected[name][survivors]), name


@pytest.mark.parametrize("rewind", [0, 2])
def test_rewinding_goes_to_any_epoch_the_first_and_the_last_included(tmp_path: Path, rewind: int) -> None:
    path = tmp_path / "experiments.db"
    add(path, "rewinding", rewind=rewind, levels=1, replicates=1, random=["none"])
    work_off(path)
    chain = Chain(SHORT, Rule(rewind=rewind))
    expected = state_after(chain.run(0), rewind)
    with files(path) as read:
        state, _ = start(chain.run(1), read)
    for name, value in state.items():
        assert torch.equal(value, expected[name]), name


def test_recorded_layers_are_exact_and_nested_at_every_level(trained: Path) -> None:
    with closing(database.reader(trained)) as connection, files(trained) as read:
        for scope in ("global", "layerwise"):
            chain = Chain(SHORT, Rule(scope=scope))
            before: pruner.Masks | None = None
            for level in range(1, 4):
                _, masks = start(chain.run(level), read)
                rows = connection.execute(
                    "SELECT name, layers.weights_remaining FROM layers JOIN runs ON runs.id = run_id WHERE digest = ?",
                    (chain.run(level).digest,),
                )
                assert dict(map(tuple, rows)) == pruner.remaining(masks)
                if before is not None:
                    assert all(bool((before[name] | ~masks[name]).all()) for name in masks)
                before = masks


def test_pruned_weights_are_zero_in_every_file(trained: Path) -> None:
    chain = Chain(SHORT, Rule())
    with files(trained) as read:
        model, masks = starts.start(chain.run(3), (1, 8, 8), 10, read)
        state = loop.begin(model, masks, SHORT, CPU)
    tensors, _ = tensorfiles.unpack(starts.pack_state(state.model))
    for name, mask in masks.items():
        assert not tensors[name][~mask].any()
        assert bool(tensors[name][mask].all())


def test_a_mask_file_takes_one_bit_a_weight(trained: Path) -> None:
    chain = Chain(SHORT, Rule())
    with files(trained) as read:
        data = read(chain.run(1), "mask")
        masks = starts.unpack_masks(data)
    bits, _ = tensorfiles.unpack(data)
    for name, mask in masks.items():
        assert bits[name].numel() == -(-mask.numel() // 8)
        byte, bit = divmod(mask.numel() // 2, 8)
        assert bool(bits[name][byte] >> bit & 1) == bool(mask.flatten()[mask.numel() // 2])


def test_masks_read_back_as_they_were_written_whatever_their_size() -> None:
    draw = torch.Generator().manual_seed(0)
    masks = {f"layer{n}": torch.rand((n, 3, 3), generator=draw) < 0.3 for n in range(1, 20)}
    found = starts.unpack_masks(starts.pack_masks(masks, Chain(SHORT, Rule()), 1))
    assert list(found) == list(masks)
    assert all(torch.equal(found[name], mask) for name, mask in masks.items())


def test_bytes_that_are_no_ticket_file_are_refused() -> None:
    with pytest.raises(InputError, match="not a cockpit safetensors file"):
        tensorfiles.unpack(b"hello, world, this is no file")


def chain_files(rule: Rule, classes: int) -> tuple[Chain, starts.Read, dict[str, Tensor]]:
    """An untrained chain on a source of a number of classes, with files made from fresh weights."""
    chain = Chain(SHORT, rule)
    model = nets.initialise(nets.build("vgg-digits", 0.25, (1, 8, 8), classes), "source", 5, "source/head")
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer.fill_(0.5)
    masks = pruner.prune(nets.prunable(model, rule.prunable), None, rule, 3)

    def read(run: Run, kind: str) -> bytes:
        assert (run, kind) in ((chain.run(0), "rewind"), (chain.run(2), "mask"))
        return starts.pack_state(model) if kind == "rewind" else starts.pack_masks(masks, chain, 3)

    return chain, read, model.state_dict()


def test_the_output_layer_is_drawn_anew_where_class_counts_differ_the_same_at_every_level() -> None:
    chain, read, source = chain_files(Rule(), classes=26)
    state, masks = start(Run(Winning(chain, 3), TARGET), read)
    unpruned, _ = start(Run(Winning(chain, 0), TARGET), read)
    dense, _ = start(Run(Dense(1), TARGET))
    assert torch.equal(state["output.weight"], unpruned["output.weight"])
    assert torch.equal(state["output.weight"], dense["output.weight"])  # from (target seed, `head`)
    assert torch.equal(state["conv4.weight"], source["conv4.weight"])
    assert torch.equal(state["bn1.running_mean"], source["bn1.running_mean"])
    other, _ = start(Run(Winning(chain, 3), replace(TARGET, seed=1)), read)
    assert not torch.equal(state["output.weight"], other["output.weight"])
    assert "output.weight" not in masks


def test_the_output_layer_is_carried_along_where_class_counts_agree() -> None:
    chain, read, source = chain_files(Rule(), classes=10)
    state, _ = start(Run(Winning(chain, 3), TARGET), read)
    assert torch.equal(state["output.weight"], source["output.weight"])


def test_a_fresh_output_layer_is_drawn_anew_at_every_level_on_source_and_target() -> None:
    chain, read, source = chain_files(Rule(head="fresh"), classes=10)
    for training in (SHORT, TARGET):
        dense, _ = start(Run(Dense(1), training))
        for level in (0, 3):
            state, _ = start(Run(Winning(chain, level), training), read)
            assert torch.equal(state["output.weight"], dense["output.weight"])
            assert torch.equal(state["conv4.weight"], source["conv4.weight"])
    chain, read, source = chain_files(Rule(head="fresh", prunable="conv+output"), classes=10)
    state, masks = start(Run(Winning(chain, 3), TARGET), read)
    assert not torch.equal(state["output.weight"], source["output.weight"])
    assert not bool(masks["output.weight"].all())


def test_a_prunable_output_layer_is_left_out_of_the_ticket_where_class_counts_differ() -> None:
    rule = Rule(prunable="conv+output")
    chain, read, _ = chain_files(rule, classes=26)
    _, masks = start(Run(Winning(chain, 3), TARGET), read)
    assert masks["output.weight"].shape == (10, 12)
    assert bool(masks["output.weight"].all())
    chain, read, _ = chain_files(rule, classes=10)
    _, masks = start(Run(Winning(chain, 3), TARGET), read)
    assert not bool(masks["output.weight"].all())
    total = sum(mask.numel() for mask in masks.values())
    assert sum(pruner.remaining(masks).values()) == round(total * 0.8**3)


@pytest.mark.parametrize("kind", ["global", "local"])
def test_a_head_that_is_left_out_takes_no_part_in_permutations(kind: str) -> None:
    chain, read, _ = chain_files(Rule(prunable="conv+output"), classes=26)
    found = [start(Run(t, TARGET), read)[1] for t in (Winning(chain, 3), chain.random(kind, 3))]
    assert bool(found[1]["output.weight"].all())
    assert len({sum(pruner.remaining(masks).values()) for masks in found}) == 1


def test_rewinding_weights_only_leaves_batch_norm_statistics_fresh() -> None:
    chain, read, source = chain_files(Rule(rewinds="weights"), classes=10)
    state, _ = start(Run(Winning(chain, 3), TARGET), read)
    assert not state["bn1.running_mean"].any()
    assert torch.equal(state["bn1.running_var"], torch.ones(6))
    assert torch.equal(state["bn1.weight"], source["bn1.weight"])
    assert torch.equal(state["conv1.weight"], source["conv1.weight"])


@pytest.mark.parametrize("kind", ["global", "local", "preserved"])
def test_random_tickets_have_fresh_weights_under_the_mask_of_their_kind(kind: str) -> None:
    chain, read, source = chain_files(Rule(), classes=10)
    _, winning = start(Run(Winning(chain, 3), TARGET), read)
    state, masks = start(Run(chain.random(kind, 3), TARGET), read)
    dense, _ = start(Run(Dense(1), TARGET))
    for name in ("conv1.weight", "conv4.weight", "output.weight"):
        assert not torch.equal(state[name], source[name])
        assert not torch.equal(state[name], dense[name])
    same = {name: torch.equal(masks[name], winning[name]) for name in masks}
    counts = [pruner.remaining(m) for m in (masks, winning)]
    assert sum(counts[0].values()) == sum(counts[1].values())
    assert all(same.values()) == (kind == "preserved")
    assert (counts[0] == counts[1]) == (kind != "global")


@pytest.mark.parametrize("kind", ["global", "local", "preserved"])
def test_random_tickets_differ_between_replicates_and_levels(kind: str) -> None:
    chain, read, _ = chain_files(Rule(), classes=10)
    found = []
    for seed in (0, 1):
        state, masks = start(Run(chain.random(kind, 3), replace(TARGET, seed=seed)), read)
        found.append((state["conv2.weight"], masks["conv2.weight"]))
    assert not torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1]) == (kind == "preserved")
    level_0, everything = start(Run(chain.random(kind, 0), TARGET))  # needs no file
    assert not torch.equal(found[0][0], level_0["conv2.weight"])
    assert all(bool(mask.all()) for mask in everything.values())


def test_the_chainless_random_ticket_differs_between_replicates_and_levels_too() -> None:
    starts = [start(Run(RandomGlobal(level), replace(TARGET, seed=seed))) for level in (3, 4) for seed in (0, 1)]
    weights = {tuple(state["conv1.weight"].flatten().tolist()) for state, _ in starts}
    patterns = {tuple(masks["conv4.weight"].flatten().tolist()) for _, masks in starts}
    assert len(weights) == len(patterns) == 4


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    digest = folder.put(b"content")
    assert folder.put(b"content") == digest
    assert folder.get(digest) == b"content"
    place = next(tmp_path.glob("tickets/*"))
    place.write_bytes(b"other")
    with pytest.raises(LostFile, match="is damaged"):
        folder.get(digest)
    folder.put(b"content")  # writing it again repairs it
    assert folder.get(digest) == b"content"
    place.unlink()
    with pytest.raises(LostFile, match="is missing"):
        folder.get(digest)
