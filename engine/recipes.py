"""Runs: a run is a ticket, from which training starts, and a training configuration. No torch.

A run trains one network once. Its digest is the SHA-256 of its canonical JSON, so equal descriptions are the same run.
Fields at their default are left out, so that a new setting keeps the digests of old results. The defaults are frozen
for each value of `SEMANTICS`: raise that when a change makes the same description train differently.
"""

import hashlib
import json
from functools import cached_property
from typing import Annotated, Any, Literal

import msgspec
from msgspec.structs import fields, replace

from engine.errors import InputError, quoted

SEMANTICS = 1
ORDERS_APART = 1000  # difference of the data seeds of two trainings of one ticket; at least the most replicates

Scope = Literal["global", "layerwise", "erk", "uniform+"]
Prunable = Literal["conv", "conv+output", "conv+linear"]  # each includes those before it
Kind = Literal["conv", "linear", "output"]  # of a layer; prunable weights that are no convolution count as linear
Rewinds = Literal["all", "weights"]
Schedule = Literal["restart", "continue"]
Keep = Literal["needed", "final"]  # the weights that a run leaves
Granularity = Annotated[str, msgspec.Meta(pattern="^(weight|filter|[1-9][0-9]?:[1-9][0-9]?)$")]
Retrain = Literal["rewind", "lr-rewind", "finetune"]
PruneAt = Literal["end", "init"]
Head = Literal["auto", "fresh"]
Init = Literal["xavier", "kaiming", "default"]
Profile = Literal["exact", "fast"]
BatchNorm = Literal["part", "whole"]
Augmentation = Literal["none", "crop", "crop-flip"]
# The ranges that `from_json` accepts; options allow less (`engine.plan.options`).
Level = Annotated[int, msgspec.Meta(ge=0, le=10_000)]
Epochs = Annotated[int, msgspec.Meta(ge=0, le=10**9)]
Count = Annotated[int, msgspec.Meta(ge=1, le=10**9)]
Seed = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Rate = Annotated[float, msgspec.Meta(ge=0, lt=1)]
# One rate for all layers, or as text a rate for each kind of layer (`engine.plan.rates`).
_RATE = r"(0\.[0-9]+|[0-9](\.[0-9]+)?e-[0-9]+)"
Rates = Rate | Annotated[str, msgspec.Meta(pattern=f"^conv={_RATE},linear={_RATE},output={_RATE}$")]
Size = Annotated[float, msgspec.Meta(gt=0, le=1e6)]
# A built-in name, or NAME@DISTRIBUTION==VERSION of a plug-in (`engine.machine.plugins`).
Plugin = Annotated[str, msgspec.Meta(min_length=1, max_length=300)]
Factor = Annotated[float, msgspec.Meta(ge=0)]
Betas = tuple[Rate, Rate]
Duration = Annotated[str, msgspec.Meta(pattern="^(0|[1-9][0-9]{0,8})(ep|it)$")]  # `engine.plan.durations`
# The point to which tickets are rewound: the end of an epoch, or a number of steps.
Rewind = Epochs | Annotated[str, msgspec.Meta(pattern="^[1-9][0-9]{0,8}it$")]

REWOUND = ("rewound-global", "rewound-local", "shuffled", "constant-sign")  # random tickets of a chain's weights


class BadRecipe(InputError):
    """A text that is no recipe of a run."""


class _Part(msgspec.Struct, frozen=True, dict=True):
    """A part of a run's recipe."""

    @cached_property
    def text(self) -> str:
        """Its canonical JSON, cached, because 100,000 runs share a few hundred trainings and rules."""
        kind, defaults = _LAYOUTS[type(self)]
        given = ((name, getattr(self, name), default) for name, default in defaults)
        said = [
            (name, _canonical(value))
            for name, value, default in given
            if value != default or default is msgspec.NODEFAULT
        ]
        said += [(name, _canonical(value)) for name, value in kind.items()]
        return "{" + ",".join(f'"{name}":{text}' for name, text in sorted(said)) + "}"


class Training(_Part, frozen=True, kw_only=True):
    """A training configuration with every default resolved. `dataset` is an identity, not a path.

    * `milestones` are epochs at which the learning rate is multiplied by `decay`; over `warmup` it grows from 0.
    * `momentum` and `nesterov` are for SGD, `betas` for Adam and AdamW; with other optimizers they are at their
      defaults. The defaults of these and of `decay` are the paper's (section 3).
    * `validation` is the fraction of the training set held out. If it is above 0, test accuracy is taken at the epoch
      of the best validation accuracy instead of the last.
    * `split` is the number of devices that share each batch; `batch_norm` normalises each part or the whole batch.
    * `test_images` is the number of test images used; None means all.
    * `init` is the distribution of fresh weights (`engine.models.nets.initialise`).
    * `data_seed` is the seed of the order and augmentation of images; None means `seed`. With `reshuffle_levels`, each
      level above 0 derives another seed from it (`engine.training.loop.order_seed`).
    """

    dataset: str
    model: str
    width: Size = 1.0
    optimizer: Plugin = "sgd"
    learning_rate: Factor
    weight_decay: Factor = 1e-4
    epochs: Epochs
    milestones: tuple[int, ...]
    batch_size: Count = 512
    augmentation: Augmentation
    validation: Rate = 0.0
    profile: Profile
    seed: Seed
    split: Count = 1
    batch_norm: BatchNorm = "part"
    test_images: int | None = None
    lr_schedule: Plugin = "step"  # of `engine.plan.optimizers`
    momentum: Rate = 0.9
    nesterov: bool = False
    betas: Betas = (0.9, 0.999)
    decay: Size = 0.1
    warmup: Duration = "0ep"
    label_smoothing: Rate = 0.0
    init: Init = "xavier"
    data_seed: Seed | None = None
    reshuffle_levels: bool = False


class Rule(_Part, frozen=True, kw_only=True):
    """The rule by which a chain prunes and rewinds (section 3.1).

    * `rate` is the fraction of the remaining weights that each level prunes, for all or for each kind of layer (Frankle
      and Carbin 2019, appendix G).
    * `scope` selects the layers that are compared with each other, or fixes the weights of each
      (`engine.pruning.counts`).
    * `granularity` is the unit of pruning: single weights, whole filters, or N:M, all but N of M weights along input
      channels.
    * `retrain` is the start and schedule of a pruned network (Renda et al. 2020): `rewind`, the rewound state;
      `lr-rewind`, the final weights of the level below; `finetune`, these weights at the last learning rate.
    * `prune_at` selects the weights given to the criterion, after training or rewound; `prune_batches` is the number of
      batches of training images for criteria that use images.
    * `head` keeps the output layer of the source if class counts agree (`auto`), or always draws it anew (`fresh`).
    """

    rate: Rates = 0.2
    scope: Scope = "global"
    rewind: Rewind = 1  # 0 is the initialisation itself
    prunable: Prunable = "conv"
    rewinds: Rewinds = "all"
    schedule: Schedule = "restart"
    criterion: Plugin = "magnitude"  # of `engine.pruning.criteria`
    prune_at: PruneAt = "end"
    prune_batches: Count = 1
    retrain: Retrain = "rewind"
    granularity: Granularity = "weight"
    head: Head = "auto"

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that identify this rule."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    @property
    def knows_layers(self) -> bool:
        """Whether the number of weights that remain depends on the kinds or the order of layers."""
        return isinstance(self.rate, str) or self.scope in ("erk", "uniform+")

    @property
    def pattern(self) -> tuple[int, int] | None:
        """N and M of the granularity N:M; None for others."""
        few, _, many = self.granularity.partition(":")
        return (int(few), int(many)) if many else None

    def rate_of(self, kind: Kind) -> float:
        """The fraction of the remaining weights that each level prunes in layers of a kind."""
        if isinstance(self.rate, str):
            return float(dict(part.split("=") for part in self.rate.split(","))[kind])
        return self.rate

    def fraction(self, level: float, kind: Kind = "conv") -> float:
        """The fraction of prunable weights that remains after `level` pruning iterations, which may be fractional."""
        return float((1.0 - self.rate_of(kind)) ** level)


DEFAULT_RULE = Rule()
# The defaults of a training; those of its fields that have none are empty.
DEFAULT_TRAINING = Training(
    dataset="",
    model="",
    learning_rate=0.0,
    epochs=0,
    milestones=(),
    augmentation="none",
    profile="exact",
    seed=0,
)


class Chain(_Part, frozen=True, weakref=True):
    """A source training and the rule of its iterative pruning."""

    training: Training
    rule: Rule

    def ticket(self, level: int) -> "Winning":
        """The winning ticket of `level`. At level 0 it is the same for all ways of pruning."""
        return Winning(self if level else self._unpruned, level)

    def random(self, mask: str, level: int) -> "Random":
        """The random ticket made from this chain's ticket of `level`. At level 0 it does not depend on pruning."""
        return Random(mask, level, self if level else self._unpruned if mask in REWOUND else None)

    def run(self, level: int) -> "Run":
        """The run that this chain makes at `level`: the dense network at 0, then its own winning tickets."""
        if level not in self._runs:
            ticket: Ticket = Winning(self, level) if level else Dense(self.rule.rewind)
            self._runs[level] = Run(ticket, self.training)
        return self._runs[level]

    def mask_of(self, level: int) -> tuple["Run", str]:
        """The run whose files include the mask of `level` (1 or more), and the kind of that file.

        It is the chain's run of the level below. At level 1 that is the dense run, which chains of all rules share, so
        the kind of file names the rule.
        """
        return self.run(level - 1), "mask" if level > 1 else f"mask-{self.rule.digest}"

    def weights_of(self, level: int) -> tuple["Run", str]:
        """The run whose files include the weights of the ticket of `level`, and the kind of that file."""
        if level == 0 or self.rule.retrain == "rewind":
            return self.run(0), "rewind"
        return self.run(level - 1), "final"

    @cached_property
    def _unpruned(self) -> "Chain":
        pruning = ("scope", "rate", "criterion", "prune_at", "prune_batches", "retrain", "granularity")
        return Chain(self.training, replace(self.rule, **{name: getattr(DEFAULT_RULE, name) for name in pruning}))

    @cached_property
    def _runs(self) -> dict[int, "Run"]:
        """The cache of `run`, so that the digests of runs are computed once."""
        return {}


class Dense(_Part, frozen=True):
    """The unpruned network at its initialisation; its run saves the state at `rewind`."""

    rewind: Rewind
    level = 0
    name = "dense"


class Winning(_Part, frozen=True):
    """The chain's mask of `level` on its late-reset weights; at level 0 these weights unpruned."""

    chain: Chain
    level: Level
    name = "winning"


class RandomGlobal(_Part, frozen=True):
    """Fresh weights under a globally permuted mask. It needs no chain, so all sources share it (section 3.3)."""

    level: Level
    rate: Rate = 0.2
    name = "random-global"

    @staticmethod
    def at(level: int, rate: float) -> "RandomGlobal":
        """The ticket of `level`. At level 0 it does not depend on the rate."""
        return RandomGlobal(level, rate) if level else RandomGlobal(0)


class Random(_Part, frozen=True):
    """A kind of `engine.tickets.permutations`: fresh weights under a mask made from the chain's (appendix A.2).

    At level 0 nothing is masked, and `chain` is None. A `rewound` one uses the chain's weights instead of fresh ones.
    """

    mask: Plugin
    level: Level
    chain: Chain | None = None

    @property
    def name(self) -> str:
        return f"random-{self.mask}"

    @property
    def rewound(self) -> bool:
        """Whether it uses the rewound weights of its chain instead of fresh ones."""
        return self.mask in REWOUND and self.chain is not None


class Imported(_Part, frozen=True):
    """The ticket in an imported file (`engine.tickets.ticketfiles`): its masks on its weights.

    `digest` is of the file's content. The run's identity does not include how the ticket was found.
    """

    digest: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    level: Level
    head: Head = "auto"  # as a rule's
    name = "imported"


class Line(_Part, frozen=True):
    """The straight line between the final weights of two trainings of a chain's ticket in two orders of the images.

    Its run trains nothing: it evaluates `points` networks on the line, including both ends (Frankle et al. 2020).
    """

    chain: Chain
    level: Level
    points: Count
    name = "line"

    @property
    def ends(self) -> tuple["Run", "Run"]:
        """The two trainings: as the chain's, each with another data seed of order and augmentation."""
        t = self.chain.training
        seed = t.seed if t.data_seed is None else t.data_seed
        first, second = (replace(t, data_seed=seed + number * ORDERS_APART) for number in (1, 2))
        return Run(self.chain.ticket(self.level), first), Run(self.chain.ticket(self.level), second)


Ticket = Dense | Winning | RandomGlobal | Random | Imported | Line
TICKETS: dict[str, type[Any]] = {
    "dense": Dense,
    "winning": Winning,
    "random-global": RandomGlobal,
    "random": Random,
    "imported": Imported,
    "line": Line,
}
# For each class of a recipe: its kind in JSON, and the names and defaults of its fields.
_LAYOUTS: dict[type[Any], tuple[dict[str, str], tuple[tuple[str, Any], ...]]] = {
    cls: ({"kind": kind} if kind else {}, tuple((field.name, field.default) for field in fields(cls)))
    for kind, cls in (*(("", cls) for cls in (Training, Rule, Chain)), *TICKETS.items())
}


class Run(msgspec.Struct, frozen=True, dict=True):
    """One training of one network: a ticket and a training configuration."""

    ticket: Ticket
    training: Training

    @cached_property
    def digest(self) -> str:
        """64 hexadecimal digits that identify this run."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @property
    def chain(self) -> Chain | None:
        """The chain of the ticket; None if it has none."""
        return self.ticket.chain if isinstance(self.ticket, Winning | Random | Line) else None

    @property
    def is_link(self) -> bool:
        """Whether this run belongs to its ticket's chain, so that its final weights give the next mask."""
        return isinstance(self.ticket, Dense) or (
            isinstance(self.ticket, Winning) and self.ticket.level > 0 and self.ticket.chain.training == self.training
        )

    @property
    def knows_no_rule(self) -> bool:
        """Whether this run is unpruned, so that chains of all rules share it."""
        return isinstance(self.ticket, Dense) or (isinstance(self.ticket, Random) and self.ticket.chain is None)

    @property
    def epochs(self) -> int:
        """The number of epochs of its schedule; 0 for a line."""
        return 0 if isinstance(self.ticket, Line) else self.training.epochs

    @property
    def first_epoch(self) -> int:
        """The epoch at which training starts: 0, or the rewind epoch if the rule continues the schedule."""
        match self.ticket:
            case Winning(Chain(rule=Rule(schedule="continue", rewind=int(epoch)))):
                return epoch
        return 0

    @property
    def is_fine_tuned(self) -> bool:
        """Whether this run trains at the last learning rate of its schedule throughout."""
        ticket = self.ticket
        return isinstance(ticket, Winning) and ticket.level > 0 and ticket.chain.rule.retrain == "finetune"

    def needs(self) -> tuple["Run", ...]:
        """The runs that must be done before this one can start.

        Ticket n needs the chain's run of level n - 1, whose final weights give the mask, and the dense run, which saved
        the rewind state. A random ticket of level 0 has no mask and needs no run.
        """
        match self.ticket:
            case Winning(chain, level) if level > 1:
                return (chain.run(0), chain.run(level - 1))
            case Winning(chain, _):
                return (chain.run(0),)
            case Line():
                return self.ticket.ends
            case Random(_, level, chain) if chain is not None:
                weights = (chain.run(0),) if self.ticket.rewound else ()
                return tuple(dict.fromkeys((*weights, *((chain.run(level - 1),) if level else ()))))
        return ()

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no blanks, fields at their default left out. `from_json` reads it."""
        return f'{{"semantics":{SEMANTICS},"ticket":{self.ticket.text},"training":{self.training.text}}}'

    @staticmethod
    def from_json(text: str) -> "Run":
        """The run that `to_json` wrote. Raises BadRecipe for any other text, InputError for other semantics."""
        try:
            found = json.loads(text)
            semantics = found["semantics"]
            if semantics == SEMANTICS:
                return Run(_decode_ticket(found["ticket"]), _decode_training(found["training"]))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            why = f"it lacks {error}" if isinstance(error, KeyError) else error
            raise BadRecipe(f"the recipe {quoted(text)} describes no run: {why}") from None
        raise InputError(f"a run of semantics {quoted(semantics)} cannot be trained by this version ({SEMANTICS})")


_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def _canonical(value: Any) -> str:
    """Canonical JSON: sorted keys, no blanks."""
    if isinstance(value, _Part):
        return value.text
    return _JSON.encode(value)


def _decode_training(found: dict[str, Any]) -> Training:
    msgspec.convert(found, Training)  # a check only: its result may turn integers to floats and change the digest
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}
    return Training(**fields)


def _decode_ticket(found: dict[str, Any]) -> Ticket:
    found = dict(found)
    cls = TICKETS[found.pop("kind")]
    msgspec.convert(found, cls)
    if "chain" in found:
        chain = found["chain"]
        found["chain"] = Chain(_decode_training(chain["training"]), Rule(**chain["rule"]))
    ticket: Ticket = cls(**found)
    return ticket
