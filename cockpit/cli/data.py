"""`cockpit data`: list, download, check, name and locate data sets."""

import json
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from cockpit.requests import completing
from cockpit.requests.shared import Database, DataDir, Json, to_read, to_write, use_data
from cockpit.text import words
from cockpit.views import tables
from engine.datasets import catalog, folders, npz, places
from engine.datasets.contents import Contents, Counts
from engine.datasets.specs import meant, resolve
from engine.errors import InputError, unknown
from engine.machine import processes
from engine.store import database, located, rows, titles

app = typer.Typer()

HEADINGS = ("data set", "where", "train", "test", "classes", "image", "on disk")
FILE_HEADINGS = ("read from files", "state", "where")
CLASSES_SHOWN = 30
FETCHABLE = tuple(name for name, facts in catalog.SETS.items() if facts.files)
PUBLISHED = (*FETCHABLE, *catalog.PHOTOGRAPHS)


@app.command("list", epilog="Example: cockpit data list")
def list_(data_dir: DataDir = None, as_json: Json = False, db: Database = None) -> None:
    """List the published data sets and where they are, and the files that experiments of the database read."""
    use_data(data_dir)
    sets = [_published(name) for name in (*catalog.SETS, *catalog.PHOTOGRAPHS)]
    files = _files(to_read(db))
    if as_json:
        print(json.dumps({"folders": [str(folder) for folder in places.folders()], "sets": sets, "files": files}))
        return
    tables.show(HEADINGS, [_cells(row) for row in sets], left=2)
    if files:
        print()
        tables.show(FILE_HEADINGS, [[row["name"], row["state"], row["location"]] for row in files], left=3)
    print(f"folders searched: {', '.join(map(str, places.folders()))}", file=sys.stderr)


def _published(name: str) -> dict[str, Any]:
    facts, small = resolve(name), catalog.SETS.get(name)  # None for sets of photographs, whose files are not counted
    comes_along = small is not None and not small.files
    folder = None if comes_along else places.find(name)
    return {
        "name": name,
        "train_images": facts.train_images,
        "test_images": facts.test_images,
        "classes": facts.classes,
        "shape": small.shape if small else facts.shape,
        "state": "comes along" if comes_along else "absent" if folder is None else "there",
        "folder": folder and str(folder),
        "bytes": places.size(name, folder) if folder and small else None,
        "download_bytes": small.download if small else None,
    }


def _cells(row: dict[str, Any]) -> list[str]:
    where = row["folder"] or row["state"]
    if row["state"] == "absent":
        size = row["download_bytes"]
        where += ": from its publisher" if size is None else f": {words.size(size)} to fetch"
    counts = [f"{row[key]:,}" for key in ("train_images", "test_images", "classes")]
    size = "" if row["bytes"] is None else words.size(row["bytes"])
    return [row["name"], where, *counts, "x".join(map(str, row["shape"])), size]


def _files(path: Path) -> list[dict[str, str]]:
    """The data sets of a database that were read from the user's files, and whether they are there, changed or gone."""
    if not path.exists():
        return []
    with closing(database.reader(path)) as connection:
        return [
            {**row.as_json(), "state": _state(row.identity, row.location)} for row in rows.data_set_files(connection)
        ]


def _state(identity: str, location: str) -> str:
    if not location:
        return "unknown"
    return (npz.state if identity.startswith("npz:") else folders.state)(identity, location)


@app.command("get", epilog="Example: cockpit data get fashion-mnist cifar10")
def get(
    names: Annotated[
        list[str],
        typer.Argument(
            help=f"Published data sets: {', '.join(FETCHABLE)}.", autocompletion=completing.among(FETCHABLE)
        ),
    ],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Download published data sets, or replace damaged files; intact files stay. Prints the folder of each set.

    Archives that were copied into the folder are used, so it also unpacks and checks what was fetched elsewhere.
    """
    use_data(data_dir)
    wanted = list(dict.fromkeys(name if meant(name) else catalog.split_part(name)[0] for name in names))
    for name in wanted:
        if name in catalog.PHOTOGRAPHS:
            _holder(name)
        if name not in (*catalog.SETS, *PUBLISHED):
            raise unknown("published data set", name, PUBLISHED)
    found = {}
    for name in wanted:
        if name not in PUBLISHED:
            found[name] = "comes along"
        elif name in catalog.PHOTOGRAPHS:
            found[name] = str(_holder(name))
        else:
            folder = data_dir or places.find(name) or places.folders()[0]
            size = words.size(catalog.SETS[name].download)
            print(f"{name}: checking {folder}, downloading what is not there (up to {size})", file=sys.stderr)
            processes.ask(bool, "engine.datasets.official", name, folder.absolute())
            found[name] = str(folder.absolute())
        if not as_json:
            print(f"{name}: {found[name]}")
    if as_json:
        print(json.dumps(found))


def _holder(name: str) -> Path:
    """The folder that has a published set. Raises InputError if none has it."""
    folder = places.find(name)
    if folder is None:
        raise places.absent(name)
    return folder


@app.command("path", epilog="Example: cockpit data path cifar10")
def path(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A published data set.",
            show_default="the folder downloaded to",
            autocompletion=completing.among(PUBLISHED),
        ),
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Print the folder that data sets are downloaded to, or the one that holds a data set."""
    use_data(data_dir)
    found = places.folders()[0]
    if name is not None:
        base, _ = catalog.split_part(name)
        if base not in PUBLISHED:
            raise unknown("published data set", base, PUBLISHED)
        found = _holder(base)
    print(json.dumps({"folder": str(found)}) if as_json else found)


@app.command("locate", epilog="Example: cockpit data locate npz:photos.npz")
def locate(
    specs: Annotated[
        list[str],
        typer.Argument(
            help="Files and folders where they are now: npz:PATH, folder:PATH, stream:PATH.",
            autocompletion=completing.data_sets,
        ),
    ],
    as_json: Json = False,
    db: Database = None,
) -> None:
    """Record where the files that experiments read are on this machine, whatever they are called there.

    A file is known by its content's hash; `cockpit data list` names those that are looked for.
    """
    try:
        moved = [resolve(spec) for spec in specs]
    except InputError as error:
        raise InputError(error, "; name the path that it has now: its content is compared, not its name") from None
    found: dict[str, str] = {}
    with closing(database.writer(to_write(db))) as connection, database.transaction(connection):
        for spec, data in zip(specs, moved, strict=True):
            names = located.record(connection, data) if data.location else []
            if not names:
                raise InputError(f"no experiment reads {spec}: its content is of no data set in the database")
            found |= dict.fromkeys(names, data.location)
    if as_json:
        print(json.dumps(found))
        return
    for name, place in found.items():
        print(f"{name}: {place}")


@app.command("name", epilog="Example: cockpit data name npz:cifar10.npz CIFAR-10")
def name(
    spec: Annotated[
        str,
        typer.Argument(help="A data set as --source or experiments name it.", autocompletion=completing.data_sets),
    ],
    title: Annotated[str, typer.Argument(help="What charts call it, with all its parts; '' removes that.")],
    as_json: Json = False,
    db: Database = None,
) -> None:
    """Give a data set a display name. It is not part of any run's identity; `store merge` brings it along."""
    with closing(database.writer(to_write(db))) as connection:
        identity = titles.identity_of(connection, spec) or resolve(spec).identity
        outcome = titles.name_data(connection, identity, title)
    print(json.dumps({"data": spec, "name": title or None}) if as_json else f"{spec}: {outcome.said}")


@app.command("check", epilog="Example: cockpit data check npz:photos.npz")
def check(
    spec: Annotated[
        str,
        typer.Argument(
            help=f"A data set as --source names it: cifar10-a, {', '.join(catalog.FORMS)}.",
            autocompletion=completing.data_sets,
        ),
    ],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Read a data set as training would: sample images, classes, halves, mean and deviation, digest.

    The files are verified on the way: those of a published set against the checksums of its publication.
    """
    from cockpit.views import pictures

    use_data(data_dir)
    facts = resolve(spec)
    for absence in places.missing([facts.identity]):
        raise absence
    contents = processes.ask(Contents, "engine.datasets.report", facts.identity, facts.location)
    unused = _unused(facts)
    if as_json:
        about = {"name": facts.name, "identity": facts.identity, "shape": facts.shape, **asdict(contents)}
        print(json.dumps({key: value for key, value in about.items() if key != "samples"} | {"unused": unused}))
        return
    images = f"{facts.train_images:,} training and {facts.test_images:,} test images of {facts.classes} classes"
    print(f"{facts.name}: {images}, {'x'.join(map(str, facts.shape))} as networks see them")
    print(f"mean {_levels(contents.mean)}, deviation {_levels(contents.deviation)} of the training pixels, 0 to 1")
    if contents.sha256:
        print(f"pixels and labels: SHA-256 {contents.sha256}")
    if unused:
        print(f"not read: {', '.join(unused)}")
    _show_classes(contents.counts, " of all" if facts.part else "")
    pictures.show([(str(sample.label), sample.pixels) for sample in contents.samples])


def _unused(facts: catalog.DataSet) -> list[str]:
    """The names in a user's file or folder that are not read."""
    if not facts.location:
        return []
    return (
        npz.unused(facts.location)
        if facts.identity.startswith("npz:")
        else folders.unused(facts.identity, facts.location)
    )


def _levels(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4f}" for value in values)


def _show_classes(counts: Counts, of: str) -> None:
    """The number of images of each class in training, in the halves of the whole set, and in testing."""
    for name, title in (("train", "training"), ("a", f"half a{of}"), ("b", f"half b{of}"), ("test", "test")):
        of_classes = getattr(counts, name)
        least, most = min(of_classes), max(of_classes)
        print(f"{title}: {f'{least:,}' if least == most else f'{least:,} to {most:,}'} images of a class")
    if len(counts.train) <= CLASSES_SHOWN:
        print()
        lines = [[str(label), *map(str, row)] for label, row in enumerate(zip(*vars(counts).values(), strict=True))]
        tables.show(("class", *vars(counts)), lines)
