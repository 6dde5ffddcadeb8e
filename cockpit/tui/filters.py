"""The words typed after `/` that filter experiments and texts."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from engine.store.row_types import Experiment

KEYS: Mapping[str, Callable[[Experiment], Sequence[str]]] = {
    "status": lambda row: [row.status],
    "tag": lambda row: row.tags,
    "name": lambda row: [row.name],
    "source": lambda row: row.sources,
    "target": lambda row: row.targets,
}
HINT = "status: tag: name: source: target: or any word; - in front excludes, as in  tag:paper -status:done"
_WORD = re.compile(r"(?P<no>[-!]?)(?:(?P<key>" + "|".join(KEYS) + r"):)?(?P<value>\S*)")


def has(texts: Iterable[object], typed: str) -> bool:
    """Whether these texts contain all typed words, and none of those after a - or !.

    A hyphen within a word matches a space: screens write `digits a` for the data set `digits-a`.
    """
    said = " ".join(map(str, texts)).lower().replace("-", " ")
    words = [(word[0] in "-!", word.lstrip("-!")) for word in typed.lower().split()]
    return all((word.replace("-", " ") in said) != excluded for excluded, word in words if word)


def matches(row: Experiment, text: str) -> bool:
    """Whether all words match an experiment: a tag must begin with a word, other texts contain it."""
    return all(_matches(row, word) for word in text.lower().split())


def _matches(row: Experiment, word: str) -> bool:
    found = _WORD.fullmatch(word)
    assert found is not None
    key, value = found["key"], found["value"]
    if not value:  # incomplete, as in `status:`
        return True
    if key == "tag":
        hit = any(tag.lower().startswith(value) for tag in row.tags)
    else:
        texts = KEYS[key](row) if key else [text for values in KEYS.values() for text in values(row)]
        hit = any(value in text.lower() for text in (*texts, *([] if key else [row.notes or ""])))
    return hit != bool(found["no"])
