"""How many weights remain in each layer at a level: exact counts, of each scope. No torch here."""

import math
from collections.abc import Mapping, Sequence

from engine.recipes import Kind, Rule

LAST = 0.2  # of the output layer that uniform+ keeps at the least (Gale et al. 2019, section 3.1)
Shapes = Mapping[str, Sequence[int]]


def pools(shapes: Shapes, kinds: Mapping[str, Kind], rule: Rule, level: float) -> list[tuple[list[str], int]]:
    """The layers whose weights are compared with each other, and how many of these remain together at `level`.

    `shapes` are those of the prunable weights, in the order of the layers; `kinds` are needed where the rule
    `knows_layers`. round(N (1 - rate)^level) of N weights remain. In the scope global layers of one rate are compared,
    in layerwise each has its own count. Where filters are pruned, N and what remains are filters; where the granularity
    is N:M, layers whose input channels M divides keep so many of each M (`of_group`), others all. The other scopes give
    each layer its share of that total:

    - erk: in proportion to the sum of its weight's dimensions, at most all (Evci et al. 2020, section 3: inputs,
      outputs, height and width of the kernel over their product is the density).
    - uniform+: in proportion to its size, but all of the first layer and at least a fifth of the output layer.
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
    """How many weights are pruned as one: those of a filter, or one."""
    return math.prod(shape[1:]) if rule.granularity == "filter" else 1


def of_group(rule: Rule, level: float) -> int:
    """How many weights of each M remain at `level` under N:M: round(M (1 - rate)^level), and at least N."""
    few, many = rule.pattern or (1, 1)
    return max(few, round(many * rule.fraction(level)))


def apportioned(
    total: int, weights: Mapping[str, int], least: Mapping[str, int], most: Mapping[str, int]
) -> dict[str, int]:
    """`total` shared in proportion to `weights`, within `least` and `most`; the earlier first where not even `least`.

    As by giving one after another to where weight / (2 share + 1) is highest (Webster), so that no share grows where
    the total falls: what remains at a level remains at none after it that it did not at those before.
    """
    found, left = dict(least), total - sum(least.values())
    if left < 0:
        for name in found:
            found[name], total = min(least[name], total), max(0, total - least[name])
        return found

    def shares(factor: float) -> dict[str, int]:
        return {n: min(max(math.floor(weights[n] * factor + 0.5), least[n]), most[n]) for n in weights}

    low, high = 0.0, max(most[name] / weights[name] for name in weights)
    for _ in range(100):  # of which few are needed: a float has 53 bits
        middle = (low + high) / 2
        low, high = (middle, high) if sum(shares(middle).values()) <= total else (low, middle)
    found = shares(low)
    from fractions import Fraction  # which commands that add experiments need not import

    for _ in range(total - sum(found.values())):  # at most one for each layer
        open_ = [name for name in found if found[name] < most[name]]
        found[max(open_, key=lambda name: Fraction(weights[name], 2 * found[name] + 1))] += 1
    return found
