"""The paper's claims, and what the data says of them, as text and as JSON."""

from dataclasses import asdict
from typing import Any

from cockpit.reports import points, ranges
from engine.claims import HIGH_SPARSITY, Comparison, Finding
from engine.statistics import CONFIDENCE

GLYPHS = {"supported": "✓", "contradicted": "✗", "undecided": "?", "no data": "·"}
OVERVIEW = ("claim", "paper", "what the data says")
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
    measure = f"{found.claim.measure}, mean over {share}"
    if not found.telling:
        return f"{measure}: no comparison has two replicates, so none has an interval"
    counts = f"{found.count(1)} for, {found.count(-1)} against, of {found.telling} with an interval"
    return f"{measure}: {counts}; with {CONFIDENCE * 100:g} % all intervals hold ({found.confidence * 100:.4g} % each)"


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
            SAYS[one.decides] if one.judged else "not judged",
        ]
        for one in found.comparisons
    ]


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
        "comparisons": [{**asdict(one), "says": one.decides} for one in found.comparisons],
    }
