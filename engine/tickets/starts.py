"""Tickets: the state that a run starts from, and the files that masks and states are kept in.

A mask file holds one bit a weight (packed, lowest bit first) and the layers' shapes; a state file holds a network's
parameters and batch-norm statistics. A whole chain is its masks and one late-reset state.
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

# The file of a kind that a run left (rewind, final, mask), or for an imported ticket starts from (ticket).
Read = Callable[[Run, str], bytes]
# What makes a network of a state for criteria, which prune these layers of it.
Look = Callable[[Mapping[str, Tensor], Iterable[str]], Network]
WIDEST: Prunable = "conv+linear"  # of a run that knows no rule: chains of every rule share it


def start(run: Run, shape: tuple[int, int, int], classes: int, read: Read, folder: str = "") -> tuple[nn.Module, Masks]:
    """The network and masks that `run` starts from, on the CPU; pruned weights are not yet 0.

    `shape` (channels, height, width) and `classes` are those of the target; `folder` holds the source of a person's own
    model. Sections 3.1 to 3.4 and appendix A.2.
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
            found = ticketfiles.unpack(read(run, "ticket"), digest)
            state, masks = unpack_ticket(found.data)
            carry(model, state, Rule(head=head))
            return model, _fitted(masks, nets.prunable(model, ticketfiles.rule_of(found.run).prunable))
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
    """The masks that a kind of random ticket makes of `masks` and the model's weights, and its weights in place."""
    masks, weights = kind(masks, draw, {name: model.get_parameter(name).detach().clone() for name in masks})
    for name, weight in weights.items():
        model.get_parameter(name).copy_(weight)
    return masks


def carry(model: nn.Module, state: Mapping[str, Tensor], rule: Rule) -> None:
    """Put a late-reset state into the target's freshly initialised `model`, in place.

    The output layer stays fresh where class counts differ or the rule says so (a mask of its shape holds in any case);
    batch-norm statistics stay fresh if the rule rewinds weights only.
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
    """The masks of a chain's level, permuted if asked, as they fit the target's `model`.

    A prunable output layer is left out of the ticket where class counts differ, and is then not pruned.
    """
    layers = nets.prunable(model, chain.rule.prunable)
    found = unpack_masks(read(*chain.mask_of(level))) if level else _everything(layers)
    masks = {name: found[name] for name, weight in layers.items() if found[name].shape == weight.shape}
    return _fitted(permute(masks, draw), layers)


def _fitted(masks: Masks, layers: Mapping[str, Tensor]) -> Masks:
    """`masks` for these layers: one of another shape, or without a mask, is not pruned."""
    return _everything(layers) | {
        name: mask for name, mask in masks.items() if name in layers and mask.shape == layers[name].shape
    }


def first_mask(chain: Chain, layers: Iterable[str], read: Read, look: Look | None = None) -> bytes:
    """The file of a chain's mask of level 1, pruned from what its dense run left of these layers.

    That run is shared by chains of other scopes and rates, and knows none of them. From level 1 on each link of the
    chain leaves the next mask behind.
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
    """The file of a chain's mask of `level`, pruned under the `masks` (None: all) of the level below.

    `final` are the weights at the end of that level's training, by layer, and `state` gives the network's. The rule
    says whether those or the rewound are pruned. `look` makes a network of a state for a criterion that asks for one.
    """
    rewound = unpack_state(read(chain.run(0), "rewind"))
    if chain.rule.prune_at == "end":
        weights = dict(final)
    else:
        weights, state = {name: rewound[name].to(weight.device) for name, weight in final.items()}, lambda: rewound
    network = cache(lambda: look(state(), weights)) if look else None
    kinds = network().kinds if network and chain.rule.knows_layers else None
    found = pruner.prune(weights, masks, chain.rule, level, rewound, chain.training.seed, network, kinds)
    return pack_masks(found, chain, level)


def _everything(layers: Mapping[str, Tensor]) -> Masks:
    return {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in layers.items()}


def pack_state(model: nn.Module) -> bytes:
    """A network's parameters and batch-norm statistics as a file."""
    return tensorfiles.pack(model.state_dict(), {"kind": "state"})


def unpack_state(data: bytes) -> dict[str, Tensor]:
    """What `pack_state` wrote, on the CPU."""
    return tensorfiles.unpack(data)[0]


def pack_masks(masks: Mapping[str, Tensor], chain: Chain, level: int) -> bytes:
    """The masks of a chain's ticket as a file, one bit a weight."""
    bits = {name: torch.from_numpy(np.packbits(mask.cpu().numpy(), bitorder="little")) for name, mask in masks.items()}
    shapes = [(name, list(mask.shape)) for name, mask in masks.items()]  # a list, to keep the order of the layers
    about = {"kind": "mask", "chain": chain.run(0).digest, "level": level, "shapes": shapes}
    if chain.rule.criterion in OF_IMAGES:
        about["batches"] = chain.rule.prune_batches
    return tensorfiles.pack(bits, about)


def unpack_masks(data: bytes) -> Masks:
    """What `pack_masks` wrote, in the order of the layers."""
    bits, about = tensorfiles.unpack(data)
    return {
        name: torch.from_numpy(
            np.unpackbits(bits[name].numpy(), count=int(np.prod(shape)), bitorder="little").astype(bool).reshape(shape)
        )
        for name, shape in about["shapes"]
    }


def pack_ticket(model: nn.Module, masks: Mapping[str, Tensor], about: ticketfiles.About) -> bytes:
    """A ticket as a file to take away: the network's state, unmasked, and a bool tensor a mask. See `ticketfiles`."""
    tensors = model.state_dict() | {f"{ticketfiles.MASK}{name}": mask for name, mask in masks.items()}
    content = ticketfiles.content_digest(tensorfiles.pack(tensors, to_builtins(about)))
    return tensorfiles.pack(tensors, to_builtins(structs.replace(about, digest=content)))


def unpack_ticket(data: bytes) -> tuple[dict[str, Tensor], Masks]:
    """The state and the masks that `pack_ticket` wrote."""
    tensors = tensorfiles.unpack(data)[0]
    masks = {
        name.removeprefix(ticketfiles.MASK): tensors.pop(name)
        for name in list(tensors)
        if name.startswith(ticketfiles.MASK)
    }
    return tensors, masks
