"""A joined worker in a network namespace, whose link to the head is cut and restored."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from engine.desk import keys
from engine.store import database, leases
from tests import heads
from tests.faults import outcomes
from tests.waiting import wait_until

HEAD, FAR = "192.0.2.1", "192.0.2.2"
LEASE = 10.0  # seconds; two minutes in the product
PATIENCE = 4.0  # of a worker for an answer; two minutes in the product
WAIT = 90.0


class Link:
    """Two network namespaces, the head's and a worker's, with a link between them and no real network."""

    def __init__(self) -> None:
        self.head, self.far = (f"cockpit-{os.getpid()}-{name}" for name in ("head", "far"))

    def make(self) -> None:
        """Make namespaces and link. Raises CalledProcessError or FileNotFoundError if that is not possible."""
        for network in (self.head, self.far):
            _ip("netns", "add", network)
        _ip("-n", self.head, "link", "add", "end", "type", "veth", "peer", "name", "end", "netns", self.far)
        for network, address in ((self.head, HEAD), (self.far, FAR)):
            _ip("-n", network, "addr", "add", f"{address}/30", "dev", "end")
            _ip("-n", network, "link", "set", "lo", "up")
            _ip("-n", network, "link", "set", "end", "up")

    def cut(self) -> None:
        """Cut the link."""
        _ip("-n", self.head, "link", "set", "end", "down")

    def mend(self) -> None:
        """Restore the link."""
        _ip("-n", self.head, "link", "set", "end", "up")

    def remove(self) -> None:
        """Remove namespaces and link."""
        for network in (self.head, self.far):
            subprocess.run(["ip", "netns", "del", network], capture_output=True, check=False)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], capture_output=True, check=True)


@pytest.fixture
def link() -> Iterator[Link]:
    link = Link()
    try:
        link.make()
    except (OSError, subprocess.CalledProcessError) as error:
        link.remove()
        pytest.skip(f"may not make a network namespace here: {error}")
    yield link
    link.remove()


def attempts(path: Path) -> list[tuple[str, int]]:
    with closing(database.reader(path)) as connection:
        return [
            tuple(row) for row in connection.execute("SELECT outcome, count(*) FROM attempts GROUP BY 1 ORDER BY 1")
        ]


def under_way(path: Path) -> bool:
    """Whether a run has both an epoch and a checkpoint."""
    with closing(database.reader(path)) as connection:
        running = "SELECT r.digest FROM runs r JOIN epochs e ON e.run_id = r.id WHERE r.status = 'running'"
        digests = {digest for (digest,) in connection.execute(running)}
    return any((database.files_folder(path) / "checkpoints" / f"{digest}.safetensors").exists() for digest in digests)


def is_done(path: Path) -> bool:
    with closing(database.reader(path)) as connection:
        return not leases.unfinished(connection)


@pytest.mark.slow
def test_a_worker_whose_link_was_cut_for_longer_than_its_lease_changes_nothing(
    path: Path, tmp_path: Path, link: Link, undisturbed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", LEASE)
    monkeypatch.setattr(leases, "RENEWAL_SECONDS", LEASE / 4)
    keys.make(tmp_path / "keys", days=1)
    with ExitStack() as ended, heads.leading(path, host=HEAD, network=link.head, keys=tmp_path / "keys") as address:
        far = heads.join(address, tmp_path / "far", "--checkpoint-seconds", 0, network=link.far, patience=PATIENCE)
        ended.callback(far.kill)
        wait_until(lambda: under_way(path), WAIT)
        link.cut()
        near = heads.join(address, tmp_path / "near", network=link.head)
        ended.callback(near.kill)
        wait_until(lambda: is_done(path), WAIT)
        before = outcomes.everything(path)
        link.mend()
        log = tmp_path / "far.log"
        wait_until(lambda: "was taken from this worker" in log.read_text(), WAIT)
        assert outcomes.everything(path) == before
        for worker in (far, near):
            worker.terminate()
        for worker in (far, near):
            worker.join(WAIT)
        assert (far.exitcode, near.exitcode) == (0, 0), log.read_text()
    outcomes.check_done_once(path)
    assert outcomes.outcome(path) == undisturbed
    assert attempts(path) == [("done", 13), ("lost", 1)]


@pytest.mark.slow
def test_a_worker_whose_link_comes_back_within_its_lease_keeps_its_run(
    path: Path, tmp_path: Path, link: Link, undisturbed: dict[str, Any]
) -> None:
    keys.make(tmp_path / "keys", days=1)
    with (
        ExitStack() as ended,
        heads.leading(path, host=HEAD, network=link.head, keys=tmp_path / "keys", drain=True) as address,
    ):
        far = heads.join(address, tmp_path / "far", "--checkpoint-seconds", 0, network=link.far, patience=PATIENCE)
        ended.callback(far.kill)
        wait_until(lambda: under_way(path), WAIT)
        link.cut()
        wait_until(lambda: "does not answer" in (tmp_path / "far.log").read_text(), WAIT)
        link.mend()
        far.join(WAIT)
        assert far.exitcode == 0, (tmp_path / "far.log").read_text()
    outcomes.check_done_once(path)
    assert outcomes.outcome(path) == undisturbed
    assert attempts(path) == [("done", 13)]
