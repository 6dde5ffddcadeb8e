"""Exported ticket files, read and checked without torch and numpy.

A ticket file is a safetensors file. It holds the state from which training starts, unmasked, under the names of its
`state_dict()`, and for each prunable weight NAME a bool tensor `mask/NAME`. The metadata key `cockpit` is JSON: the
recipe of the run that trains the ticket on its source, facts of the data set, the runs that made the ticket, and the
digest of recipe and tensors.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import structs

from engine.errors import InputError, OptionName
from engine.machine import paths
from engine.pruning import counts
from engine.recipes import Dense, Imported, Kind, Random, RandomGlobal, Rates, Rule, Run, Winning
from engine.tickets import headers
from engine.tickets.headers import METADATA, Entry

MASK = "mask/"
SPEC = "ticket:"  # precedes the path of a ticket file that is a source

_Side = Annotated[int, msgspec.Meta(ge=1, le=2**16)]


class TicketFile(msgspec.Struct, frozen=True):
    """A ticket file: its metadata, header and bytes."""

    data: bytes
    about: "About"
    run: Run
    header: headers.Header

    @property
    def digest(self) -> str:
        """The digest of the content that the metadata states."""
        return self.about.digest

    def kept(self) -> dict[str, tuple[int, int]]:
        """The number of weights remaining and of all weights, by layer."""
        by_layer = {}
        for name, entry in self.header.tensors.items():
            if name.startswith(MASK):
                mask = self.bytes(entry)
                by_layer[name.removeprefix(MASK)] = mask.count(1), len(mask)
        return by_layer

    def bytes(self, entry: Entry) -> bytes:
        """The bytes of a tensor."""
        return self.data[self.header.span(entry)]


class DataFacts(msgspec.Struct, frozen=True):
    """The data set on which a ticket's run trains."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    identity: str
    shape: tuple[_Side, _Side, _Side]
    classes: Annotated[int, msgspec.Meta(ge=1, le=2**20)]


class Producer(msgspec.Struct, frozen=True):
    """A run whose files made a ticket: its device, versions, end and test accuracy."""

    digest: str | None = None
    level: int | None = None
    device_name: str | None = None
    torch_version: str | None = None
    cockpit_version: str | None = None
    finished_at: str | None = None
    test_accuracy: float | None = None


class About(msgspec.Struct, frozen=True, omit_defaults=True):
    """The metadata that a file must have; other keys are ignored."""

    kind: Literal["ticket"]
    format: Literal[1]
    recipe: dict[str, Any]  # the JSON of a run
    data: DataFacts
    made_by: tuple[Producer, ...]
    digest: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    layers: tuple[tuple[str, Kind], ...] = ()  # of the masks, in the network's order, if the rule depends on kinds


class Description(msgspec.Struct, frozen=True):
    """The facts in a ticket file, as `cockpit tickets` shows them."""

    source: str  # name of the source
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


class Verified(msgspec.Struct, frozen=True):
    """The result of verifying a file.

    `about` is None if it is no ticket file. `is_compared`: its tensors were compared with its network's.
    """

    file: str
    problems: tuple[str, ...]
    about: Description | None = None
    is_compared: bool = False

    @property
    def ok(self) -> bool:
        """Whether the file has no problem."""
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """The file as `--json` prints it."""
        result = {"file": self.file, "ok": self.ok, "problems": list(self.problems)}
        if self.about is None:
            return result
        return {**result, "compared": self.is_compared, **msgspec.to_builtins(self.about)}


@dataclass(frozen=True)
class TicketSource:
    """A ticket file as the source of an experiment. From the database, `location` is empty and some facts are None."""

    name: str
    digest: str
    level: int
    rate: Rates
    model: str
    width: float
    shape: tuple[int, int, int]
    location: str = ""
    rule: Rule | None = field(default=None, compare=False)
    classes: int | None = field(default=None, compare=False)

    @property
    def options(self) -> dict[str, Any]:
        """The options of an experiment that the ticket determines."""
        own = {"model": self.model, "width": self.width, "prune_rate": self.rate}
        return own | ({"prunable": self.rule.prunable} if self.rule else {})


def about(run: Run, data: DataFacts, made_by: tuple[Producer, ...], kinds: dict[str, Kind]) -> About:
    """The metadata of a ticket file without its digest. `kinds` are of its layers, in order."""
    layers = tuple(kinds.items()) if rule_of(run).knows_layers else ()
    return About("ticket", 1, json.loads(run.to_json()), data, made_by, digest="", layers=layers)


def described(file: TicketFile) -> Description:
    """The facts in a ticket file."""
    kept, run = list(file.kept().values()), file.run
    return Description(
        source=name_of(file),
        digest=file.digest,
        ticket=run.ticket.name,
        level=run.ticket.level,
        weights_remaining=sum(remaining for remaining, _ in kept),
        weights_total=sum(total for _, total in kept),
        model=run.training.model,
        width=run.training.width,
        seed=run.training.seed,
        data=file.about.data,
        recipe=json.loads(run.to_json()),
        made_by=file.about.made_by,
    )


def unpack(data: bytes, digest: str | None = None) -> TicketFile:
    """Read a file's bytes. Raises InputError if they are no ticket file, or their content has another `digest`."""
    try:
        header = headers.read(data)
        if METADATA not in header.metadata:
            raise ValueError("its metadata has no recipe")
        about = msgspec.convert(headers.decode(header.metadata[METADATA]), About)
        run = Run.from_json(json.dumps(about.recipe))
        rule_of(run)
    except ValueError as error:
        raise InputError(f"not a cockpit ticket file ({error}): `cockpit tickets export` writes them") from None
    file = TicketFile(data, about, run, header)
    if len(data) != header.end:
        what = "cut off: only" if len(data) < header.end else "more than it says:"
        raise InputError(f"{what} {len(data):,} of its {header.end:,} bytes are here: copy it again")
    if digest is not None and (file.digest != digest or content_digest(data) != digest):
        raise InputError(f"the ticket file does not hold ticket {digest[:12]}: export it again")
    return file


def read(path: Path) -> TicketFile:
    """Read the ticket file at `path`, and check all that needs no torch. Raises InputError for any fault."""
    if not path.is_file():
        raise InputError(f"ticket file {path} does not exist: `cockpit tickets export` writes one")
    try:
        file = unpack(path.read_bytes())
    except InputError as error:
        raise InputError(f"{path}: ", error) from None
    if wrong := problems(file):
        raise InputError(f"{path}: {wrong[0]}: have it exported again")
    return file


def content_digest(data: bytes) -> str:
    """The SHA-256 of a ticket's recipe and tensors, independent of their order in the file."""
    header = headers.read(data)
    recipe = json.loads(header.metadata[METADATA])["recipe"]
    tensors = {
        name: [entry.dtype, entry.shape, hashlib.sha256(data[header.span(entry)]).hexdigest()]
        for name, entry in header.tensors.items()
    }
    text = json.dumps({"recipe": recipe, "tensors": tensors}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def problems(file: TicketFile) -> list[str]:
    """The faults of a file, as text: its digest, its masks, or numbers of weights that contradict its recipe."""
    wrong = []
    if content_digest(file.data) != file.digest:
        wrong.append("its content does not have the digest that it says")
    for name, entry in file.header.tensors.items():
        if name.startswith(MASK):
            weight = file.header.tensors.get(name.removeprefix(MASK))
            is_mask = weight is not None and weight.shape == entry.shape and entry.dtype == "BOOL"
            if not is_mask or file.bytes(entry).strip(b"\0\1"):
                wrong.append(f"{name} is no mask of a weight in it")
    return wrong + _miscounted(file)


def rule_of(run: Run) -> Rule:
    """The rule by which a ticket was pruned. Raises ValueError for a ticket of a kind that is never exported."""
    match run.ticket:
        case Winning(chain, _):
            return chain.rule
        case Random(_, _, chain):
            return chain.rule if chain else Rule()
        case RandomGlobal(_, rate):
            return Rule(rate=rate)
    raise ValueError(f"a {run.ticket.name} run starts from no ticket")


def _miscounted(file: TicketFile) -> list[str]:
    """The layers, or groups of layers, in which not exactly as many weights remain as the rule prescribes, as text.

    A random ticket without the output layer of its source is not checked: its total is not in the recipe.
    """
    run, rule, kept = file.run, rule_of(file.run), file.kept()
    ticket = run.ticket
    if (
        isinstance(ticket, Random)
        and ticket.chain
        and rule.prunable != "conv"
        and ticket.chain.training != run.training
    ):
        return []
    kinds = dict(file.about.layers)
    if rule.knows_layers and kinds.keys() != kept.keys():
        return ["it does not say what kinds of layers its masks are of"]
    shapes = {name: file.header.tensors[f"{MASK}{name}"].shape for name in kinds or kept}
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
    """The source of `ticket:PATH`. Raises InputError for a file that cannot be used."""
    path = paths.given(spec.removeprefix(SPEC))
    try:
        file = read(path)
    except InputError as error:
        raise InputError(f"source {spec!r}: ", error) from None
    training, rule = file.run.training, rule_of(file.run)
    return TicketSource(
        name=name_of(file),
        digest=file.digest,
        level=file.run.ticket.level,
        rate=rule.rate,
        model=training.model,
        width=training.width,
        shape=file.about.data.shape,
        location=str(path.absolute()),
        rule=rule,
        classes=file.about.data.classes,
    )


def check(tickets: Sequence[TicketSource], **options: object) -> None:
    """Raise InputError for tickets that contradict the options of an experiment or each other."""
    for number, ticket in enumerate(tickets):
        for option, theirs in ticket.options.items():
            if options[option] != theirs:
                said = f" {options[option]} differs from {theirs}, which {ticket.name} has: leave it out"
                raise InputError(OptionName(option), said)
        if any((other.name, other.level) == (ticket.name, ticket.level) for other in tickets[:number]):
            raise InputError(f"two files are the ticket of level {ticket.level} of {ticket.name}: give one of them")


def by_name(tickets: Iterable[TicketSource]) -> dict[str, list[TicketSource]]:
    """The tickets of each chain by the chain's name, in order of level."""
    by_chain: dict[str, list[TicketSource]] = {}
    for ticket in sorted(tickets, key=lambda ticket: ticket.level):
        by_chain.setdefault(ticket.name, []).append(ticket)
    return by_chain


def name_of(file: TicketFile) -> str:
    """The name of a ticket's source, which differs between chains and is the same for all levels of one."""
    ticket = file.run.ticket
    assert not isinstance(ticket, Dense | Imported)
    chain = Run(structs.replace(ticket, level=0), file.run.training).digest[:6]
    return f"{SPEC}{file.about.data.name.removeprefix('npz:')}@{chain}"


def file_name(file: TicketFile) -> str:
    """The default name of a ticket's file, which differs for different contents."""
    name = "".join(c if c.isprintable() and c not in "/\\" else "-" for c in name_of(file).removeprefix(SPEC))[-100:]
    return f"{name}-level-{file.run.ticket.level}-{file.digest[:8]}.safetensors"
