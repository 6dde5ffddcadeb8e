"""The sample database and docs/results.md: `python docs/publish.py [DB]`.

With DB, a database in which nothing is being trained, `experiments.db` becomes a copy of it without what only its
machine knows, and with the ticket files of one small experiment. With or without it, every table of docs/results.md
and every picture that it shows is made again from `experiments.db`.
"""

import argparse
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import compress
from pathlib import Path

from cockpit.views import claims as claims_as_text
from cockpit.views.report_tables import agreement, points
from engine.analysis import barriers, claims, reports
from engine.analysis.barriers import Barrier
from engine.analysis.claims import FALLEN
from engine.analysis.reports import Report
from engine.machine import processes
from engine.store import care, database, paths, queue
from engine.store.files import Folder

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "experiments.db"
RESULTS = ROOT / "docs" / "results.md"
MARK = "a record of real results: read in place, copied before it is written"
TICKETS = "scopes@digits"  # the experiment whose ticket files go with the sample
MOST = 3_000_000  # bytes of them
# <!-- table fig1a@vgg11 --> ... <!-- end -->: what lies between is made from the database.
MARKED = re.compile(r"(<!-- (\w+)(?: (\S+))? -->\n).*?(<!-- end -->)", re.DOTALL)
PICTURE = re.compile(r"\]\((results/\S+?)\.svg\)")
NEEDED = """
    WITH RECURSIVE needed (id) AS (
      SELECT n.needs_id FROM experiments e JOIN experiment_curves c ON c.experiment_id = e.id
      JOIN curve_points p ON p.curve_id = c.id JOIN run_needs n ON n.run_id = p.run_id WHERE e.name = ?
      UNION SELECT n.needs_id FROM run_needs n JOIN needed d ON n.run_id = d.id
    )
    SELECT sha256, bytes FROM files WHERE run_id IN (SELECT id FROM needed)
"""


def publish(source: Path, sample: Path, experiment: str = TICKETS) -> None:
    """Copy a database in which nothing is being trained, with the ticket files of one experiment and no others."""
    with paths.appearing(sample, replace=True) as made:
        database.snapshot(source, made)
        database.writer(made).close()  # brings it to this version's schema
        with closing(sqlite3.connect(made)) as connection:
            files = dict(connection.execute(NEEDED, (experiment,)).fetchall())
            connection.execute("UPDATE runs SET worker = NULL")
            connection.execute("UPDATE attempts SET worker = NULL")
            for table in ("workers", "pools", "loads"):
                connection.execute(f"DELETE FROM {table}")
            connection.execute("UPDATE datasets SET location = ''")
            for table in ("experiments", "runs"):  # what followed --db, at the end of a command
                connection.execute(
                    f"UPDATE {table} SET command = substr(command, 1, instr(command, ' --db ') - 1)"
                    " WHERE instr(command, ' --db ')"
                )
            connection.execute("REPLACE INTO about VALUES ('sample', ?)", (MARK,))
            connection.commit()
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("VACUUM")
        _publish_tickets(source, sample, experiment, files)


def _publish_tickets(source: Path, sample: Path, experiment: str, files: dict[str, int]) -> None:
    """Put the ticket files of an experiment, and no others, beside the sample. Exit if they are not all there."""
    if sum(files.values()) > MOST:
        sys.exit(f"the ticket files of {experiment} are {sum(files.values()):,} bytes; at most {MOST:,} are published")
    place = database.files_folder(sample)
    kept = place.with_name(f"{place.name}.new")
    shutil.rmtree(kept, ignore_errors=True)
    for folder in (database.files_folder(source), place):  # what the sample has already may be absent from a copy of it
        taken, absent = care.take_tickets(Folder(kept), Folder(folder), files, lambda *_: None)
    if absent or not taken:
        shutil.rmtree(kept, ignore_errors=True)
        sys.exit(f"{source} lacks ticket files of {experiment}: train it there, as docs/sample.toml has it")
    shutil.rmtree(place, ignore_errors=True)
    kept.rename(place)
    print(f"{taken} ticket files of {experiment} published, {sum(files.values()):,} bytes")


def results(text: str, connection: sqlite3.Connection) -> str:
    """`text` with every marked part made again from a database."""

    def made(found: re.Match[str]) -> str:
        begin, kind, name, end = found.groups()
        lines = MAKERS[kind](connection, name) if kind in MAKERS else None
        if lines is None:
            sys.exit(f"{begin.strip()} asks for an unknown part: choose from {', '.join(MAKERS)}")
        return begin + "\n".join(lines) + "\n" + end

    return MARKED.sub(made, text)


def _summary(connection: sqlite3.Connection, _: str | None) -> Iterator[str]:
    """What the database holds, and on what it was trained."""
    yield from _table(
        ["experiment", "trained", "levels", "replicates", "runs", "hours of training"],
        [
            [name, f"{model}{f' x{width:g}' if width != 1 else ''}, {epochs} epochs", levels, replicates, runs, hours]
            for name, model, width, epochs, levels, replicates, runs, hours in connection.execute(
                "SELECT e.name, r.model, r.width, max(r.epochs), max(p.level), count(DISTINCT p.replicate),"
                " count(DISTINCT r.id), round((SELECT sum(seconds) FROM runs WHERE id IN (SELECT run_id"
                " FROM curve_points JOIN experiment_curves o ON o.id = curve_id AND o.experiment_id = e.id)) / 3600, 1)"
                " FROM experiments e JOIN experiment_curves c ON c.experiment_id = e.id"
                " JOIN curve_points p ON p.curve_id = c.id JOIN runs r ON r.id = p.run_id GROUP BY e.id"
            )
        ],
        texts=2,
    )
    runs, hours = connection.execute("SELECT count(*), sum(seconds) / 3600 FROM runs WHERE status = 'done'").fetchone()
    yield f"\nIn all {runs:,} runs, which experiments share, of {hours:.1f} hours:\n"
    versions = "SELECT device_name, profile, torch_version, cockpit_version, count(*) FROM runs GROUP BY 1, 2, 3, 4"
    yield from _table(["device", "profile", "torch", "cockpit", "runs"], connection.execute(versions), texts=4)


def _claims(connection: sqlite3.Connection, _: str | None) -> Iterator[str]:
    """What `cockpit claims` says, a row a claim."""
    yield from _table(
        ["claim", "verdict", "experiments for it", "against", "open", "too few replicates"],
        [
            [
                f"{one.claim.text} ({one.claim.where})",
                one.verdict,
                one.count(1),
                one.count(-1),
                one.telling - one.count(1) - one.count(-1),
                sum(any(pair.judged for pair in study.comparisons) for study in one.studies) - one.telling,
            ]
            for one in claims.findings(connection)
        ],
        texts=2,
    )
    if said := claims_as_text.left_out(claims.left_out(connection)):
        yield f"\n- {said}"


def _comparisons(connection: sqlite3.Connection, key: str | None) -> Iterator[str]:
    """The comparisons of one claim, as `cockpit claims` shows them."""
    (found,) = (one for one in claims.findings(connection) if one.claim.key == key)
    yield from _table(claims_as_text.HEADINGS, [map(_short, row) for row in claims_as_text.rows(found)], texts=5)
    if lines := claims_as_text.remarks(found):
        yield ""
        yield from (f"- {_short(line)}" for line in lines)


def _accuracies(connection: sqlite3.Connection, experiments: str | None) -> Iterator[str]:
    """A row for each curve of experiments: test accuracy at the levels that all of them have, lead over random."""
    assert experiments is not None
    names = experiments.split(",")
    curves = [one for name in names for one in _trained(connection, name)]
    if not curves:
        yield "Nothing is done yet."
        return
    shared = set.intersection(*({level.level for level in one.levels} for one in curves))
    left = {level.level: f"{(1 - level.fraction_pruned) * 100:.4g}" for level in curves[0].levels}
    levels = [level for level in left if level in shared]
    rows = [[one.curve.experiment, _short(one.curve.name), *_cells(one, levels)] for one in curves]
    headings = ["experiment", "weights remaining, %", *(left[level] for level in levels)]
    headings += [f"lead over random at {left[levels[-1]]} %", "seeds"]
    # The experiment is named where it is one of several, the lead where there are random tickets.
    told = [len(names) > 1, *[True] * (len(headings) - 3), *[any(row[-2] for row in rows)] * 2]
    headings, *rows = ([*compress(row, told)] for row in [headings, *rows])
    yield from _table(headings, rows, texts=1 + told[0])


def _trained(connection: sqlite3.Connection, experiment: str) -> list[Report]:
    queue.experiment_id(connection, experiment)
    return [one for one in reports.of(connection, experiment) if one.curve.ticket != "dense" and one.levels]


def _barriers(connection: sqlite3.Connection, experiments: str | None) -> Iterator[str]:
    """A row for each curve of lines: the error barrier on the test images at each level, in points."""
    assert experiments is not None
    found = [(name, one) for name in experiments.split(",") for one in barriers.read(connection, name)]
    left = {one.level: f"{(1 - one.fraction_pruned) * 100:.4g}" for _, one in found}
    by_curve: dict[tuple[str, str], dict[int, Barrier]] = {}
    for name, one in found:
        by_curve.setdefault((name, one.curve), {})[one.level] = one
    yield from _table(
        ["experiment", "weights remaining, %", *left.values()],
        [
            [name, _short(curve), *(_barrier(levels.get(level)) for level in left)]
            for (name, curve), levels in by_curve.items()
        ],
        texts=2,
    )


def _barrier(one: Barrier | None) -> str:
    if one is None:
        return ""
    spread = "" if one.test.std is None else f" ± {one.test.std * 100:.1f}"
    return f"{one.test.mean * 100:.1f}{spread}"


def _cells(one: Report, levels: Sequence[int]) -> Iterator[str]:
    found = {level.level: level for level in one.levels}
    for level in map(found.__getitem__, levels):
        spread = "" if level.accuracy.std is None else f" ± {level.accuracy.std * 100:.1f}"
        said = [f"{count} {what}" for what in FALLEN if (count := getattr(level, what))]
        if level.accuracy.n < level.replicates:
            said.insert(0, f"n={level.accuracy.n} of {level.replicates}")
        yield f"{level.accuracy.mean * 100:.1f}{spread}" + (f" ({', '.join(said)})" if said else "")
    last = found[levels[-1]].minus_random
    yield from (points(last), agreement(last)) if last else ("", "")


def _short(name: str) -> str:
    """A curve's or data set's name without what all in the sample have in common."""
    return re.sub(r"npz:(\w+?(?:-[ab])?)(-\d+)?(?=[ :]|$)", r"\1", name)


def _table(headings: Sequence[str], rows: Iterable[Iterable[object]], texts: int = 1) -> Iterator[str]:
    yield f"| {' | '.join(headings)} |"
    yield f"| {' | '.join(['---'] * texts + ['---:'] * (len(headings) - texts))} |"
    for row in rows:
        yield f"| {' | '.join(map(str, row))} |"


MAKERS: dict[str, Callable[[sqlite3.Connection, str | None], Iterator[str]]] = {
    "summary": _summary,
    "claims": _claims,
    "comparisons": _comparisons,
    "accuracies": _accuracies,
    "barriers": _barriers,
}


def draw(text: str, sample: Path, folder: Path) -> None:
    """Draw the pictures that a text shows, each of the experiment whose name begins like it; NAME-barriers of lines."""
    with closing(database.reader(sample)) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM experiments ORDER BY id")]
    for picture in PICTURE.findall(text):
        begins = Path(picture).name.removesuffix("-barriers")
        name = next(one for one in names if one.partition("@")[0] == begins)
        verb = "figure" if begins == Path(picture).name else "connect"
        command = [verb, name, "-o", str(folder / f"{picture}.svg"), "--db", str(sample)]
        subprocess.run([*processes.python("cockpit"), *command], env=processes.environment(), check=True)


def main() -> None:
    """Make the sample and what is said of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("database", nargs="?", type=Path, metavar="DB", help="what experiments.db becomes a copy of")
    parser.add_argument("--no-pictures", action="store_true", help="leave the pictures of docs/results as they are")
    options = parser.parse_args()
    if options.database:
        publish(options.database, SAMPLE)
    text = RESULTS.read_text()
    with closing(database.reader(SAMPLE)) as connection:
        RESULTS.write_text(results(text, connection))
    if not options.no_pictures:
        draw(text, SAMPLE, RESULTS.parent)


if __name__ == "__main__":
    main()
