"""The paper's claims, and what the data says of them, as text and as JSON."""

from dataclasses import asdict
from typing import Any

from cockpit.views.reports import points, ranges
from engine.analysis.claims import HIGH_SPARSITY, Comparison, Finding
from engine.analysis.statistics import CONFIDENCE

GLYPHS = {"supported": "✓", "contradicted": "✗", "undecided": "?", "no data": "·"}
OVERVIEW = ("the data says", "claim")
HEADINGS = ("experiment", "trained", "A", "B", "levels", "A less B, points", "says")
SAYS = {1: "for", -1: "against", 0: "open"}


def verdict(found: Finding) -> str:
    """The verdict with its glyph."""
    return f"{GLYPHS[found.verdict]} {found.verdict}"


def about(found: Finding) -> str:
    """How the verdict came about, or what would make one possible."""
    share = f"levels with {HIGH_SPARSITY * 100:g} % or more pruned"
    if found.verdict == "no data":
        return f"nothing recorded speaks of it: it needs {found.claim.needs}, done at {share}"
    judged = [one for one in found.comparisons if one.judged]
    means = sum(one.difference.mean > 0 for one in judged)
    text = f"{found.claim.measure}, mean over {share}\nmeans above 0, as the claim has it: {means} of {len(judged)}; "
    if not found.telling:
        return text + "no intervals, for lack of a second replicate"
    each = f"{found.confidence * 100:.4g} %"
    if found.telling > 1:
        each += f" each, so that with {CONFIDENCE * 100:g} % all hold"
    above, below = found.count(1), found.count(-1)
    text += f"intervals ({each}) above 0: {above}, below: {below}, around it: {found.telling - above - below}"
    if any(one.replicates_needed for one in judged):
        text += "\nopen, n=N: N replicates would decide it, if mean and deviation stayed as they are"
    return text


def rows(found: Finding) -> list[list[str]]:
    """A row for each comparison under `HEADINGS`."""
    return [
        [
            one.experiment,
            _trained(one),
            one.a,
            one.b,
            ranges(one.levels),
            points(one.difference),
            _says(one),
        ]
        for one in found.comparisons
    ]


def _says(one: Comparison) -> str:
    if not one.judged:
        return "not judged"
    return SAYS[one.decides] + (f", n={one.replicates_needed}" if one.replicates_needed else "")


def _trained(one: Comparison) -> str:
    width = f" x{one.width:g}" if one.width != 1 else ""
    return f"{one.model}{width}, {one.epochs} epochs"


def as_json(found: Finding) -> dict[str, Any]:
    """A finding as a value for JSON; accuracies and fractions lie in [0, 1]."""
    return {
        "claim": found.claim.key,
        "text": found.claim.text,
        "paper": found.claim.where,
        "measure": found.claim.measure,
        "verdict": found.verdict,
        "fraction_pruned": HIGH_SPARSITY,
        "confidence": CONFIDENCE,
        "confidence_of_each": found.confidence,
        "with_interval": found.telling,
        "for": found.count(1),
        "against": found.count(-1),
        "comparisons": [
            {**asdict(one), "says": one.decides, "replicates_needed": one.replicates_needed}
            for one in found.comparisons
        ],
    }
