"""Exporting and verifying ticket files: `python -m engine.results.ticket_export export|verify|compare` prints JSON.

`ticketfiles` defines the format. `store.exports` lists the tickets of a database without torch.
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

FEW = 3  # problems of one kind that are listed


@dataclass(frozen=True)
class Ticket:
    """A ticket: the unmasked state of the network, masks by weight, the metadata, and all of it as a file's bytes."""

    state: dict[str, Tensor]
    masks: Masks
    about: dict[str, Any]
    data: bytes


def ticket(connection: sqlite3.Connection, folder: Folder, digest: str, sparser: str | None = None) -> Ticket:
    """The ticket of the run of this digest, made from the files of its chain. Raises InputError if one is missing.

    For a ticket of level 0, the digest of a `sparser` run selects the chain (`exports.of_run`).
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
    """Verify a file: its format, digest, counts, and its tensors against its recipe. Returns problems, if any.

    User models are not run, so their tensors are not compared with the network: use `compare`. Raises InputError if the
    file does not exist.
    """
    if not path.is_file():
        raise InputError(f"file {path} does not exist: name a ticket file")
    try:
        file = ticketfiles.unpack(path.read_bytes())
    except InputError as error:
        return Verified(str(path), (str(error),))
    wrong = ticketfiles.problems(file)
    is_own = user_model.is_own(file.run.training.model)
    try:
        wrong += ([] if is_own else _unlike_its_recipe(file)) + _not_finite(file)
    except InputError as error:
        wrong.append(str(error))
    return Verified(str(path), tuple(wrong), ticketfiles.described(file), is_compared=not is_own)


def compare(path: Path, folder: str) -> bool:
    """Return True if a file's tensors fit its user model, whose source is in `folder`; else raise InputError."""
    file = ticketfiles.read(path)
    trust.require(file.run.training.model, folder)
    with memory.limited(f"model {file.run.training.model.partition('@')[0]}"):  # the user's code runs here
        wrong = _unlike_its_recipe(file, folder) + _not_finite(file)
    if wrong:
        raise InputError(f"{path}: {wrong[0]}")
    return True


def _not_finite(file: ticketfiles.TicketFile) -> list[str]:
    """Problems: tensors with values that are not finite."""
    state, _ = starts.unpack_ticket(file.data)  # the library checks that every tensor is complete
    wrong = [name for name, value in state.items() if not value.isfinite().all()]
    return _few([f"{name} holds what is no finite number" for name in wrong])


def _unlike_its_recipe(file: ticketfiles.TicketFile, folder: str = "") -> list[str]:
    """Problems: tensors that differ from those of the recipe's network in name, shape or mask."""
    training, data = file.run.training, file.about.data
    with torch.device("meta"):
        model = nets.build(training.model, training.width, data.shape, data.classes, folder)
    state, masks = starts.unpack_ticket(file.data)
    expected, rule = model.state_dict(), ticketfiles.rule_of(file.run)
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
    """The first problems of one kind and the number of others: a file of another network has hundreds."""
    rest = len(problems) - FEW
    return problems if rest < 2 else [*problems[:FEW], f"{rest} more like this"]


def export(
    path: Path, digest: str, sparser: str, output: Path, code_for: str | None = None
) -> tuple[str, Description, list[str]]:
    """Write the ticket of a run to a file or into a folder; returns its path, its facts, and other files written.

    With `code_for`, also write the network's definition (`models.definition`) for a ticket file of that name ("": its
    name here) to the same folder.
    """
    with damage.explained(path), closing(database.reader(path)) as connection:
        file = ticketfiles.unpack(ticket(connection, Folder(database.files_folder(path)), digest, sparser).data)
        folder = database.model_folder(connection, file.run.training.model)
    target = output / ticketfiles.file_name(file) if output.is_dir() else output
    target.parent.mkdir(parents=True, exist_ok=True)
    code = []
    if code_for is not None:
        code = definition.write(target.parent, _definition(file, folder, code_for or target.name))
    files.write(target, file.data)
    return str(target), ticketfiles.described(file), code


def _definition(file: ticketfiles.TicketFile, folder: str, ticket: str) -> dict[str, bytes]:
    training, data = file.run.training, file.about.data
    about = f"Ticket of level {file.run.ticket.level} from {data.name}: {training.model} x {training.width:g}."
    return definition.files(training.model, training.width, data.shape, data.classes, folder, ticket, about)


def main() -> None:
    """The command that `cockpit tickets` runs."""
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
