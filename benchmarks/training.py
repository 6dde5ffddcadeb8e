"""Training on one CPU core: against the core's matrix rate, a plain PyTorch loop, and one worker per core."""

from functools import partial

import torch
from torch.nn import functional as F
from torch.nn.utils import prune
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

from benchmarks.measuring import (
    CPU,
    OurLoop,
    alternating,
    clock,
    flop,
    masked,
    matrix_rate,
    pictures,
    ratios,
    side_by_side,
    spread,
)

BATCH = 128
STEPS = {"vgg19": 4, "resnet20": 12}  # in an epoch, so that one takes some seconds
SIZES = (512, 1024, 2048)
ROUNDS = 5


def measure(quick: bool) -> dict[str, float]:
    """Fractions of the bf16 matrix rate, gains over the plain loop, and two workers against two threads."""
    torch.set_num_threads(1)
    rounds = 1 if quick else ROUNDS
    found: dict[str, float] = {}
    for model, steps in STEPS.items():
        arrays = pictures(BATCH * (steps // 2 if quick else steps), 8)
        ours = OurLoop(model, arrays, BATCH)
        ours.pace()  # the first steps choose kernels
        plain = PlainLoop(model, torch.from_numpy(arrays.train_images), torch.from_numpy(arrays.train_labels))
        timed = alternating(rounds, ours=ours.pace, peak=partial(matrix_rate, CPU, SIZES), plain=plain.pace)
        work = flop(model)
        shares = [pace * work / peak for pace, peak in zip(timed["ours"], timed["peak"], strict=True)]
        found |= spread(f"{model}, images/s", timed["ours"])
        found |= spread(f"{model}, share of the matrix rate", shares)
        found |= spread(f"{model}, against a plain loop", ratios(timed["ours"], timed["plain"]))
    found |= spread("bf16 matrix rate, GFLOP/s", [rate / 1e9 for rate in timed["peak"]])
    timed = alternating(
        1 if quick else 3,
        processes=partial(side_by_side, 2, "resnet20", BATCH, 4),
        threads=partial(side_by_side, 1, "resnet20", BATCH, 4, threads=2),
    )
    return found | spread("two workers of one thread against one of two", ratios(timed["processes"], timed["threads"]))


class PlainLoop:
    """A plain loop: a DataLoader with torchvision's transforms, fp32, a mask by `torch.nn.utils.prune`."""

    def __init__(
        self, model: str, images: torch.Tensor, labels: torch.Tensor, device: torch.device = CPU, workers: int = 0
    ) -> None:
        self.device = device
        self.net, masks = masked(model)
        for name, mask in masks.items():
            prune.custom_from_mask(self.net.get_submodule(name.removesuffix(".weight")), "weight", mask)  # type: ignore[no-untyped-call]
        self.net.to(device)
        self.optimizer = torch.optim.SGD(self.net.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
        self.loader = DataLoader(
            Transformed(images, labels),
            BATCH,
            shuffle=True,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
        )

    def pace(self) -> float:
        """Images per second of one epoch."""
        began = clock(self.device)
        for images, labels in self.loader:
            here = images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)
            self.optimizer.zero_grad()
            F.cross_entropy(self.net(here[0]), here[1]).backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
        return len(self.loader.dataset) / (clock(self.device) - began)  # type: ignore[arg-type]


class Transformed(TensorDataset):
    """Images (N, H, W, C) uint8, each cropped, flipped and normalised by torchvision on access."""

    TRANSFORM = v2.Compose(
        [
            v2.RandomCrop(32, padding=4),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        ]
    )

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        super().__init__(images.permute(0, 3, 1, 2).contiguous(), labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image, label = super().__getitem__(index)  # type: ignore[no-untyped-call]
        return self.TRANSFORM(image), label
