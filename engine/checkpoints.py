"""A training under way as one file, from which it goes on to the same bits (on the same device)."""

from dataclasses import dataclass

import torch

from engine import tensorfiles
from engine.training import State


@dataclass(frozen=True)
class Mark:
    """Which attempt of which run a checkpoint belongs to, and the seconds that had been spent on it."""

    digest: str
    attempt: int
    seconds: float


def pack(state: State, mark: Mark) -> bytes:
    """The state as a file. The masks are not in it: the ticket gives them again."""
    tensors = {f"model/{name}": value for name, value in state.model.state_dict().items()}
    for index, entries in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": value for name, value in entries.items() if value is not None}
    tensors |= {"loss_sum": state.loss_sum, "correct": state.correct}
    return tensorfiles.pack(tensors, {"kind": "checkpoint", "epoch": state.epoch, "step": state.step, **vars(mark)})


def restore(state: State, data: bytes, digest: str, attempt: int) -> float | None:
    """Bring a state that has just begun to where `data` left off; the seconds spent by then.

    Returns None, and changes nothing, for a checkpoint of another run or attempt.
    """
    tensors, about = tensorfiles.unpack(data)
    if (about["digest"], about["attempt"]) != (digest, attempt):
        return None
    parameters = list(state.model.parameters())
    entries: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, index, name = key.split("/")
            # Laid out like the weight it belongs to: another layout costs time in every step.
            like = torch.empty_like(parameters[int(index)]) if value.dim() else None
            entries.setdefault(int(index), {})[name] = value if like is None else like.copy_(value)
    state.model.load_state_dict({k.removeprefix("model/"): v for k, v in tensors.items() if k.startswith("model/")})
    groups = state.optimizer.state_dict()["param_groups"]
    state.optimizer.load_state_dict({"state": entries, "param_groups": groups})
    state.epoch, state.step = about["epoch"], about["step"]
    state.loss_sum.copy_(tensors["loss_sum"])
    state.correct.copy_(tensors["correct"])
    return float(about["seconds"])
