"""A ticket to take away is one safetensors file; here such files are read and checked without torch and numpy.

It holds the network's state that training starts from under the names of its `state_dict()`, unmasked, and for each
prunable weight NAME a bool tensor `mask/NAME`. The metadata key `cockpit` is JSON: the recipe of the run that trains
the ticket where it was found, the data set's facts, what made it, and the digest of recipe and tensors together.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from engine.errors import InputError, OptionName
from engine.machine import paths
from engine.pruning import counts
from engine.recipes import Dense, Imported, Kind, Random, RandomGlobal, Rates, Rule, Run, Winning
from engine.tickets import headers
from engine.tickets.headers import METADATA, Entry

MASK = "mask/"
SPEC = "ticket:"  # before a path, where a source is named

_Side = Annotated[int, msgspec.Meta(ge=1, le=2**16)]


@dataclass(frozen=True)
class TicketFile:
    """What a file says, and its bytes."""

    data: bytes
    about: "About"
    run: Run
    header: headers.Header

    @property
    def digest(self) -> str:
        """What the file says is the digest of its content."""
        return self.about.digest

    def kept(self) -> dict[str, tuple[int, int]]:
        """How many weights of each layer remain, and of how many."""
        found = {}
        for name, entry in self.header.tensors.items():
            if name.startswith(MASK):
                mask = self.bytes(entry)
                found[name.removeprefix(MASK)] = mask.count(1), len(mask)
        return found

    def bytes(self, entry: Entry) -> bytes:
        """The bytes of a tensor."""
        return self.data[self.header.span(entry)]


class DataFacts(msgspec.Struct, frozen=True):
    """The data set that a ticket's run is trained on."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    identity: str
    shape: tuple[_Side, _Side, _Side]
    classes: Annotated[int, msgspec.Meta(ge=1, le=2**20)]


class Producer(msgspec.Struct, frozen=True):
    """A run whose files a ticket was made of: where and when it was trained, and what it reached."""

    digest: str | None = None
    level: int | None = None
    device_name: str | None = None
    torch_version: str | None = None
    cockpit_version: str | None = None
    finished_at: str | None = None
    test_accuracy: float | None = None


class About(msgspec.Struct, frozen=True, omit_defaults=True):
    """The metadata that a file must have. What else it says is covered by its digest where that matters, or unread."""

    kind: Literal["ticket"]
    format: Literal[1]
    recipe: dict[str, Any]  # the JSON of a run
    data: DataFacts
    made_by: tuple[Producer, ...]
    digest: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    layers: tuple[tuple[str, Kind], ...] = ()  # of the masks, in the network's order, where the rule knows layers


@dataclass(frozen=True)
class Description:
    """What a ticket's file says of itself, as `cockpit tickets` shows it."""

    source: str  # what its source is called
    digest: str
    ticket: str
    level: int
    weights_remaining: int
    weights_total: int
    model: str
    width: float
    seed: int
    data: DataFacts
    recipe: dict[str, Any]  # the JSON of the run
    made_by: tuple[Producer, ...]


@dataclass(frozen=True)
class Verified:
    """A file that was looked at and what is wrong with it.

    `about` is None where it is no ticket file. `is_compared` says whether its tensors were compared with its network's.
    """

    file: str
    problems: tuple[str, ...]
    about: Description | None = None
    is_compared: bool = False

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """The file as `--json` prints it."""
        found = {"file": self.file, "ok": self.ok, "problems": list(self.problems)}
        if self.about is None:
            return found
        return {**found, "compared": self.is_compared, **msgspec.to_builtins(self.about)}


@dataclass(frozen=True)
class TicketSource:
    """A ticket file as the source of an experiment. `location` is empty where only the database remembers it."""

    name: str
    digest: str
    level: int
    rate: Rates
    model: str
    width: float
    shape: tuple[int, int, int]
    location: str = ""
    rule: Rule | None = field(default=None, compare=False)  # None where only the database remembers it
    classes: int | None = field(default=None, compare=False)  # likewise

    @property
    def options(self) -> dict[str, Any]:
        """The options of an experiment that the ticket decides."""
        own = {"model": self.model, "width": self.width, "prune_rate": self.rate}
        return own | ({"prunable": self.rule.prunable} if self.rule else {})


def about(run: Run, data: DataFacts, made_by: tuple[Producer, ...], kinds: dict[str, Kind]) -> About:
    """The metadata of a ticket's file, but for its digest. `kinds` are those of its layers, in their order."""
    layers = tuple(kinds.items()) if rule_of(run).knows_layers else ()
    return About("ticket", 1, json.loads(run.to_json()), data, made_by, digest="", layers=layers)


def described(found: TicketFile) -> Description:
    """What a ticket's file says of itself."""
    kept, run = list(found.kept().values()), found.run
    return Description(
        source=name_of(found),
        digest=found.digest,
        ticket=run.ticket.name,
        level=run.ticket.level,
        weights_remaining=sum(remaining for remaining, _ in kept),
        weights_total=sum(total for _, total in kept),
        model=run.training.model,
        width=run.training.width,
        seed=run.training.seed,
        data=found.about.data,
        recipe=json.loads(run.to_json()),
        made_by=found.about.made_by,
    )


def unpack(data: bytes, digest: str | None = None) -> TicketFile:
    """Read a file's bytes. Raises InputError if they are no ticket, or not one whose content has this digest."""
    try:
        header = headers.read(data)
        if METADATA not in header.metadata:
            raise ValueError("its metadata has no recipe")
        told = msgspec.convert(headers.decode(header.metadata[METADATA]), About)
        run = Run.from_json(json.dumps(told.recipe))
        rule_of(run)
    except ValueError as error:
        raise InputError(f"not a cockpit ticket file ({error}): `cockpit tickets export` writes them") from None
    found = TicketFile(data, told, run, header)
    if len(data) != header.end:
        what = "cut off: only" if len(data) < header.end else "more than it says:"
        raise InputError(f"{what} {len(data):,} of its {header.end:,} bytes are here: copy it again")
    if digest is not None and (found.digest != digest or content_digest(data) != digest):
        raise InputError(f"the ticket file does not hold ticket {digest[:12]}: export it again")
    return found


def read(path: Path) -> TicketFile:
    """The ticket file at `path`, all that can be checked without torch being right. Raises InputError."""
    if not path.is_file():
        raise InputError(f"ticket file {path} does not exist: `cockpit tickets export` writes one")
    try:
        found = unpack(path.read_bytes())
    except InputError as error:
        raise InputError(f"{path}: ", error) from None
    if wrong := problems(found):
        raise InputError(f"{path}: {wrong[0]}: have it exported again")
    return found


def content_digest(data: bytes) -> str:
    """The SHA-256 of what a ticket is: its recipe and its tensors, however a library orders them in a file."""
    header = headers.read(data)
    recipe = json.loads(header.metadata[METADATA])["recipe"]
    tensors = {
        name: [entry.dtype, entry.shape, hashlib.sha256(data[header.span(entry)]).hexdigest()]
        for name, entry in header.tensors.items()
    }
    text = json.dumps({"recipe": recipe, "tensors": tensors}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def problems(found: TicketFile) -> list[str]:
    """What is wrong with a file: its digest, its masks, or how many weights they keep by its own recipe."""
    wrong = []
    if content_digest(found.data) != found.digest:
        wrong.append("its content does not have the digest that it says")
    for name, entry in found.header.tensors.items():
        if name.startswith(MASK):
            weight = found.header.tensors.get(name.removeprefix(MASK))
            is_mask = weight is not None and weight.shape == entry.shape and entry.dtype == "BOOL"
            if not is_mask or found.bytes(entry).strip(b"\0\1"):
                wrong.append(f"{name} is no mask of a weight in it")
    return wrong + _miscounted(found)


def rule_of(run: Run) -> Rule:
    """The rule by which a ticket was pruned. Raises ValueError for one that is not of a file's kind."""
    match run.ticket:
        case Winning(chain, _):
            return chain.rule
        case Random(_, _, chain):
            return chain.rule if chain else Rule()
        case RandomGlobal(_, rate):
            return Rule(rate=rate)
    raise ValueError(f"a {run.ticket.name} run starts from no ticket")


def _miscounted(found: TicketFile) -> list[str]:
    """Where not exactly as many weights remain as the rule says: of each layer, or of all that were compared.

    A random ticket that leaves out the output layer of its source is not counted: its total is not in the recipe.
    """
    run, rule, kept = found.run, rule_of(found.run), found.kept()
    ticket = run.ticket
    if (
        isinstance(ticket, Random)
        and ticket.chain
        and rule.prunable != "conv"
        and ticket.chain.training != run.training
    ):
        return []
    kinds = dict(found.about.layers)
    if rule.knows_layers and kinds.keys() != kept.keys():
        return ["it does not say what kinds of layers its masks are of"]
    shapes = {name: found.header.tensors[f"{MASK}{name}"].shape for name in kinds or kept}
    pools = counts.pools(shapes, kinds, rule, ticket.level) if shapes else []
    if isinstance(ticket, Random) and ticket.mask in ("global", "rewound-global", "erk"):
        pools = [(list(kept), sum(count for _, count in pools))]
    wrong = []
    for names, expected in pools:
        remaining, total = (
            sum(kept[name][side] // counts.unit(shapes[name], rule) for name in names) for side in (0, 1)
        )
        if remaining != expected:
            what = names[0] if len(names) == 1 else "the masks"
            wrong.append(f"{what}: {remaining:,} of {total:,} weights remain, at level {ticket.level} {expected:,} do")
    return wrong


def source(spec: str) -> TicketSource:
    """The source that `ticket:PATH` names. Raises InputError for a file that cannot be used."""
    path = paths.given(spec.removeprefix(SPEC))
    try:
        found = read(path)
    except InputError as error:
        raise InputError(f"source {spec!r}: ", error) from None
    training, rule = found.run.training, rule_of(found.run)
    return TicketSource(
        name=name_of(found),
        digest=found.digest,
        level=found.run.ticket.level,
        rate=rule.rate,
        model=training.model,
        width=training.width,
        shape=found.about.data.shape,
        location=str(path.absolute()),
        rule=rule,
        classes=found.about.data.classes,
    )


def check(tickets: Sequence[TicketSource], **options: object) -> None:
    """Raises InputError for sources that do not go with the rest of an experiment, or with each other."""
    for number, ticket in enumerate(tickets):
        for option, theirs in ticket.options.items():
            if options[option] != theirs:
                said = f" {options[option]} differs from {theirs}, which {ticket.name} has: leave it out"
                raise InputError(OptionName(option), said)
        if any((other.name, other.level) == (ticket.name, ticket.level) for other in tickets[:number]):
            raise InputError(f"two files are the ticket of level {ticket.level} of {ticket.name}: give one of them")


def by_name(tickets: Iterable[TicketSource]) -> dict[str, list[TicketSource]]:
    """The tickets of one chain together, by level."""
    found: dict[str, list[TicketSource]] = {}
    for ticket in sorted(tickets, key=lambda ticket: ticket.level):
        found.setdefault(ticket.name, []).append(ticket)
    return found


def name_of(found: TicketFile) -> str:
    """What a ticket's source is called: the same for all levels of one chain, another for another chain."""
    ticket = found.run.ticket
    assert not isinstance(ticket, Dense | Imported)
    chain = Run(replace(ticket, level=0), found.run.training).digest[:6]
    return f"{SPEC}{found.about.data.name.removeprefix('npz:')}@{chain}"


def file_name(found: TicketFile) -> str:
    """What a ticket's file is called unless told otherwise: another name for another content."""
    name = "".join(c if c.isprintable() and c not in "/\\" else "-" for c in name_of(found).removeprefix(SPEC))[-100:]
    return f"{name}-level-{found.run.ticket.level}-{found.digest[:8]}.safetensors"
