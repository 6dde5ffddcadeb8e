"""The initial state of a run, and the files of masks and states.

A mask file holds one bit per weight (packed, lowest bit first) and the shapes of layers; a state file holds a network's
parameters and batch-norm statistics. A chain consists of its masks and one late-reset state.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial

import numpy as np
import torch
from msgspec import structs, to_builtins
from torch import Tensor, nn

from engine import streams
from engine.models import nets
from engine.pruning import pruner
from engine.pruning.criteria import OF_IMAGES
from engine.pruning.networks import Network
from engine.pruning.pruner import Masks
from engine.recipes import Chain, Dense, Imported, Line, Prunable, Random, RandomGlobal, Rule, Run, Winning
from engine.tickets import tensorfiles, ticketfiles
from engine.tickets.permutations import PERMUTATIONS

# Reads a file by its run and kind: rewind, final or mask, left by the run; or ticket, from which it starts.
Read = Callable[[Run, str], bytes]
# Builds a network from a state and the names of its prunable layers, for criteria.
Look = Callable[[Mapping[str, Tensor], Iterable[str]], Network]
WIDEST: Prunable = "conv+linear"  # for runs without a rule, which chains of all rules share


def start(run: Run, shape: tuple[int, int, int], classes: int, read: Read, folder: str = "") -> tuple[nn.Module, Masks]:
    """The network and masks from which `run` starts, on the CPU; pruned weights are not yet 0.

    `shape` (channels, height, width) and `classes` are the target's; `folder` has the source of a user model. Paper:
    sections 3.1 to 3.4 and appendix A.2.
    """
    ticket, t = run.ticket, run.training
    model = nets.build(t.model, t.width, shape, classes, folder)
    if isinstance(ticket, Dense | Winning | Imported | Line) or (isinstance(ticket, Random) and ticket.rewound):
        nets.initialise(model, "init", t.seed, init=t.init)
    else:
        stream = f"random/{ticket.name.removeprefix('random-')}/{ticket.level}"
        nets.initialise(model, stream, t.seed, f"{stream}/head", t.init)
    draw = streams.generator(f"random/{ticket.name.removeprefix('random-')}/{ticket.level}/mask", t.seed)
    match ticket:
        case Dense() | Random(chain=None):
            return model, _everything(nets.prunable(model, WIDEST))
        case RandomGlobal(level, rate):
            return model, pruner.random_global(nets.prunable(model), Rule(rate=rate), level, draw)
        case Winning(chain, level) | Line(chain, level):
            carry(model, unpack_state(read(*chain.weights_of(level))), chain.rule)
            return model, _from_chain(chain, level, model, read)
        case Imported(digest, _, head):
            file = ticketfiles.unpack(read(run, "ticket"), digest)
            state, masks = unpack_ticket(file.data)
            carry(model, state, Rule(head=head))
            return model, _fitted(masks, nets.prunable(model, ticketfiles.rule_of(file.run).prunable))
        case Random(kind, level, chain):
            assert chain is not None
            permute = PERMUTATIONS.load(kind)
            if ticket.rewound:
                carry(model, unpack_state(read(chain.run(0), "rewind")), chain.rule)
                permute = partial(_reweighted, model, permute)
            return model, _from_chain(chain, level, model, read, permute, draw)


@torch.no_grad()
def _reweighted(
    model: nn.Module, kind: Callable[..., tuple[Masks, Masks]], masks: Masks, draw: torch.Generator | None
) -> Masks:
    """The masks of a kind of random ticket that also takes and returns weights, which are put into the model."""
    masks, weights = kind(masks, draw, {name: model.get_parameter(name).detach().clone() for name in masks})
    for name, weight in weights.items():
        model.get_parameter(name).copy_(weight)
    return masks


def carry(model: nn.Module, state: Mapping[str, Tensor], rule: Rule) -> None:
    """Copy a late-reset state into the target's freshly initialised `model`, in place.

    The output layer stays fresh if class counts differ or the rule's `head` is fresh; a mask of its shape applies even
    then. Batch-norm statistics stay fresh if the rule rewinds weights only.
    """
    fresh, parameters = model.state_dict(), dict(model.named_parameters())
    head = nets.output_layer(model)
    keeps_head = rule.head == "auto" and state[f"{head}.weight"].shape == fresh[f"{head}.weight"].shape
    for name, value in state.items():
        if (name in parameters or rule.rewinds == "all") and (keeps_head or not name.startswith(f"{head}.")):
            fresh[name] = value
    model.load_state_dict(fresh)


def _from_chain(
    chain: Chain,
    level: int,
    model: nn.Module,
    read: Read,
    permute: Callable[[Masks, torch.Generator | None], Masks] = lambda masks, _: masks,
    draw: torch.Generator | None = None,
) -> Masks:
    """The masks of a chain's level for the target's `model`, permuted by `permute`.

    If class counts differ, a prunable output layer is not part of the ticket and is not pruned.
    """
    layers = nets.prunable(model, chain.rule.prunable)
    stored = unpack_masks(read(*chain.mask_of(level))) if level else _everything(layers)
    masks = {name: stored[name] for name, weight in layers.items() if stored[name].shape == weight.shape}
    return _fitted(permute(masks, draw), layers)


def _fitted(masks: Masks, layers: Mapping[str, Tensor]) -> Masks:
    """`masks` for these layers; a layer without a mask of its shape is not pruned."""
    return _everything(layers) | {
        name: mask for name, mask in masks.items() if name in layers and mask.shape == layers[name].shape
    }


def first_mask(chain: Chain, layers: Iterable[str], read: Read, look: Look | None = None) -> bytes:
    """The file of a chain's mask of level 1, pruned from the final weights of these layers in its dense run.

    The dense run leaves no mask, as chains of other rules share it. From level 1 on, each run of a chain leaves the
    mask of the next level.
    """
    final = unpack_state(read(chain.run(0), "final"))
    return mask_after(chain, 1, {name: final[name] for name in layers}, None, read, lambda: final, look)


def mask_after(
    chain: Chain,
    level: int,
    final: Mapping[str, Tensor],
    masks: Masks | None,
    read: Read,
    state: Callable[[], Mapping[str, Tensor]],
    look: Look | None = None,
) -> bytes:
    """The file of a chain's mask of `level`, pruned from the `masks` of the level below (None: nothing pruned).

    `final` are the weights by layer at the end of training of the level below, and `state` returns the whole state. The
    rule's `prune_at` selects these or the rewound weights. `look` builds the network for a criterion that uses one.
    """
    rewound = unpack_state(read(chain.run(0), "rewind"))
    if chain.rule.prune_at == "end":
        weights = dict(final)
    else:
        weights, state = {name: rewound[name].to(weight.device) for name, weight in final.items()}, lambda: rewound
    network = cache(lambda: look(state(), weights)) if look else None
    kinds = network().kinds if network and chain.rule.knows_layers else None
    pruned = pruner.prune(weights, masks, chain.rule, level, rewound, chain.training.seed, network, kinds)
    return pack_masks(pruned, chain, level)


def _everything(layers: Mapping[str, Tensor]) -> Masks:
    return {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in layers.items()}


def pack_state(model: nn.Module) -> bytes:
    """A network's parameters and batch-norm statistics as a file."""
    return tensorfiles.pack(model.state_dict(), {"kind": "state"})


def unpack_state(data: bytes) -> dict[str, Tensor]:
    """The state of a file of `pack_state`, on the CPU."""
    return tensorfiles.unpack(data)[0]


def pack_masks(masks: Mapping[str, Tensor], chain: Chain, level: int) -> bytes:
    """The masks of a chain's ticket as a file, one bit per weight."""
    bits = {name: torch.from_numpy(np.packbits(mask.cpu().numpy(), bitorder="little")) for name, mask in masks.items()}
    shapes = [(name, list(mask.shape)) for name, mask in masks.items()]  # a list keeps the order of the layers
    about = {"kind": "mask", "chain": chain.run(0).digest, "level": level, "shapes": shapes}
    if chain.rule.criterion in OF_IMAGES:
        about["batches"] = chain.rule.prune_batches
    return tensorfiles.pack(bits, about)


def unpack_masks(data: bytes) -> Masks:
    """The masks of a file of `pack_masks`, in the order of the layers."""
    bits, about = tensorfiles.unpack(data)
    return {
        name: torch.from_numpy(
            np.unpackbits(bits[name].numpy(), count=int(np.prod(shape)), bitorder="little").astype(bool).reshape(shape)
        )
        for name, shape in about["shapes"]
    }


def pack_ticket(model: nn.Module, masks: Mapping[str, Tensor], about: ticketfiles.About) -> bytes:
    """An exported ticket file: the network's state, unmasked, and a bool tensor for each mask (`ticketfiles`)."""
    tensors = model.state_dict() | {f"{ticketfiles.MASK}{name}": mask for name, mask in masks.items()}
    content = ticketfiles.content_digest(tensorfiles.pack(tensors, to_builtins(about)))
    return tensorfiles.pack(tensors, to_builtins(structs.replace(about, digest=content)))


def unpack_ticket(data: bytes) -> tuple[dict[str, Tensor], Masks]:
    """The state and the masks of a file of `pack_ticket`, on the CPU."""
    tensors = tensorfiles.unpack(data)[0]
    masks = {
        name.removeprefix(ticketfiles.MASK): tensors.pop(name)
        for name in list(tensors)
        if name.startswith(ticketfiles.MASK)
    }
    return tensors, masks
