"""Checkpoints: an unfinished training as one file. On the same device it resumes to the same bits."""

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.pruning.pruner import Masks
from engine.tickets import tensorfiles
from engine.training.loop import State


@dataclass(frozen=True)
class Checkpoint:
    """An unfinished training: its run and attempt, its epoch and step, its seconds of training, and its tensors."""

    digest: str
    attempt: int
    seconds: float
    epoch: int
    step: int
    tensors: dict[str, Tensor]
    where: str = ""  # what computed it, where only that computes the same bits

    def fits(self, masks: Masks) -> bool:
        """Whether each weight that these masks prune is 0, which holds if the training used these masks."""
        return not any(bool(self.tensors[f"model/{name}"][~mask.cpu()].any()) for name, mask in masks.items())

    def restore(self, state: State) -> None:
        """Set a new state to the point at which this training stopped."""
        parameters = list(state.model.parameters())
        entries: dict[int, dict[str, Tensor]] = {}
        for key, value in self.tensors.items():
            if key.startswith("optimizer/"):
                _, index, name = key.split("/")
                # Laid out like the weight it belongs to: another layout costs time in every step.
                entry = torch.empty_like(parameters[int(index)]).copy_(value).detach() if value.dim() else value
                entries.setdefault(int(index), {})[name] = entry
        model = {k.removeprefix("model/"): v for k, v in self.tensors.items() if k.startswith("model/")}
        state.model.load_state_dict(model)
        groups = state.optimizer.state_dict()["param_groups"]
        state.optimizer.load_state_dict({"state": entries, "param_groups": groups})
        state.epoch, state.step = self.epoch, self.step
        state.loss_sum.copy_(self.tensors["loss_sum"])
        state.correct.copy_(self.tensors["correct"])


def pack(state: State, digest: str, attempt: int, seconds: float, where: str = "") -> bytes:
    """The state as a file. It leaves out the masks, which the ticket provides."""
    tensors = {f"model/{name}": value for name, value in state.model.state_dict().items()}
    for index, entries in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": value for name, value in entries.items() if value is not None}
    tensors |= {"loss_sum": state.loss_sum, "correct": state.correct}
    about: dict[str, object] = {"digest": digest, "attempt": attempt, "seconds": seconds}
    about |= {"epoch": state.epoch, "step": state.step, "where": where}
    return tensorfiles.pack(tensors, about)


def unpack(data: bytes) -> Checkpoint:
    """The checkpoint in a file that `pack` made, on the CPU. Raises InputError for any other bytes."""
    tensors, about = tensorfiles.unpack(data)
    return Checkpoint(**about, tensors=tensors)
