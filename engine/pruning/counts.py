"""Exact counts of the weights that remain in each layer at a level, for each scope. Imports no torch."""

import math
from collections.abc import Mapping, Sequence

from engine.recipes import Kind, Rule

LAST = 0.2  # the least fraction of the output layer that uniform+ keeps (Gale et al. 2019, section 3.1)
Shapes = Mapping[str, Sequence[int]]


def pools(shapes: Shapes, kinds: Mapping[str, Kind], rule: Rule, level: float) -> list[tuple[list[str], int]]:
    """Groups of layers whose weights compete with each other, and how many weights of each group remain at `level`.

    `shapes` are the shapes of the prunable weights, in the order of the layers. A rule that `knows_layers` needs
    `kinds`. round(N (1 - rate)^level) of N weights remain. With the scope global, layers of one rate form a group; with
    layerwise each layer is a group. With the granularity filter, all counts are of filters. With N:M, a layer whose
    input channels are a multiple of M keeps `of_group` weights of each M, and any other layer keeps all. The other
    scopes make each layer a group with a share of the total:

    - erk: in proportion to the sum of its weight's dimensions, at most all. So its density is the sum of inputs,
      outputs, kernel height and width, over their product, times a constant (Evci et al. 2020, section 3).
    - uniform+: in proportion to its size; but all of the first layer, and at least a fifth of the output layer (Gale
      et al. 2019, section 3.1).
    """
    if rule.pattern:
        many = rule.pattern[1]
        grouped = {name: shape[1] % many == 0 for name, shape in shapes.items()}
        kept = {name: of_group(rule, level) if grouped[name] else many for name in shapes}
        return [([name], math.prod(shape) * kept[name] // many) for name, shape in shapes.items()]
    sizes = {name: math.prod(shape) // unit(shape, rule) for name, shape in shapes.items()}
    if rule.scope in ("erk", "uniform+"):
        weights, least = sizes, dict.fromkeys(sizes, 0)
        if rule.scope == "erk":
            weights = {name: sum(shape) for name, shape in shapes.items()}
        else:
            least = {name: math.ceil(LAST * size) if kinds[name] == "output" else 0 for name, size in sizes.items()}
            first = next(iter(sizes))
            least[first] = sizes[first]
        total = round(sum(sizes.values()) * rule.fraction(level))
        shares = apportioned(total, weights, least, sizes)
        return [([name], shares[name]) for name in shapes]
    found: dict[str | float, list[str]] = {}
    for name in shapes:
        rate = rule.rate_of(kinds[name]) if rule.knows_layers else 0.0
        found.setdefault(name if rule.scope == "layerwise" else rate, []).append(name)
    return [
        (names, round(sum(sizes[name] for name in names) * rule.fraction(level, kinds.get(names[0], "conv"))))
        for names in found.values()
    ]


def unit(shape: Sequence[int], rule: Rule) -> int:
    """The number of weights that are pruned together: the size of a filter, or 1."""
    return math.prod(shape[1:]) if rule.granularity == "filter" else 1


def of_group(rule: Rule, level: float) -> int:
    """The number of weights of each M that remain at `level` under N:M: round(M (1 - rate)^level), at least N."""
    few, many = rule.pattern or (1, 1)
    return max(few, round(many * rule.fraction(level)))


def apportioned(
    total: int, weights: Mapping[str, int], least: Mapping[str, int], most: Mapping[str, int]
) -> dict[str, int]:
    """Divide `total` in proportion to `weights`, within the bounds `least` and `most`.

    If `total` is below the sum of `least`, earlier names receive their least first. Otherwise this is
    Webster's method: give units one by one to the name with the highest weight / (2 share + 1). Under it no share grows
    when the total falls, so no layer keeps more weights at a level than at the level before.
    """
    found, left = dict(least), total - sum(least.values())
    if left < 0:
        for name in found:
            found[name], total = min(least[name], total), max(0, total - least[name])
        return found

    def shares(factor: float) -> dict[str, int]:
        return {n: min(max(math.floor(weights[n] * factor + 0.5), least[n]), most[n]) for n in weights}

    low, high = 0.0, max(most[name] / weights[name] for name in weights)
    for _ in range(100):  # enough to narrow down to one float
        middle = (low + high) / 2
        low, high = (middle, high) if sum(shares(middle).values()) <= total else (low, middle)
    found = shares(low)
    from fractions import Fraction  # imported late: commands that add experiments need it rarely

    for _ in range(total - sum(found.values())):  # at most one for each layer
        open_ = [name for name in found if found[name] < most[name]]
        found[max(open_, key=lambda name: Fraction(weights[name], 2 * found[name] + 1))] += 1
    return found
