"""A Slurm of one node in a folder of its own: munged, slurmctld and slurmd, as Debian's slurm-wlm and munge have them.

It has two partitions: jobs of `high` preempt those of `low`, which are queued again.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.waiting import wait_until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "squeue")
GRACE_SECONDS = 5
START_SECONDS = 30.0
END_SECONDS = 60.0  # Slurm kills a job's processes 30 s after it asked them to end
CONFIGURATION = """
ClusterName=cockpit
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_interval=2,batch_sched_delay=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=2
PartitionName=low Nodes={host} Default=YES PriorityTier=1 GraceTime={grace}
PartitionName=high Nodes={host} PriorityTier=2
"""


def missing() -> str:
    """What is missing to run it; empty if nothing is."""
    lacking = [program for program in PROGRAMS if shutil.which(program) is None]
    if lacking:
        return f"no {', '.join(lacking)}: apt-get install slurm-wlm munge"
    return "" if os.geteuid() == 0 and (os.cpu_count() or 1) > 1 else "Slurm needs root and two cores"


class Slurm:
    """Its commands; `environment` makes others use it."""

    def __init__(self, folder: Path) -> None:
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}

    def submit(self, *arguments: object, **environment: str) -> str:
        """Submit a job; its number."""
        return self._run("sbatch", "--parsable", *map(str, arguments), environment=environment).strip()

    def job(self, task: str) -> dict[str, str]:
        """What Slurm says of a job or of the task of an array."""
        words = self._run("scontrol", "show", "job", "-o", task).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def minutes(self, task: str) -> int:
        """The whole minutes that a job has run."""
        hours, minutes, _ = map(int, self.job(task)["RunTime"].split(":"))
        return 60 * hours + minutes

    def update(self, task: str, **settings: object) -> None:
        """Change settings of a job."""
        self._run("scontrol", "update", f"JobId={task}", *(f"{name}={value}" for name, value in settings.items()))

    def cancel(self, task: str) -> None:
        """Cancel a job."""
        self._run("scancel", task)

    def jobs(self) -> set[str]:
        """The numbers of the jobs that wait or run."""
        return set(self._run("squeue", "-h", "-o", "%A").split())

    def clear(self) -> None:
        """End all jobs, and wait until their processes have ended."""
        self._run("scancel", "--user=root")
        wait_until(lambda: not self._run("squeue", "--noheader"), END_SECONDS)

    def is_up(self) -> bool:
        """Whether the node takes jobs."""
        found = subprocess.run(
            ["sinfo", "-h", "-o", "%t"], env=self.environment, capture_output=True, text=True, check=False
        )
        return "idle" in found.stdout

    def _run(self, *command: str, environment: Mapping[str, str] | None = None) -> str:
        about = {**self.environment, **(environment or {})}
        return subprocess.run(command, env=about, capture_output=True, text=True, check=True).stdout


@contextmanager
def running(folder: Path) -> Iterator[Slurm]:
    """Start it in an empty folder whose path is short, since it holds a socket; end it afterwards."""
    (folder / "state").mkdir()
    (folder / "spool").mkdir()
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o600)
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        ports = one.getsockname()[1], two.getsockname()[1]
    host = socket.gethostname().partition(".")[0]
    about = {"host": host, "folder": folder, "ports": ports, "grace": GRACE_SECONDS}
    (folder / "slurm.conf").write_text(CONFIGURATION.format(**about))
    slurm = Slurm(folder)
    munge = [f"--{kind}-file={folder}/munge.{kind}" for kind in ("key", "log", "pid", "seed")]
    daemons = [
        ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *munge],
        ["slurmctld", "-D", "-i"],
        ["slurmd", "-D"],
    ]
    with ExitStack() as ended:
        for command in daemons:
            output = ended.enter_context((folder / f"{command[0]}.out").open("w"))
            process = subprocess.Popen(command, env=slurm.environment, stdout=output, stderr=output)
            ended.callback(process.wait)
            ended.callback(process.terminate)
            time.sleep(1)  # each needs the one before
        wait_until(slurm.is_up, START_SECONDS, folder / "slurmctld.log")
        ended.callback(slurm.clear)  # slurmd's end would leave their processes
        yield slurm
