"""A large queue: 1,000 experiments of 100 runs each."""

import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from engine.machine import processes
from engine.plan.defining import define
from engine.store import adding, database, leases

EXPERIMENTS = 1000
CLAIMERS, CLAIMS = 8, 15  # of each


def measure(quick: bool) -> dict[str, float]:
    """Milliseconds of a claim, and of the commands against an empty Python process, in a database of that size."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "experiments.db"
        count = EXPERIMENTS // 10 if quick else EXPERIMENTS
        runs = fill(path, count)
        milliseconds = _claim(path, CLAIMS // 3 if quick else CLAIMS)
        empty = _shell("-c", "pass")
        one = ["--source", "digits-a", "--target", "digits-b", "--replicates", "4", "--seed", "1000000"]
        name = ["--name", "one more", "--db", str(path)]
        return {
            "experiments": count,
            "runs": runs,
            "claim, median ms": statistics.median(milliseconds),
            "claim, slowest of 100 ms": statistics.quantiles(milliseconds, n=100)[98],
            "queue add, ms": _shell("-P", "-m", "cockpit", "queue", "add", *one, *name),
            "queue list, ms": _shell("-P", "-m", "cockpit", "queue", "list", "--json", "--db", str(path)),
            "queue estimate, ms": _shell("-P", "-m", "cockpit", "queue", "estimate", "--json", "--db", str(path)),
            "python -c pass, ms": empty,
        }


def fill(path: Path, count: int) -> int:
    """Queue a number of experiments; returns the number of their runs."""
    with closing(database.writer(path)) as connection:
        for number in range(count):
            definition = define(
                source=["digits-a"], target=["digits-b"], levels=9, replicates=4, seed=number * 4, profile="exact"
            )
            adding.add(connection, f"experiment {number}", definition, "benchmark")
        runs: int = connection.execute("SELECT count(*) FROM runs").fetchone()[0]
    return runs


def _claim(path: Path, times: int) -> list[float]:
    """The times of claims by eight processes, each once a second for a number of times."""
    with multiprocessing.get_context("spawn").Pool(CLAIMERS) as pool:
        return [time for found in pool.starmap(_claim_now_and_then, [(path, times)] * CLAIMERS) for time in found]


def _claim_now_and_then(path: Path, times: int) -> list[float]:
    found = []
    with closing(database.writer(path)) as connection:
        connection.execute("INSERT INTO workers (pid) VALUES (0)")
        worker: int = connection.execute("SELECT last_insert_rowid()").fetchone()[0]
        for _ in range(times):
            began = time.perf_counter()
            assert leases.claim(connection, worker) is not None
            found.append((time.perf_counter() - began) * 1000)
            time.sleep(1)
    return found


def _shell(*arguments: str) -> float:
    """The median milliseconds of five Python processes with these arguments."""
    times = []
    for _ in range(5):
        began = time.perf_counter()
        command = [sys.executable, *arguments]
        subprocess.run(command, env=processes.environment(), check=True, stdout=subprocess.DEVNULL)
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)
