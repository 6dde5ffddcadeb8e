"""Tickets as files of their own: `python -m engine.results.ticket_export export|verify|compare` prints JSON.

Their format: `ticketfiles`. Which tickets there are is asked of the database, and needs no torch: `store.exports`.
"""

import argparse
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from msgspec import to_builtins
from torch import Tensor, nn

from engine.errors import InputError
from engine.machine import memory, processes
from engine.models import definition, nets, trust, user_model
from engine.pruning.criteria import needs_weights_alone
from engine.pruning.pruner import Masks
from engine.recipes import Kind, Run
from engine.store import damage, database, exports, files, records
from engine.store.files import Folder, LostFile
from engine.tickets import starts, ticketfiles
from engine.tickets.ticketfiles import Description, Verified

FEW = 3  # problems of one kind that are named


@dataclass(frozen=True)
class Ticket:
    """A ticket in hand: the state of the network, unmasked, its masks by weight, and where both come from."""

    state: dict[str, Tensor]
    masks: Masks
    about: dict[str, Any]
    data: bytes  # all of it as a file


def ticket(connection: sqlite3.Connection, folder: Folder, digest: str, sparser: str | None = None) -> Ticket:
    """The ticket of the run of this digest, made of the files that its chain left. Raises InputError without those.

    A `sparser` run says of which chain a ticket of level 0 is (`exports.of_run`).
    """
    wanted = exports.of_run(connection, digest, sparser)
    chain = wanted.run.chain

    def read(producer: Run, kind: str) -> bytes:
        try:
            return folder.get(records.file_of(connection, producer.digest, kind) or "")
        except LostFile:
            if chain and (producer, kind) == chain.mask_of(1) and needs_weights_alone(chain.rule):
                layers = records.prunable_layers(connection, producer.digest, chain.rule.prunable)
                return starts.first_mask(chain, layers, read)
            raise InputError(
                f"ticket of run {digest[:12]}: the {kind} file of run {producer.digest[:12]} is missing:"
                " train that run, or one that needs the file, to recreate it"
            ) from None

    folder_of_model = database.model_folder(connection, wanted.run.training.model)
    trust.require(wanted.run.training.model, folder_of_model)
    try:
        model, masks = starts.start(wanted.run, wanted.data.shape, wanted.data.classes, read, folder_of_model)
    finally:
        user_model.put_back()
    prunable = nets.prunable(model, ticketfiles.rule_of(wanted.run).prunable)
    masks = {name: mask for name, mask in masks.items() if name in prunable}
    about = ticketfiles.about(wanted.run, wanted.data, wanted.made_by, _kinds(model, masks))
    return Ticket(model.state_dict(), masks, to_builtins(about), starts.pack_ticket(model, masks, about))


def _kinds(model: nn.Module, masks: Mapping[str, Tensor]) -> dict[str, Kind]:
    return {name: kind for name, kind in nets.kinds(model).items() if name in masks}


def verify(path: Path) -> Verified:
    """What a file says of itself, if it is a ticket file, and what is wrong: digest, counts, recipe against tensors.

    A person's own model is not run for it, so its tensors are not compared with the network: see `compare`. Raises
    InputError if there is no such file.
    """
    if not path.is_file():
        raise InputError(f"file {path} does not exist: name a ticket file")
    try:
        found = ticketfiles.unpack(path.read_bytes())
    except InputError as error:
        return Verified(str(path), (str(error),))
    wrong = ticketfiles.problems(found)
    is_own = user_model.is_own(found.run.training.model)
    try:
        wrong += ([] if is_own else _unlike_its_recipe(found)) + _not_finite(found)
    except InputError as error:
        wrong.append(str(error))
    return Verified(str(path), tuple(wrong), ticketfiles.described(found), is_compared=not is_own)


def compare(path: Path, folder: str) -> bool:
    """True. Raises InputError where a file's tensors are not those of its network, whose source lies in `folder`."""
    found = ticketfiles.read(path)
    trust.require(found.run.training.model, folder)
    with memory.limited(f"model {found.run.training.model.partition('@')[0]}"):  # whose code runs
        wrong = _unlike_its_recipe(found, folder) + _not_finite(found)
    if wrong:
        raise InputError(f"{path}: {wrong[0]}")
    return True


def _not_finite(found: ticketfiles.TicketFile) -> list[str]:
    """Which tensors are not numbers."""
    state, _ = starts.unpack_ticket(found.data)  # the library checks that every tensor is whole
    wrong = [name for name, value in state.items() if not value.isfinite().all()]
    return _few([f"{name} holds what is no finite number" for name in wrong])


def _unlike_its_recipe(found: ticketfiles.TicketFile, folder: str = "") -> list[str]:
    """Where the tensors are not those of the network that the recipe names."""
    training, data = found.run.training, found.about.data
    with torch.device("meta"):
        model = nets.build(training.model, training.width, data.shape, data.classes, folder)
    state, masks = starts.unpack_ticket(found.data)
    expected, rule = model.state_dict(), ticketfiles.rule_of(found.run)
    shared = [name for name in expected if name in state]
    sizes = ((name, tuple(state[name].shape), tuple(expected[name].shape)) for name in shared)
    prunable = nets.prunable(model, rule.prunable)
    kinds: tuple[Iterable[str], ...] = (
        (f"{name} is missing, which {training.model} has" for name in expected if name not in state),
        (f"{name} is none of {training.model}'s" for name in state if name not in expected),
        (f"{name} is of shape {size}, not {wanted}" for name, size, wanted in sizes if size != wanted),
        (f"{name} has no mask, though the recipe prunes it" for name in prunable if name not in masks),
        (f"{name} has a mask, though the recipe does not prune it" for name in masks if name not in prunable),
    )
    return [problem for kind in kinds for problem in _few(list(kind))]


def _few(problems: list[str]) -> list[str]:
    """Some of the problems of one kind, and how many more there are: a file of another network has hundreds."""
    rest = len(problems) - FEW
    return problems if rest < 2 else [*problems[:FEW], f"{rest} more like this"]


def export(
    path: Path, digest: str, sparser: str, output: Path, code_for: str | None = None
) -> tuple[str, Description, list[str]]:
    """Write the ticket of a run to a file, or into a folder: where, what it says of itself, and what else was written.

    `code_for` is the name that the file will have: beside it, write the network's definition (`models.definition`).
    """
    with damage.explained(path), closing(database.reader(path)) as connection:
        found = ticketfiles.unpack(ticket(connection, Folder(database.files_folder(path)), digest, sparser).data)
        folder = database.model_folder(connection, found.run.training.model)
    place = output / ticketfiles.file_name(found) if output.is_dir() else output
    place.parent.mkdir(parents=True, exist_ok=True)
    code = []
    if code_for is not None:
        code = definition.write(place.parent, _definition(found, folder, code_for or place.name))
    files.write(place, found.data)
    return str(place), ticketfiles.described(found), code


def _definition(found: ticketfiles.TicketFile, folder: str, ticket: str) -> dict[str, bytes]:
    training, data = found.run.training, found.about.data
    about = f"Ticket of level {found.run.ticket.level} from {data.name}: {training.model} x {training.width:g}."
    return definition.files(training.model, training.width, data.shape, data.classes, folder, ticket, about)


def main() -> None:
    """The command line that `cockpit tickets` calls."""
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    exporting = verbs.add_parser("export")
    exporting.add_argument("--db", type=Path, required=True)
    exporting.add_argument("--output", type=Path, required=True, help="a file, or a folder for one")
    exporting.add_argument("--code-for", metavar="FILE", help="also write the network's definition, next to this file")
    exporting.add_argument("digest")
    exporting.add_argument("sparser", help="the digest of a sparser run of the same chain, or the same")
    verbs.add_parser("verify").add_argument("files", type=Path, nargs="+")
    comparing = verbs.add_parser("compare")
    comparing.add_argument("folder", help="of the model's source")
    comparing.add_argument("files", type=Path, nargs="+")
    options = parser.parse_args()
    if options.verb == "verify":
        processes.answer(lambda: [verify(path) for path in options.files])
    elif options.verb == "compare":
        processes.answer(lambda: [compare(path, options.folder) for path in options.files])
    else:
        processes.answer(lambda: export(options.db, options.digest, options.sparser, options.output, options.code_for))


if __name__ == "__main__":
    main()
