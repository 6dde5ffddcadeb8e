"""Named streams of random numbers. Each use has its own stream, keyed by (name, seed), so that uses are independent.

Weights and permutations are drawn on the CPU by torch's generator. Data order and augmentation are computed from
(seed, epoch, index) with 32-bit integer arithmetic, which gives the same bits on every device and in any order.
"""

import hashlib

import torch
from torch import Tensor


def key(stream: str, *numbers: int) -> int:
    """A 63-bit key for the stream of this name and these numbers."""
    text = "/".join([stream, *map(str, numbers)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(stream: str, seed: int) -> torch.Generator:
    """A CPU generator for the stream of this name and seed."""
    return torch.Generator().manual_seed(key(stream, seed))


def hash32(values: Tensor, stream_key: int) -> Tensor:
    """The 32-bit hashes, as int64, of `values` (int64, below 2^32) under a key.

    Twice the mixing function `lowbias32` of C. Wellons (2018), keyed before each round.
    """
    low, high = stream_key & 0xFFFFFFFF, stream_key >> 32
    return _mix(_mix((values ^ low) & 0xFFFFFFFF) ^ high)


def _mix(values: Tensor) -> Tensor:
    # The product may overflow int64, but its low 32 bits are right, and only those are kept.
    values = values ^ (values >> 16)
    values = (values * 0x7FEB352D) & 0xFFFFFFFF
    values = values ^ (values >> 15)
    values = (values * 0x846CA68B) & 0xFFFFFFFF
    return values ^ (values >> 16)


def permutation(count: int, stream_key: int, device: torch.device | str = "cpu") -> Tensor:
    """A permutation of 0..count-1 (int64, on `device`): indices in the order of their hashes, ties by index."""
    index = torch.arange(count, device=device)
    return torch.sort((hash32(index, stream_key) << 31) | index).values & 0x7FFFFFFF
