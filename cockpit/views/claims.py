"""The verdicts on the paper's claims as text and as JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from cockpit.views.report_tables import agreement, points, ranges
from engine.analysis.claims import HIGH_SPARSITY, Comparison, Finding, Source, Study
from engine.analysis.statistics import CONFIDENCE

GLYPHS = {"supported": "✓", "contradicted": "✗", "undecided": "?", "no data": "·"}
OVERVIEW = ("the data says", "claim")
HEADINGS = ("experiment", "trained", "A", "B", "levels", "A less B, points", "seeds", "each seed", "p", "Holm", "says")
SAYS = {1: "for", -1: "against", 0: "open"}


def verdict(finding: Finding) -> str:
    """The verdict with its glyph."""
    return f"{GLYPHS[finding.verdict]} {finding.verdict}"


def about(finding: Finding) -> str:
    """The reasons for the verdict, or the data that a verdict needs."""
    share = f"levels with {HIGH_SPARSITY * 100:g} % or more pruned"
    if finding.verdict == "no data":
        return f"nothing recorded speaks of it: it needs {finding.claim.needs}, done at {share}"
    text = f"{finding.claim.measure}, mean over {share}\n"
    if not finding.telling:
        most = max(one.difference.n for one in finding.comparisons if one.judged)
        return text + f"too few replicates (n={most})"
    above, below = finding.count(1), finding.count(-1)
    text += f"experiments for it: {above}, against: {below}, open: {finding.telling - above - below}"
    short = len({one.experiment for one in finding.comparisons if one.judged}) - finding.telling
    return text + (f", too few replicates: {short}" if short else "")


def left_out(experiments: Sequence[str]) -> str:
    """Which experiments say nothing of any claim, and why; empty if all count."""
    why = "their tickets are not found or retrained as in the paper (docs/claims.md)"
    return f"not counted, because {why}: {', '.join(experiments)}" if experiments else ""


def rows(finding: Finding) -> list[list[str]]:
    """A row under `HEADINGS` for each comparison, and one for each experiment with several."""
    return [row for study in finding.studies for row in _rows(study)]


def _rows(study: Study) -> Iterator[list[str]]:
    for one in study.comparisons:
        names = one.experiment, _trained(one), one.a, one.b, ranges(one.levels)
        each = " ".join(f"{value * 100:+.1f}" for value in one.difference.seeds.values())
        numbers = points(one.difference), agreement(one.difference), each, *map(_p, (one.difference.p, one.holm))
        yield [*names, *numbers, _says(one)]
    if study.telling > 1:
        votes = f"for: {study.count(1)} of {study.telling}, against: {study.count(-1)}"
        yield [study.experiment, "", votes, *[""] * (len(HEADINGS) - 4), SAYS[study.decides]]


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


def _says(one: Comparison) -> str:
    if not one.judged:
        return "not judged"
    says = "too few" if one.holm is None else SAYS[one.decides]
    return says + (f", n={one.replicates_needed}" if one.replicates_needed else "")


def remarks(finding: Finding) -> list[str]:
    """Remarks on the rows, one per line: the sources compared, replicates at chance, the meaning of n."""
    lines: dict[str, None] = {}  # a set that keeps its order
    if finding.telling:
        lines["an experiment counts its comparisons by p; a comparison says what holds among all of them (Holm)"] = None
    for one in finding.comparisons:
        for name, source in zip((one.a, one.b), one.sources or (), strict=False):
            lines[f"{name}: {_source(source)}"] = None
        for name, collapsed, diverged in zip((one.a, one.b), one.collapsed, one.diverged, strict=True):
            if collapsed:
                lines[f"{one.experiment}: {name}: {collapsed} of its replicates collapsed (accuracy at chance)"] = None
            if diverged:
                lines[f"{one.experiment}: {name}: {diverged} of its replicates diverged (counted at chance)"] = None
    if any(one.difference.method == "permutation" for one in finding.comparisons):
        lines["where a replicate has collapsed or diverged: interval and p of the permutation of signs"] = None
    if any(one.replicates_needed for one in finding.comparisons):
        lines["n=N: N replicates would decide it if mean and deviation stayed as they are"] = None
    return list(lines)


def _source(source: Source) -> str:
    origin = "published" if source.published else "recorded"
    return f"{source.images:,} training images, {source.classes} classes ({origin}); output layer {source.head}"


def _trained(one: Comparison) -> str:
    width = f" x{one.width:g}" if one.width != 1 else ""
    return f"{one.model}{width}, {one.epochs} epochs"


def as_json(finding: Finding) -> dict[str, Any]:
    """A finding as a JSON value; accuracies and fractions are in [0, 1]."""
    return {
        "claim": finding.claim.key,
        "text": finding.claim.text,
        "paper": finding.claim.where,
        "measure": finding.claim.measure,
        "verdict": finding.verdict,
        "fraction_pruned": HIGH_SPARSITY,
        "confidence": CONFIDENCE,
        "with_interval": finding.telling,
        "for": finding.count(1),
        "against": finding.count(-1),
        "experiments": [
            {
                "experiment": study.experiment,
                "says": study.decides,
                "with_interval": study.telling,
                "for": study.count(1),
                "against": study.count(-1),
            }
            for study in finding.studies
        ],
        "comparisons": [_comparison(one) for one in finding.comparisons],
    }


def _comparison(one: Comparison) -> dict[str, Any]:
    sources = one.sources and [source._asdict() for source in one.sources]
    return {**asdict(one), "sources": sources, "says": one.decides, "replicates_needed": one.replicates_needed}
