"""The program as users run it: its output, streams and exit codes."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from engine.store import database, rows
from tests.conftest import ADD, SMALL, Cockpit, run_cockpit
from tests.waiting import wait_until

CURVES = "experiment,curve,source,target,model,optimizer,scope,ticket,level,fraction_pruned,n,mean,std"
RUNS = (
    "experiment,curve,source,target,model,optimizer,scope,ticket,level,fraction_pruned,weights_remaining,weights_total,"
    "replicate,seed,status,test_accuracy,digest,device,seconds"
)
EPOCHS = "digest,attempt,epoch,train_loss,train_accuracy,test_accuracy,learning_rate,images_per_second"
LAYERS = "digest,level,layer,name,weights_remaining,weights_total"


def test_version_and_help(cockpit: Cockpit) -> None:
    assert cockpit("--version").stdout == "cockpit 0.1.0\n"
    for arguments in ((), ("--help",)):
        found = cockpit(*arguments)
        assert found.returncode == 0
        for command in ("run", "work", "queue", "plot", "export"):
            assert f" {command} " in found.stdout


@pytest.mark.parametrize(
    ("table", "columns"), [("curves", CURVES), ("runs", RUNS), ("epochs", EPOCHS), ("layers", LAYERS)]
)
def test_export_writes_tidy_rows_whose_floats_round_trip(
    cockpit: Cockpit, trained: Path, table: str, columns: str
) -> None:
    found = cockpit("export", "--csv", "--table", table, "--db", trained)
    lines = list(csv.DictReader(io.StringIO(found.stdout)))
    assert set(columns.split(",")) <= set(lines[0])
    with closing(database.reader(trained)) as connection:
        heading, expected = rows.export(connection, table)
        for line, row in zip(lines, expected, strict=True):
            for name, value in zip(heading, row, strict=True):
                text, kind = line[name], cast("Callable[[str], object]", type(value))
                assert value == (None if text == "" else kind(text)), name


def test_exported_tickets_are_known_by_their_names_and_accuracies_are_fractions(
    cockpit: Cockpit, trained: Path
) -> None:
    lines = list(csv.DictReader(io.StringIO(cockpit("export", "--csv", "--table", "runs", "--db", trained).stdout)))
    assert {line["ticket"] for line in lines} == {
        "dense",
        "winning",
        "random-global",
        "random-local",
        "random-preserved",
    }
    assert all(0 <= float(line["test_accuracy"]) <= 1 for line in lines)
    assert {line["fraction_pruned"] for line in lines if line["level"] == "0"} == {"0.0"}
    shared = {line["source"] for line in lines if line["ticket"] == "random-global"}
    assert shared == {""}


def test_export_to_a_file_json_lines_and_one_experiment(cockpit: Cockpit, trained: Path, tmp_path: Path) -> None:
    to_stdout = cockpit("export", "--csv", "--db", trained).stdout
    assert cockpit("export", "--csv", "-o", "curves.csv", "--db", trained).stdout == ""
    assert (tmp_path / "curves.csv").read_text() == to_stdout
    lines = [json.loads(line) for line in cockpit("export", "--json", "--db", trained).stdout.splitlines()]
    assert len(lines) == len(to_stdout.splitlines()) - 1
    assert cockpit("export", "--csv", "--experiment", "tiny", "--db", trained).stdout == to_stdout
    assert cockpit("export", "tiny", "--db", trained).stdout == to_stdout
    assert "named twice" in cockpit("export", "tiny", "--experiment", "tiny", "--db", trained).stderr
    assert "did you mean 'tiny'" in cockpit("export", "--experiment", "tyni", "--db", trained).stderr
    assert (
        "unknown table 'run': choose from curves, runs" in cockpit("export", "--table", "run", "--db", trained).stderr
    )
    nowhere = cockpit("export", "-o", "no/such/folder.csv", "--db", trained)
    assert (nowhere.returncode, nowhere.stdout) == (2, "")
    assert "does not exist" in nowhere.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.csv"]


def test_export_into_a_closed_pipe_ends_quietly(trained: Path) -> None:
    command = f"{sys.executable} -m cockpit export --table epochs --db {trained} | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("digest,")
    assert done.stderr == ""


def test_plot_draws_a_chart_and_a_table_without_colours_where_there_is_no_terminal(
    cockpit: Cockpit, trained: Path
) -> None:
    found = cockpit("plot", "tiny", "--db", trained)
    assert "tiny · digits b · " in found.stdout
    assert "● from digits a, global" in found.stdout
    assert "weights remaining, %" in found.stdout
    assert "±" in found.stdout
    assert "\x1b" not in found.stdout
    chart = found.stdout.split("weights remaining, %")[0]
    assert max(map(len, chart.splitlines())) == 120
    narrow = cockpit("plot", "tiny", "--db", trained, COLUMNS="30").stdout
    assert [line.split() for line in narrow.splitlines()[-4:]] == [
        line.split() for line in found.stdout.splitlines()[-4:]
    ]  # no number of the table is truncated
    assert "fraction of weights pruned" in cockpit("plot", "tiny", "--x", "pruned", "--db", trained).stdout
    chain = cockpit("plot", "tiny", "--target", "digits-a", "--db", trained).stdout
    assert "tiny · digits a · " in chain
    assert "own, layerwise" in chain
    assert "unknown target 'digits-c'" in cockpit("plot", "tiny", "--target", "digits-c", "--db", trained).stderr
    assert "did you mean 'tiny'" in cockpit("plot", "tinny", "--db", trained).stderr


def test_plot_of_an_experiment_that_was_not_trained_says_how_to(cockpit: Cockpit) -> None:
    cockpit(*ADD, "--name", "new")
    found = cockpit("plot", "new")
    assert (found.returncode, found.stdout) == (0, "")
    assert "new has no results on digits-b yet: train it with `cockpit work --drain`" in found.stderr
    cockpit("queue", "pause", "new")
    assert "the experiment is paused: `cockpit queue resume new`" in cockpit("plot", "new").stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("queue", "add"), "nothing to train: name a preset"),
        (("run",), "nothing to train: name a preset"),
        (("run", "digitz"), "unknown preset 'digitz': choose from digits, fig1a, fig1b"),
        (("queue", "add", "--source", "digit"), "unknown data set 'digit': choose from digits, mnist"),
        (("queue", "add", "--source", "npz:absent.npz"), "file absent.npz does not exist"),
        (("queue", "add", "--source", "set.npz"), "unknown data set 'set.npz': a file is named as npz:set.npz"),
        ((*ADD, "--model", "vgg91"), "unknown model 'vgg91'"),
        ((*ADD, "--prune-rate", 1.5), "--prune-rate 1.5 is out of range"),
        ((*ADD, "--levels", "many"), "Invalid value for '--levels'"),
        ((*ADD, "--name", ""), "--name is empty"),
        (("queue", "add", "--sorce", "digits"), "No such option: --sorce"),
        (("queue", "ad"), "No such command 'ad'"),
        (("quue", "add"), "No such command 'quue'"),
        (("plot",), "Missing argument 'experiment'"),
        (("plot", "x", "--db", "absent.db"), "database absent.db does not exist"),
        (("export", "--csv", "--json", "--db", "absent.db"), "exclude each other"),
        ((*ADD, "--db", "absent/folder.db"), "folder absent"),
        (("run", *SMALL, "--workers", 99), "--workers 99 is out of range"),
    ],
)
def test_bad_input_is_one_clear_line_on_stderr_and_exit_code_2(
    cockpit: Cockpit, tmp_path: Path, arguments: tuple[object, ...], message: str
) -> None:
    found = cockpit(*arguments)
    assert found.returncode == 2
    assert found.stdout == ""
    assert found.stderr.startswith("cockpit: error: ")
    assert message in found.stderr
    assert "Traceback" not in found.stderr
    assert len(found.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []  # nothing half-written


def test_what_is_not_ours_is_refused_with_exit_code_2(cockpit: Cockpit, tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("these are notes, not a database. " * 40)
    for arguments in (ADD, ("queue", "list"), ("work", "--drain"), ("export",)):
        found = cockpit(*arguments, "--db", "notes.db")
        assert found.returncode == 2
        assert "notes.db cannot be opened as a database" in found.stderr
    assert (tmp_path / "notes.db").read_text().startswith("these are notes")


HEAVY = ("torch", "torchvision", "numpy", "scipy", "matplotlib", "textual", "sklearn", "sqlite_utils")


@pytest.mark.parametrize(
    "arguments",
    [
        ADD,
        ("queue", "add", "--source", "npz:set.npz", "--target", "npz:packed.npz-a", "--profile", "fast"),
        ("queue", "add", "--source", "stream:pets", "--target", "folder:pets@32-a", "--profile", "fast"),
        (*ADD, "--dry-run"),
        ("queue", "extend", "digits-a-to-digits-b-vgg-digits", "--levels", 4),
        ("queue", "estimate"),
        ("queue", "list"),
        ("queue", "list", "--json"),
        ("export", "--csv"),
        ("export", "--csv", "--table", "runs"),
    ],
)
def test_light_commands_import_nothing_heavy(tmp_path: Path, arguments: tuple[object, ...]) -> None:
    import numpy as np

    from tests.engine.folders import make
    from tests.images import encoded, gray, save

    arrays = gray()
    save(tmp_path / "set.npz", arrays)
    packed: dict[str, object] = {}
    for split in ("train", "test"):
        data, offsets = encoded(arrays[f"{split}_images"])
        labels = np.ravel(arrays[f"{split}_labels"])
        packed |= {f"{split}_bytes": data, f"{split}_offsets": offsets, f"{split}_labels": labels}
    save(tmp_path / "packed.npz", packed)
    make(tmp_path / "pets", train=20)
    if arguments[:2] != ("queue", "add"):
        run_cockpit(tmp_path, *ADD)
    script = f"""
import sys
from cockpit.cli import main
try:
    main()
except SystemExit as end:
    found = [name for name in {HEAVY!r} if name in sys.modules]
    sys.exit(f"imported {{found}}" if found else end.code)
"""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_run_trains_draws_and_costs_nothing_the_second_time(cockpit: Cockpit, tmp_path: Path) -> None:
    first = cockpit("run", *SMALL, "--profile", "exact", "--name", "tiny")
    assert first.returncode == 0, first.stderr
    assert "tiny: 4 curves, 26 runs: 26 new" in first.stderr
    assert "tiny · digits b · " in first.stdout
    began = time.monotonic()
    second = cockpit("run", *SMALL, "--profile", "exact", "--name", "tiny")
    assert time.monotonic() - began < 10  # no worker was started
    assert second.stdout == first.stdout
    assert json.loads(cockpit("queue", "list", "--json").stdout)[0]["status"] == "done"


def test_work_drains_the_queue_of_all_experiments(cockpit: Cockpit) -> None:
    assert "database experiments.db does not exist" in cockpit("work", "--drain").stderr
    cockpit(*ADD, "--name", "one", "--levels", 1)
    cockpit(*ADD, "--name", "two", "--levels", 1, "--seed", 2)
    done = cockpit("work", "--drain")
    assert done.returncode == 0, done.stderr
    assert {row["status"] for row in json.loads(cockpit("queue", "list", "--json").stdout)} == {"done"}
    assert "nothing is waiting" in cockpit("work", "--drain").stderr


def test_run_says_what_diverged_and_still_draws_the_rest(cockpit: Cockpit) -> None:
    found = cockpit("run", *SMALL, "--levels", 1, "--learning-rate", 1e30, "--name", "wild")
    assert found.returncode == 0
    assert "diverged: dense level 0 on digits-a, seed 0" in found.stderr
    assert "not finite after epoch 0" in found.stderr
    assert "runs of wild are blocked: they depend on failed runs" in found.stderr
    assert "its runs have diverged; `cockpit queue show wild` says why" in found.stderr


def start(folder: Path, *arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "cockpit", *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # in its own process group, as from a shell
    )


def runs(path: Path, status: str) -> int:
    if not path.exists():
        return 0
    try:
        with closing(database.reader(path)) as connection:
            return int(connection.execute("SELECT count(*) FROM runs WHERE status = ?", (status,)).fetchone()[0])
    except Exception:
        return 0  # the database is being created


@pytest.mark.slow
def test_ctrl_c_stops_cleanly_and_the_same_command_continues(cockpit: Cockpit, tmp_path: Path) -> None:
    command = ("run", *SMALL, "--epochs", 10, "--profile", "exact", "--name", "tiny")
    process = start(tmp_path, *command)
    wait_until(lambda: runs(tmp_path / "experiments.db", "done") >= 3)
    os.killpg(process.pid, signal.SIGINT)  # a terminal signals the program and its workers
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "tiny is paused; the same command resumes it" in errors
    assert "Traceback" not in errors
    (row,) = json.loads(cockpit("queue", "list", "--json").stdout)
    assert (row["status"], row["running"]) == ("paused", 0)
    others = cockpit("work", "--drain").stderr
    assert "skipped until `cockpit queue resume`: tiny" in others
    assert "nothing is waiting" in others
    assert "tiny is paused: `cockpit queue resume tiny`" in cockpit("queue", "add", *command[1:]).stderr
    again = cockpit(*command)
    assert again.returncode == 0, again.stderr
    with closing(database.reader(tmp_path / "experiments.db")) as connection:
        assert {tuple(row) for row in connection.execute("SELECT status, attempt FROM runs")} == {("done", 1)}


@pytest.mark.slow
def test_a_killed_worker_costs_nothing_but_time(cockpit: Cockpit, tmp_path: Path) -> None:
    import psutil

    process = start(tmp_path, "run", *SMALL, "--epochs", 10, "--profile", "exact", "--name", "tiny")
    wait_until(lambda: runs(tmp_path / "experiments.db", "done") >= 3)
    psutil.Process(process.pid).children()[0].kill()
    output, errors = process.communicate(timeout=240)
    if "workers crashed" in errors:  # with one core, the crashed worker was the only one
        assert process.returncode == 0, errors
        assert "tiny · digits b · " in output
    else:
        assert "runs unfinished (the workers ended)" in errors
        assert process.returncode == 1


@pytest.mark.slow
def test_a_run_that_is_paused_from_elsewhere_says_so(cockpit: Cockpit, tmp_path: Path) -> None:
    process = start(tmp_path, "run", *SMALL, "--epochs", 10, "--profile", "exact", "--name", "tiny")
    wait_until(lambda: runs(tmp_path / "experiments.db", "done") >= 3)
    cockpit("queue", "pause", "tiny")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "runs unfinished (paused by another process). Run the same command to continue." in errors


def test_work_says_what_failed(cockpit: Cockpit, tmp_path: Path) -> None:
    from tests.images import gray, save

    spec = save(tmp_path / "set.npz", gray(side=8))
    cockpit("queue", "add", "--source", spec, *SMALL[4:], "--name", "lost")
    (tmp_path / "set.npz").unlink()
    found = cockpit("work", "--drain")
    assert found.returncode == 1
    assert "failed: dense level 0 on npz:set, seed 0" in found.stderr
    assert "set.npz: put it back" in found.stderr
    assert "runs of lost are blocked: they depend on failed runs" in found.stderr


def test_results_in_a_folder_that_cannot_be_written_are_read(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode == os.R_OK)  # root may write anywhere
    with closing(database.reader(trained)) as connection:
        assert rows.experiments(connection)[0].status == "done"


@pytest.mark.slow
def test_workers_end_when_the_program_that_started_them_is_killed(cockpit: Cockpit, tmp_path: Path) -> None:
    import psutil

    process = start(tmp_path, "run", *SMALL, "--epochs", 200, "--name", "tiny")
    wait_until(lambda: runs(tmp_path / "experiments.db", "running") > 0)
    workers = psutil.Process(process.pid).children()
    assert workers
    process.kill()
    process.communicate()
    psutil.wait_procs(workers, timeout=120)
    assert not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers)


def test_the_repositorys_sample_is_read_in_place_and_written_to_a_copy(tmp_path: Path, trained: Path) -> None:
    import sqlite3

    shutil.copy(trained, tmp_path / "experiments.db")
    with closing(sqlite3.connect(tmp_path / "experiments.db")) as connection:
        connection.execute("INSERT INTO about VALUES ('sample', '1')")
        connection.commit()
        connection.execute("PRAGMA journal_mode = DELETE")
    before = (tmp_path / "experiments.db").read_bytes()
    assert "tiny" in run_cockpit(tmp_path, "queue", "list").stdout
    added = run_cockpit(tmp_path, *ADD, "--name", "mine")
    assert "experiments.db is a read-only sample: writing to experiments.local.db" in added.stderr
    assert "mine" in run_cockpit(tmp_path, "queue", "list").stdout
    assert (tmp_path / "experiments.db").read_bytes() == before


def test_a_damaged_database_and_numbers_out_of_range_are_said_in_a_line(cockpit: Cockpit, tmp_path: Path) -> None:
    cockpit(*ADD, "--name", "one")
    assert "is out of range (-1000000000 to 1000000000)" in cockpit("queue", "move", "one", "--priority", 10**20).stderr
    file = tmp_path / "experiments.db"
    with closing(database.reader(file)) as connection:
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'experiments'").fetchone()[0]
    with file.open("r+b") as damaged:
        damaged.seek((page - 1) * size)
        damaged.write(b"\xff" * size)
    found = cockpit("queue", "list")
    assert found.returncode == 2
    assert found.stderr.startswith("cockpit: error: experiments.db is damaged: ")
    assert "cockpit store check" in found.stderr
    assert found.stderr.count("\n") == 1
