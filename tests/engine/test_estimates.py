"""Estimates: against a plain simulation, against what the real queue hands out, and from what was measured."""

import heapq
import json
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cockpit.requests import remaining
from cockpit.requests.outlook import assumed, basis
from engine.analysis import estimates
from engine.analysis.estimates import Card, Estimate, Place, Unknown, Untaken, estimate, schedule
from engine.analysis.previews import preview, previews
from engine.machine import processes
from engine.plan.defining import define
from engine.plan.experiments import curves
from engine.recipes import Line, Run
from engine.store import adding, database, leases, queue, records
from tests.conftest import TINY, add
from tests.databases import worker

TIMES = {"digits-a": 3.0, "digits-b": 5.0, "digits": 7.0}


def places(count: int, name: str = "cpu", model: str | None = None, split: int | None = None) -> list[Place]:
    return [Place(Card.of(name, model), "lab1", split)] * count


def train(
    connection: sqlite3.Connection, claim: leases.Claim, seconds: float, device: str = "cpu", model: str | None = None
) -> None:
    records.start(connection, claim, 1, {"device": device, "device_name": model}, [])
    records.done(connection, claim, 0.5, 0, seconds)


def train_all(connection: sqlite3.Connection, times: dict[str, float] = TIMES, device: str = "cpu") -> None:
    holder = worker(connection)
    while claim := leases.claim(connection, holder):
        train(connection, claim, times[claim.run.training.dataset], device)


def brute_force(
    seconds: list[list[int]], needs: list[tuple[int, int]], pools: list[list[int]], takers: list[int]
) -> tuple[list[int], list[int]]:
    """Second by second: what is free takes the first run of its pool that can start. Each takes a second or more."""
    ends: dict[int, int] = {}
    took: dict[int, int] = {}
    slots = [(pool, kind) for pool, kinds in enumerate(pools) for kind in kinds]
    free_at = [0] * len(slots)
    now = 0
    while len(ends) < len(seconds):
        for run in range(len(seconds)):
            free = [slot for slot, end in enumerate(free_at) if end <= now and slots[slot][0] == takers[run]]
            met = all(ends.get(needed, now + 1) <= now for one, needed in needs if one == run)
            if free and met and run not in ends:
                took[run] = seconds[run][slots[free[0]][1]]
                ends[run] = free_at[free[0]] = now + took[run]
        now += 1
    return [ends[run] for run in range(len(seconds))], [took[run] for run in range(len(seconds))]


@pytest.mark.parametrize("seed", range(60))
def test_the_schedule_is_that_of_a_plain_simulation(seed: int) -> None:
    draw = random.Random(seed)
    count = draw.randrange(1, 25)
    ranks = draw.sample(range(count), count)  # needed runs may come later in the order
    needs = [(ranks[a], ranks[b]) for a in range(count) for b in range(a) if draw.random() < 0.15]
    seconds = [[draw.randrange(1, 6) for _ in range(3)] for _ in range(count)]
    pools = [[draw.randrange(3) for _ in range(draw.randrange(1, 5))] for _ in range(draw.randrange(1, 3))]
    takers = [draw.randrange(len(pools)) for _ in range(count)]
    assert schedule(seconds, needs, pools, takers) == brute_force(seconds, needs, pools, takers)


@pytest.mark.parametrize("slots", [1, 3])
def test_experiments_end_when_the_real_queue_would_end_them(
    connection: sqlite3.Connection, path: Path, slots: int
) -> None:
    add(path, "measured", source=["digits-a", "digits"], replicates=1)
    train_all(connection)
    for number, name in enumerate(("low", "wide", "high", "halted")):
        source = ["digits-a", "digits"] if name == "wide" else ["digits-a"]
        added = add(path, name, source=source, replicates=2, seed=number, random=["global", "local"])
        queue.move(connection, added.experiment, {"low": -1, "high": 5}.get(name, 0))
    queue.set_state(connection, added.experiment, "paused")
    found, total = estimate(connection, [], places(slots))
    assert set(found) == {"low", "wide", "high"}

    wanted = {
        name: {
            row[0] for row in connection.execute(leases.WANTED, {"experiment": queue.experiment_id(connection, name)})
        }
        for name in found
    }
    holder, time, ends = worker(connection), 0.0, dict[int, float]()
    busy: list[tuple[float, int, leases.Claim]] = []
    while True:
        while len(busy) < slots and (claim := leases.claim(connection, holder)):
            ends[claim.run_id] = time + TIMES[claim.run.training.dataset]
            heapq.heappush(busy, (ends[claim.run_id], claim.run_id, claim))
        if not busy:
            break
        time = busy[0][0]
        while busy and busy[0][0] == time:
            ended = heapq.heappop(busy)[2]
            train(connection, ended, TIMES[ended.run.training.dataset])
    for name, one in found.items():
        assert one.runs == len(wanted[name] & set(ends))
        assert one.seconds == max(ends[run] for run in wanted[name] & set(ends))
    assert (total.runs, total.seconds) == (len(ends), time)
    assert total.device_seconds <= slots * time


def test_an_experiment_that_is_named_counts_as_active(connection: sqlite3.Connection, path: Path) -> None:
    add(path, "measured", replicates=1, seed=9)
    train_all(connection)
    one = add(path, "one")
    add(path, "other", seed=3)
    active = estimate(connection, ["one"], places(2))
    queue.set_state(connection, one.experiment, "paused")
    assert estimate(connection, ["one"], places(2)) == active
    assert list(estimate(connection, [], places(2))[0]) == ["other"]


def one_run(path: Path, name: str, **options: Any) -> None:
    add(path, name, **{"levels": 0, "replicates": 1, "random": ["none"], "target": ["digits-a"], **options})


def seconds_of(connection: sqlite3.Connection, name: str, device: str = "cpu") -> tuple[float, tuple[Unknown, ...]]:
    found, _ = estimate(connection, [name], places(1, device))
    return found[name].device_seconds, found[name].untimed


def test_times_are_medians_of_the_same_kind_else_scaled_by_pixels_and_epochs_else_unknown(
    connection: sqlite3.Connection, path: Path
) -> None:
    holder = worker(connection)
    for seed, seconds in enumerate((1.0, 2.0, 9.0)):
        one_run(path, f"seed {seed}", seed=seed)
        claim = leases.claim(connection, holder)
        assert claim is not None
        train(connection, claim, seconds)
    one_run(path, "same", seed=10)
    one_run(path, "longer", epochs=6, seed=11)
    one_run(path, "other set", source=["digits"], target=["digits"], seed=12)
    one_run(path, "wider", width=0.5, seed=13)
    one_run(path, "held out", validation=0.25, seed=14)
    one_run(path, "tested less", test_images=100, seed=15)
    assert seconds_of(connection, "same") == (2.0, ())
    for name, seconds in (
        ("longer", 2.0 * 6 / 2),
        ("other set", 2.0 * 1257 / 629),
        ("held out", 2.0),  # no such run has ended
        ("tested less", 2.0),  # nor such a run
    ):
        found, unknown = seconds_of(connection, name)
        assert found == pytest.approx(seconds)
        assert unknown == ()
    assert seconds_of(connection, "wider") == (0.0, (Unknown("vgg-digits", "digits-a", 1),))
    assert seconds_of(connection, "same", "cuda:0") == (0.0, (Unknown("vgg-digits", "digits-a", 1),))
    _, total = estimate(connection, [], places(1))
    assert (total.runs, total.timed) == (6, 5)


def test_runs_on_another_card_neither_spoil_an_estimate_nor_count_as_zero(
    connection: sqlite3.Connection, path: Path
) -> None:
    holder, slow, fast, other = worker(connection), "Tesla T4", "NVIDIA H100", "NVIDIA B200"
    took = ((slow, 100.0), (slow, 110.0), (slow, 120.0), (fast, 10.0), ("AMD EPYC", 1000.0))
    for seed, (model, seconds) in enumerate(took):
        one_run(path, f"seed {seed}", seed=seed)
        claim = leases.claim(connection, holder)
        assert claim is not None
        train(connection, claim, seconds, "cpu" if model == "AMD EPYC" else "cuda:3", model)
    one_run(path, "next", seed=10, replicates=2)

    def done_in(*where: Place) -> tuple[float, float]:
        found = estimate(connection, ["next"], where)[0]["next"]
        assert found.untimed == ()
        return found.seconds, found.device_seconds

    (on_slow,), (on_fast,) = places(1, "cuda:0", slow), places(1, "cuda:0+cuda:1", fast)
    assert done_in(on_slow) == (220.0, 220.0)
    assert done_in(on_fast) == (20.0, 20.0)
    assert done_in(on_slow, on_fast) == (110.0, 120.0)  # one run each: the first free device takes the next
    assert done_in(*places(1, "cuda:0", other)) == (210.0, 210.0)  # the median of all CUDA cards
    assert done_in(on_fast, *places(1, "mps", "M3 GPU")) == (10.0, 20.0)  # no such device has trained
    assert done_in(*places(2, "cpu", "AMD EPYC")) == (1000.0, 2000.0)


def test_only_workers_of_as_many_devices_as_a_run_is_split_over_count_for_it(
    connection: sqlite3.Connection, path: Path
) -> None:
    holder = worker(connection)
    for split, seconds in ((1, 100.0), (2, 60.0)):
        one_run(path, f"measured {split}", split=split)
        claim = leases.claim(connection, holder, split=split)
        assert claim is not None
        train(connection, claim, seconds, "cuda:0", "H100")
    one_run(path, "single", replicates=4, seed=20)
    one_run(path, "pairs", replicates=2, seed=20, split=2)
    singles, pairs = places(2, "cuda:0", "H100", split=1), places(1, "cuda:1+cuda:2", "H100", split=2)

    def found(*where: Place) -> tuple[float, float, tuple[Untaken, ...]]:
        each, total = estimate(connection, [], where)
        assert total.untaken == each["single"].untaken + each["pairs"].untaken
        assert (total.timed, total.untimed) == (6 - sum(one.runs for one in total.untaken), ())
        return each["single"].seconds, each["pairs"].seconds, total.untaken

    assert found(*singles, *pairs) == (200.0, 120.0, ())
    assert found(*singles) == (200.0, 0.0, (Untaken(2, 2),))
    assert found(*pairs, *pairs) == (0.0, 60.0, (Untaken(1, 4),))
    free = places(2, "cuda:0", "H100")  # devices without workers: what the queue needs is started there
    assert found(*free) == (200.0, 120.0, ())
    assert found(*free[:1]) == (400.0, 0.0, (Untaken(2, 2),))
    (said,) = basis(estimate(connection, [], singles)[1], singles)[1:]
    assert said == "no worker takes 2 runs that are split over 2 devices: `cockpit work --split 2`"
    left = remaining._said(estimate(connection, ["pairs"], singles)[1])
    assert left == remaining.UNKNOWN
    assert remaining._said(estimate(connection, [], singles)[1]).startswith("> ")


@pytest.mark.parametrize("column", ["seconds", "device"])
def test_runs_without_time_or_device_are_not_measured(connection: sqlite3.Connection, path: Path, column: str) -> None:
    add(path, "a", **{**TINY, "replicates": 2})
    train_all(connection)
    connection.execute(f"UPDATE runs SET {column} = NULL WHERE seed = 1")
    add(path, "b", **{**TINY, "replicates": 4})
    _, found = estimate(connection, ["b"], places(1))
    assert found.runs
    assert not found.untimed
    connection.execute(f"UPDATE runs SET {column} = NULL")
    _, found = estimate(connection, ["b"], places(1))
    assert found.untimed


def test_a_run_under_way_stays_on_its_card(connection: sqlite3.Connection, path: Path) -> None:
    holder = worker(connection)
    for seed, (model, seconds) in enumerate((("H100", 100.0), ("T4", 1000.0))):
        one_run(path, f"measured {model}", seed=seed)
        claim = leases.claim(connection, holder)
        assert claim is not None
        train(connection, claim, seconds, "cuda:0", model)
    one_run(path, "one", seed=5, replicates=2)
    claim = leases.claim(connection, holder)
    assert claim is not None
    records.start(connection, claim, 1, {"device": "cuda:0", "device_name": "T4"}, [])
    connection.execute("UPDATE runs SET started_at = ? WHERE id = ?", (database.now(-400.0), claim.run_id))
    where = places(1, "cuda:0", "H100") + places(1, "cuda:0", "T4")
    found = estimate(connection, ["one"], where)[0]["one"]
    assert found.seconds == pytest.approx(600.0, abs=5.0)
    assert found.device_seconds == pytest.approx(700.0, abs=5.0)


def test_an_estimate_assumes_the_workers_of_all_machines(connection: sqlite3.Connection) -> None:
    assert [place.card.kind for place in estimates.places(None)] == [
        one.card.kind for one in estimates.places(connection)
    ]
    for host, device, model, ended in (
        ("lab2", "cuda:0+cuda:1", "H100", None),
        ("lab3", "cpu", "EPYC", None),
        ("x", "cpu", "", ""),
    ):
        connection.execute(
            "INSERT INTO workers (pid, host, device, device_name, started_at, heartbeat_at, ended_at)"
            " VALUES (1, ?, ?, ?, ?, ?, ?)",
            (host, device, model, database.now(), database.now(), ended),
        )
    assert estimates.places(connection) == [
        Place(Card("cuda", "H100"), "lab2", 2),
        Place(Card("cpu", "EPYC"), "lab3", 1),
    ]
    assert assumed(estimates.places(connection)) == "2 workers on 2 machines: 1 x 2 H100, 1 x EPYC"
    assert assumed(estimates.places(connection)[:1]) == "1 worker on lab2: 1 x 2 H100"
    here = processes.place().host
    assert assumed([Place(Card("cpu", "EPYC"), here, 1)] * 2) == "2 workers on this machine"
    assert assumed([Place(Card("cpu", "EPYC"), here)]) == "1 device of this machine"
    connection.execute("UPDATE workers SET heartbeat_at = ?", (database.now(-120.0),))  # silent workers train nothing
    assert {place.host for place in estimates.places(connection)} == {here}


def test_runs_of_other_test_images_are_of_another_kind(connection: sqlite3.Connection, path: Path) -> None:
    holder = worker(connection)
    limits = (None, 10, 100)
    for limit in limits:
        one_run(path, f"{limit}", test_images=limit)
        claim = leases.claim(connection, holder)
        assert claim is not None
        train(connection, claim, 1.0 if limit is None else float(limit))
    for limit in limits:
        again = define(
            **{
                **TINY,
                "levels": 0,
                "random": ["none"],
                "target": ["digits-a"],
                "replicates": 1,
                "seed": 9,
                "test_images": limit,
            }
        )
        _, total = preview(connection, [again], places(1))
        assert total.estimate.device_seconds == (limit or 1.0)


def test_the_time_of_a_line_is_that_of_lines_of_as_many_points(connection: sqlite3.Connection, path: Path) -> None:
    lines = {"levels": 0, "random": ["none"], "target": ["digits-a"], "replicates": 1}
    add(path, "three", **lines, connect=3)
    holder = worker(connection)
    while claim := leases.claim(connection, holder):
        train(connection, claim, 5.0 if isinstance(claim.run.ticket, Line) else 1.0)
    for seed, points, expected in ((1, 3, 3 * 1.0 + 5.0), (2, 5, 3 * 1.0)):
        more = define(**{**TINY, **lines, "connect": points, "seed": seed})
        _, total = preview(connection, [more], places(1))
        assert total.estimate.device_seconds == pytest.approx(expected)
        assert total.estimate.timed == (4 if points == 3 else 3)
        add(path, f"{points} more", **lines, connect=points, seed=seed)
        assert seconds_of(connection, f"{points} more")[0] == pytest.approx(expected)


def test_of_a_run_under_way_only_the_rest_is_left(connection: sqlite3.Connection, path: Path) -> None:
    one_run(path, "measured", seed=1)
    train_all(connection, {"digits-a": 1000.0})
    one_run(path, "one")
    claim = leases.claim(connection, worker(connection))
    assert claim is not None
    assert seconds_of(connection, "one") == (1000.0, ())  # claimed, not begun
    records.start(connection, claim, 1, {"device": "cpu"}, [])
    connection.execute("UPDATE runs SET started_at = ? WHERE id = ?", (database.now(-400.0), claim.run_id))
    assert seconds_of(connection, "one")[0] == pytest.approx(600.0, abs=5.0)
    connection.execute("UPDATE runs SET started_at = ? WHERE id = ?", (database.now(-4000.0), claim.run_id))
    assert seconds_of(connection, "one") == (0.0, ())
    connection.execute("UPDATE runs SET lease_expires_at = ? WHERE id = ?", (database.now(-1.0), claim.run_id))
    assert seconds_of(connection, "one") == (1000.0, ())  # its worker is gone: it will be trained again


def test_the_disk_is_that_of_what_dense_runs_and_links_of_chains_have_left(
    connection: sqlite3.Connection, path: Path
) -> None:
    add(path, "measured", replicates=1)
    assert estimate(connection, [], places(1))[1].unsized == 5  # the chain's four runs, the target's dense one
    holder = worker(connection)
    while claim := leases.claim(connection, holder):
        for kind in {"dense": ["rewind", "final"]}.get(claim.run.ticket.name, ["mask"] if claim.run.is_link else []):
            records.file(connection, claim, kind, "0" * 64, 1000 if kind == "mask" else 40_000)
        train(connection, claim, 1.0)
    add(path, "next", replicates=2, seed=5)
    total = estimate(connection, [], places(1))[1]
    assert (total.bytes, total.unsized) == (2 * (2 * 80_000 + 3 * 1000), 0)
    assert estimate(connection, ["measured"], places(1))[1] == Estimate(0, 0.0, 0.0, 0, (), (), 0)


def test_a_preview_says_what_adding_does_and_writes_nothing(connection: sqlite3.Connection, path: Path) -> None:
    add(path, "measured", replicates=1, seed=9)
    train_all(connection)
    add(path, "before")
    halted = add(path, "halted", seed=1, levels=2)
    queue.set_state(connection, halted.experiment, "paused")
    definition = define(**{**TINY, "source": ["digits-a", "digits"], "replicates": 3})
    with closing(database.reader(path)) as reader:
        _, found = preview(reader, [definition], places(3))
    added = adding.add(connection, "new", definition, "cockpit queue add")
    assert (found.curves, found.runs, found.new, found.existing) == (
        added.curves,
        added.runs,
        added.new,
        added.existing,
    )
    assert found.estimate == estimate(connection, ["new"], places(3))[0]["new"]


def test_without_a_database_all_is_new_and_no_time_is_known() -> None:
    _, found = preview(None, [define(**TINY)], places(2))
    assert (found.runs, found.new) == (26, 26)
    assert found.estimate.timed == 0
    assert found.estimate.untimed == (Unknown("vgg-digits", "digits-a", 8), Unknown("vgg-digits", "digits-b", 18))


def test_a_preview_of_several_says_of_each_what_those_before_it_leave(
    connection: sqlite3.Connection, path: Path
) -> None:
    add(path, "measured", replicates=1)
    train_all(connection)
    wanted = {"first": {**TINY, "replicates": 1}, "second": TINY, "third": {**TINY, "target": ["digits"]}}
    definitions = {name: define(**options) for name, options in wanted.items()}
    each, together = preview(connection, list(definitions.values()), places(2))
    assert [(one.runs, one.new, one.done) for one in each] == [(13, 0, 13), (26, 13, 13), (26, 18, 4)]
    assert (together.runs, together.new, together.done) == (44, 31, 13)
    for one, (name, definition) in zip(each, definitions.items(), strict=True):
        added = adding.add(connection, name, definition, "cockpit queue add")
        assert (one.curves, one.runs, one.new) == (added.curves, added.runs, added.new)
    assert together.estimate == estimate(connection, list(definitions), places(2))[1]


def test_a_preview_leaves_out_what_stands_on_a_failed_run(connection: sqlite3.Connection, path: Path) -> None:
    one_run(path, "lost")
    claim = leases.claim(connection, worker(connection))
    assert claim is not None
    records.failed(connection, claim, "out of luck")
    _, found = preview(connection, [define(**{**TINY, "replicates": 1})], places(1))
    assert (found.new, found.estimate.runs) == (12, 5)  # the random tickets, and the target's dense run


def test_previews_of_groups_say_what_each_says_alone_and_make_fewer_digests(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = define(**TINY), define(**{**TINY, "replicates": 3})
    groups = [[first], [first, second], [second]]
    made: list[str] = []
    to_json = Run.to_json

    def counted(run: Run) -> str:
        made.append(to_json(run))
        return made[-1]

    monkeypatch.setattr(Run, "to_json", counted)
    alone = [preview(None, group, places(2)) for group in groups]
    made_alone = len(made)
    assert previews(None, groups, places(2)) == alone
    assert len(made) - made_alone <= made_alone * 2 / 3  # each experiment is in two groups but is expanded once


def test_canonical_json_is_what_the_standard_library_writes() -> None:
    for curve in curves(define(**TINY)):
        for point in curve.points:
            text = point.run.to_json()
            assert json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")) == text
