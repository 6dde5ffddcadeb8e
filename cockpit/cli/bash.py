"""Completion in bash of words with a colon, which bash splits: `mine:glo` arrives as three words."""

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout

SEPARATOR = "\n"  # between words, in the installed script


@contextmanager
def whole_words() -> Iterator[None]:
    """While bash asks for completions, join the split words, and answer with the part that bash will replace."""
    words = os.environ.get("COMP_WORDS", "").split(SEPARATOR)
    at = os.environ.get("COMP_CWORD", "")
    if os.environ.get("_COCKPIT_COMPLETE") != "complete_bash" or ":" not in words or not at.isdecimal():
        yield
        return
    joined, place = _joined(words, int(at))
    os.environ |= {"COMP_WORDS": SEPARATOR.join(joined), "COMP_CWORD": str(place)}
    kept = joined[place].rpartition(":") if place < len(joined) else ("", "", "")
    offered = io.StringIO()
    try:
        with redirect_stdout(offered):
            yield
    finally:
        sys.stdout.writelines(line.removeprefix("".join(kept[:2])) for line in offered.getvalue().splitlines(True))


def _joined(words: Sequence[str], at: int) -> tuple[list[str], int]:
    """The words as the user typed them, and the index among them of the word that was at `at`."""
    joined: list[str] = []
    place, open_ = at, False
    for number, word in enumerate(words):
        is_colon = bool(word) and not word.strip(":")
        if joined and (is_colon or (open_ and word)):
            joined[-1] += word
        else:
            joined.append(word)
        open_ = is_colon
        if number == at:
            place = len(joined) - 1
    return joined, place
