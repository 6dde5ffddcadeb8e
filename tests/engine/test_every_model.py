"""Each network through a run's steps: training, interruption and resumption, pruning, rewinding, transfer."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from torch import Tensor

from engine.datasets.load import Arrays
from engine.datasets.pipeline import Data
from engine.models import catalog, nets
from engine.pruning import pruner
from engine.recipes import Chain, Profile, Prunable, Rule, Run, Training
from engine.tickets import starts
from engine.training import checkpoints, loop, profiles
from tests.trainings import TRAINING

CPU = torch.device("cpu")
NARROW = replace(TRAINING, width=0.06, epochs=1, milestones=(), batch_size=4, learning_rate=0.01)
Left = dict[tuple[str, str], bytes]


@pytest.fixture(autouse=True)
def process_settings() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)


def noise(configuration: Training, side: int, classes: int) -> Data:
    """Eight training images, which make two steps per epoch."""
    draw = np.random.default_rng(side)
    images = draw.integers(0, 256, (8 + classes, side, side, 3), dtype=np.uint8)
    labels = np.concatenate([np.arange(8) % classes, np.arange(classes)]).astype(np.int64)
    return Data(Arrays(images[:8], labels[:8], images[8:], labels[8:], classes), configuration, CPU)


def trained(run: Run, data: Data, left: Left) -> loop.State:
    """The state at the end of a run that resumes from a checkpoint after each step; its files are in `left`."""
    profiles.configure(run.training.profile, CPU)

    def read(one: Run, kind: str) -> bytes:
        return left[one.digest, kind]

    if run.chain is not None and (key := (run.chain.run(0).digest, run.chain.mask_of(1)[1])) not in left:
        network = nets.build(run.training.model, run.training.width, data.shape, data.classes)
        left[key] = starts.first_mask(run.chain, nets.prunable(network, run.chain.rule.prunable), read)
    model, masks = starts.start(run, data.shape, data.classes, read)
    state = loop.begin(model, masks, run.training, CPU)
    if run.ticket.level == 0:
        left[run.digest, "rewind"] = starts.pack_state(model)

    def after_batch(state: loop.State) -> None:
        checkpoints.unpack(checkpoints.pack(state, run.digest, 1, 0.0)).restore(state)

    (epoch,) = loop.train(state, data, run.training, after_batch)
    assert epoch.train_loss is not None
    for name, mask in state.masks.items():
        assert not model.get_parameter(name)[~mask].any()
    left[run.digest, "final"] = starts.pack_state(model)
    return state


@pytest.mark.parametrize("name", catalog.MODELS)
@pytest.mark.parametrize(
    ("prunable", "optimizer", "profile"), [("conv", "sgd", "exact"), ("conv+linear", "adam", "fast")]
)
def test_it_is_trained_pruned_rewound_and_transferred(
    name: str, prunable: Prunable, optimizer: str, profile: Profile
) -> None:
    facts = catalog.MODELS[name]
    if facts.prunable == "conv+linear":
        prunable = facts.prunable
    source = replace(NARROW, model=name, optimizer=optimizer, profile=profile)
    side = max(facts.smallest_side, 8)
    chain, left = Chain(source, Rule(rewind=0, prunable=prunable)), Left()
    trained(chain.run(0), noise(source, side, 5), left)
    own = trained(chain.run(1), noise(source, side, 5), left)
    total = sum(mask.numel() for mask in own.masks.values())
    assert sum(pruner.remaining(own.masks).values()) == round(0.8 * total)

    target = replace(source, dataset="digits-b")
    moved = trained(Run(chain.ticket(1), target), noise(target, side, 7), left)
    head = list(own.masks)[-1]
    for layer, mask in moved.masks.items():
        if prunable == "conv+linear" and layer == head:
            assert mask.all(), "an output layer of another size is not part of the ticket"
        else:
            assert torch.equal(mask, own.masks[layer])


def started(run: Run, side: int, left: Left) -> tuple[dict[str, Tensor], pruner.Masks]:
    model, masks = starts.start(run, (3, side, side), 5, lambda one, kind: left[one.digest, kind])
    return model.state_dict(), masks


@pytest.mark.parametrize("name", ["resnet50", "vgg19"])
@pytest.mark.parametrize(("there", "here"), [(64, 32), (32, 64)])
def test_a_ticket_goes_between_large_and_small_images_both_ways(name: str, there: int, here: int) -> None:
    source, left = replace(NARROW, model=name), Left()
    chain = Chain(source, Rule(rewind=0))
    trained(chain.run(0), noise(source, there, 5), left)
    kept = trained(chain.run(1), noise(source, there, 5), left).masks
    ticket = Run(chain.ticket(1), replace(source, dataset="digits-b"))
    state, masks = started(ticket, here, left)
    assert all(torch.equal(masks[layer], mask) for layer, mask in kept.items())
    rewound = starts.unpack_state(left[chain.run(0).digest, "rewind"])
    assert all(torch.equal(state[key], value) for key, value in rewound.items())
    trained(ticket, noise(ticket.training, here, 5), left)
