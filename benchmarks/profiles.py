"""`fast` against `exact`: accuracy and masks of the same chains by level, and the effect of another order of images."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from msgspec import structs
from torch import Tensor

from benchmarks.measuring import CPU, Rows
from engine.analysis.statistics import mean_of, paired
from engine.datasets import load
from engine.datasets.load import Arrays
from engine.datasets.npz import file_digest
from engine.datasets.pipeline import Data
from engine.models import nets
from engine.pruning import pruner
from engine.recipes import Chain, Profile, Rule, Run, Training
from engine.tickets import starts
from engine.training import loop, profiles

OTHER_ORDER = 1_000  # added to the seed of the images' order and crops, not to that of the weights


@dataclass(frozen=True)
class Study:
    """A study: the numbers of levels, seeds and images (None: all) of its chains."""

    recipe: Training
    rate: float
    levels: int
    replicates: int
    train_images: int | None = None
    test_images: int | None = None


DIGITS = Study(
    Training(
        dataset="digits",
        model="vgg-digits",
        learning_rate=0.1,
        epochs=8,
        milestones=(4, 6),
        batch_size=64,
        augmentation="crop",
        profile="exact",
        seed=0,
    ),
    rate=0.25,
    levels=12,
    replicates=6,
)
CIFAR = Study(
    Training(
        dataset="npz",
        model="vgg11",
        width=0.25,
        learning_rate=0.1,
        epochs=5,
        milestones=(3, 4),
        batch_size=64,
        augmentation="crop-flip",
        profile="exact",
        seed=0,
    ),
    rate=0.5,
    levels=4,
    replicates=3,
    train_images=2_000,
    test_images=1_000,
)


@dataclass(frozen=True)
class Level:
    """The result of a chain's run: its accuracy in [0, 1], and its mask (N,)."""

    accuracy: float
    layers: Sequence[Tensor]


def measure(quick: bool, images: Path | None = None) -> dict[str, float | Rows]:
    """A table for the digits and, with a file of `images`, one for a subset of these."""
    found: dict[str, float | Rows] = {}
    for name, arrays, whole in _studies(images):
        study = _less(whole) if quick else whole
        found[f"{name}, {study.recipe.model}, {study.replicates} replicates"] = _compare(_cut(arrays, study), study)
    return found


def _studies(images: Path | None) -> Iterator[tuple[str, Arrays, Study]]:
    yield "digits", load.load("digits", ""), DIGITS
    if images is None:
        print("without --images NPZ only the digits are trained on", file=sys.stderr)
    else:
        yield images.stem, load.load(f"npz:{file_digest(images)}", str(images)), CIFAR


def _less(study: Study) -> Study:
    recipe = structs.replace(study.recipe, epochs=2, milestones=())
    return replace(study, recipe=recipe, levels=2, replicates=2, train_images=300, test_images=200)


def _cut(arrays: Arrays, study: Study) -> Arrays:
    """The first training and test images of a study, with the classes in their shares."""
    some = slice(study.test_images)
    arrays = load.cut(arrays, str(study.train_images or ""))
    return replace(arrays, test_images=arrays.test_images[some], test_labels=arrays.test_labels[some])


def _compare(arrays: Arrays, study: Study) -> Rows:
    """A row per level: accuracies in %, differences with 95 % intervals, and Jaccard overlaps of masks."""
    chains: dict[str, dict[int, list[Level]]] = {"exact": {}, "fast": {}, "other order": {}}
    for seed in range(study.replicates):
        chains["exact"][seed] = list(_chain(arrays, study, "exact", seed))
        chains["fast"][seed] = list(_chain(arrays, study, "fast", seed))
        chains["other order"][seed] = list(_chain(arrays, study, "exact", seed, OTHER_ORDER))
    return [_row(level, chains, study) for level in range(study.levels + 1)]


def _chain(arrays: Arrays, study: Study, profile: Profile, seed: int, reordered: int = 0) -> Iterator[Level]:
    """Section 3.1: train, prune, rewind to the end of epoch 1, repeat, as `engine.workers.run` does with files."""
    recipe = structs.replace(study.recipe, profile=profile, seed=seed)
    chain = Chain(recipe, Rule(rate=study.rate))
    ordered = structs.replace(recipe, seed=seed + reordered)
    profiles.configure(profile, CPU)
    data = Data(arrays, recipe, CPU)
    files: dict[tuple[str, str], bytes] = {}

    def read(run: Run, kind: str) -> bytes:
        return files[run.digest, kind]

    for level in range(study.levels + 1):
        run = chain.run(level)
        state = loop.begin(*starts.start(run, data.shape, data.classes, read), recipe, CPU)
        for epoch in loop.train(state, data, ordered, lambda _: None):
            if level == 0 and epoch.epoch + 1 == chain.rule.rewind:
                files[run.digest, "rewind"] = starts.pack_state(state.model)
        yield Level(epoch.test_accuracy, [mask.flatten() for mask in state.masks.values()])
        if level == 0:
            files[run.digest, "final"] = starts.pack_state(state.model)
        else:
            masks = pruner.prune(nets.prunable(state.model), state.masks, chain.rule, level + 1)
            files[run.digest, "mask"] = starts.pack_masks(masks, chain, level + 1)


def _row(level: int, chains: Mapping[str, Mapping[int, Sequence[Level]]], study: Study) -> dict[str, float]:
    at = {kind: {seed: levels[level] for seed, levels in found.items()} for kind, found in chains.items()}
    percents = {kind: {seed: 100 * one.accuracy for seed, one in found.items()} for kind, found in at.items()}
    row = {"level": float(level), "remain %": 100 * Rule(rate=study.rate).fraction(level)}
    for kind in ("exact", "fast"):
        mean = mean_of(percents[kind].values())
        assert mean is not None
        assert mean.std is not None
        row |= {f"{kind} %": mean.mean, f"{kind} std": mean.std}
    for kind in ("fast", "other order"):
        difference = paired(percents[kind], percents["exact"], possible=100.0)
        assert difference is not None
        assert difference.high is not None
        row |= {f"{kind} - exact": difference.mean, f"{kind} ±": difference.high - difference.mean}
    pairs = {kind: [(one.layers, at["exact"][seed].layers) for seed, one in at[kind].items()] for kind in at}
    row |= {f"{kind} overlap": fmean(_overlap(*pair) for pair in pairs[kind]) for kind in ("fast", "other order")}
    return {**row, "by chance": fmean(_chance(*pair) for pair in pairs["fast"])}


def _overlap(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """The Jaccard index of two masks: the weights that both keep over those that either keeps."""
    both = sum(int((x & y).sum()) for x, y in zip(a, b, strict=True))
    either = sum(int((x | y).sum()) for x, y in zip(a, b, strict=True))
    return both / either


def _chance(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """The expected Jaccard index of random masks that keep the same number of each layer's weights."""
    both = [int(x.sum()) * int(y.sum()) / len(x) for x, y in zip(a, b, strict=True)]
    kept = sum(int(x.sum()) + int(y.sum()) for x, y in zip(a, b, strict=True))
    return sum(both) / (kept - sum(both))
