"""Export of a million rows, against the sqlite3 shell, and start of `queue add`, against an empty Python process."""

import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from itertools import count
from pathlib import Path

from benchmarks.measuring import alternating, ratios, spread
from engine.machine import processes
from engine.plan.defining import define
from engine.store import adding, database
from engine.store import rows as store_rows

ROWS = 1_000_000
EPOCHS = 1000  # of each run
ROUNDS = 5
WITHOUT_BYTECODE = "PYTHONDONTWRITEBYTECODE"


def measure(quick: bool) -> dict[str, float]:
    """Seconds of both exports, their ratio, and the start of a command as a multiple of Python's own."""
    rounds = 2 if quick else ROUNDS
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "experiments.db"
        rows = fill(path, ROWS // 10 if quick else ROWS)
        ours = [*processes.python("cockpit"), "export", "--csv", "--table", "epochs", "--db", str(path)]
        found: dict[str, float] = {"rows": rows}
        if shell := shutil.which("sqlite3"):
            timed = alternating(
                rounds,
                ours=lambda: _seconds(*ours),
                shell=lambda: _seconds(
                    shell, "-csv", "-header", str(path), store_rows.EXPORTS["epochs"].format(wanted="NULL")
                ),
            )
            found |= spread("export, s", timed["ours"]) | spread("sqlite3 shell, s", timed["shell"])
            found |= spread("export against the shell", ratios(timed["ours"], timed["shell"]))
        else:
            print("this machine has no sqlite3 shell to compare with", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        path, numbers = Path(folder) / "new.db", count()
        with closing(database.writer(path)):  # is made
            pass
        timed = alternating(
            rounds * 2,
            add=lambda: _add(path, next(numbers)),
            empty=lambda: _seconds(sys.executable, "-c", "pass"),
        )
        found |= spread("queue add, s", timed["add"]) | spread("python -c pass, s", timed["empty"])
        return found | spread("queue add against python -c pass", ratios(timed["add"], timed["empty"]))


def fill(path: Path, rows: int) -> int:
    """A database with this number of recorded epochs."""
    with closing(database.writer(path)) as connection:
        runs = rows // EPOCHS
        definition = define(source=["digits-a"], levels=0, random=["none"], replicates=runs, profile="exact")
        adding.add(connection, "many epochs", definition, "benchmark")
        connection.execute(
            """
            INSERT INTO epochs (run_id, attempt, epoch, train_loss, train_accuracy, test_accuracy, learning_rate,
                                images_per_second)
            WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :epochs)
            SELECT id, 1, n, n / 7.0, n / 1100.0, n / 1300.0, 0.1, 1234.5 + n / 3.0 FROM runs, numbers
            """,
            {"epochs": EPOCHS},
        )
        recorded: int = connection.execute("SELECT count(*) FROM epochs").fetchone()[0]
    return recorded


def _add(path: Path, number: int) -> float:
    """Seconds of queueing another experiment of 372 new runs: the paper's transfer, from one half to the other."""
    what = ["--source", "digits-a", "--target", "digits-b", "--seed", str(number * 100), "--name", str(number)]
    return _seconds(*processes.python("cockpit"), "queue", "add", *what, "--db", str(path))


def _seconds(*command: str) -> float:
    """Seconds of a command with cached bytecode, as users have it."""
    environment = {name: value for name, value in processes.environment().items() if name != WITHOUT_BYTECODE}
    began = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began
