"""`cockpit join` and `cockpit cluster keys`: train for the database of another machine."""

import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from cockpit.requests import clusters
from cockpit.requests.shared import DataDir, use_data
from cockpit.text import hints, words
from engine.errors import InputError, OptionName
from engine.machine import devices
from engine.machine.paths import given

app = typer.Typer()

LOOK_SECONDS = 0.2


@app.command("join", epilog="Example: cockpit join tls://lab1:8786 --keys keys")
def join(
    head: Annotated[
        str, typer.Argument(metavar="ADDRESS|FILE", help="Address of the head, or the file cluster.toml that it wrote.")
    ],
    keys: clusters.Keys = None,
    workers: Annotated[
        int | None, typer.Option(help="Worker processes.", show_default="one per CUDA device, else one per core")
    ] = None,
    per_device: Annotated[int, typer.Option(help="Workers per CUDA device.")] = 1,
    split: Annotated[
        int, typer.Option(help="Devices per worker, which then trains only runs queued with the same --split.")
    ] = 1,
    cache: Annotated[
        Path | None,
        typer.Option(
            parser=given,
            metavar="DIR",
            help="Folder for data sets and tickets that the head sends.",
            show_default="in the user's cache",
        ),
    ] = None,
    trust_models: Annotated[
        bool, typer.Option("--trust-models", help="Run the Python code of own models that the head sends.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Train the queue of `cockpit work --cluster` on this machine too. Ctrl-C checkpoints and ends.

    It waits while the head is away, and ends when that was stopped. Nothing is kept here but a cache of files.
    """
    from platformdirs import user_cache_path

    from engine.workers.joined import JoinedPool

    found = clusters.named(head, keys)
    found.address.context(head=False)
    use_data(data_dir)
    if unclear := devices.unclear():
        hints.warn(unclear)
    places = devices.chosen(workers, per_device, split)
    folder = cache or user_cache_path("cockpit") / "cluster"
    for stop in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(stop, _interrupt)
    pool = JoinedPool(found.address, places, folder.absolute(), paths=found.paths, trust_models=trust_models)
    print(f"{words.count(len(places), 'worker')} for {found.address}; the output is in {pool.log}", file=sys.stderr)
    if pool.away:
        print(f"{found.address} does not answer ({pool.away}): waiting for it", file=sys.stderr)
    try:
        while pool.running:
            time.sleep(LOOK_SECONDS)
            if pool.away and found.is_withdrawn:
                pool.stop()
                raise InputError(f"{found.address} does not answer, and {found.path} is gone: start the head again")
    except KeyboardInterrupt:
        try:
            with suppress(OSError):
                print(
                    "stopping: each worker finishes its step and sends a checkpoint (again: stop at once)",
                    file=sys.stderr,
                )
            pool.stop()
        except KeyboardInterrupt:
            pool.kill()
        sys.exit(130)
    pool.close()
    if pool.halted:
        raise InputError(f"workers stopped: {pool.halted}")
    print("the head has stopped, or nothing is left to train", file=sys.stderr)
    sys.exit(1 if pool.crashed else 0)


@app.command("keys", epilog="Example: cockpit cluster keys keys")
def make_keys(
    folder: Annotated[
        Path, typer.Argument(parser=given, metavar="DIR", help="Folder to make, which does not exist yet.")
    ],
    days: Annotated[int, typer.Option(help="Days until they expire.")] = 365,
) -> None:
    """Make the keys of a cluster: copy the folder to every machine, by a way that nobody else reads."""
    from engine.desk import keys

    if folder.exists():
        raise InputError(f"{folder} exists: name a folder that does not, as old keys are not replaced")
    if not 1 <= days <= keys.MOST_DAYS:
        raise InputError(OptionName("days"), f" {days} is out of range (1 to {keys.MOST_DAYS})")
    keys.make(folder, days)
    hints.say(
        f"made {folder}: `cockpit work --cluster tls://:8786 --keys {folder}` here,"
        f" `cockpit join tls://HOST:8786 --keys {folder}` elsewhere"
    )


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
