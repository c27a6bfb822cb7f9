"""Slurm itself for tests: a controller and two daemons on loopback, as an ordinary user, without munge."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.ports import free_ports

CONF = """\
ClusterName=fednet
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
KillWait=5
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
TaskProlog={folder}/prolog.sh
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=60 State=UP
"""
PROLOG = "#!/bin/sh\necho export CUDA_VISIBLE_DEVICES=5\n"
PATIENCE = 60.0


def missing() -> str:
    """What Slurm lacks here; empty where it can be started."""
    wanted = [name for name in ("slurmctld", "slurmd", "sbatch", "srun") if shutil.which(name, path=search()) is None]
    return f"Debian's slurm-wlm is not installed: no {', '.join(wanted)}" if wanted else ""


def search() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


@contextmanager
def running(folder: Path) -> Iterator[Path]:
    """A cluster of the nodes n1 and n2 for as long as the body runs; gives the file for SLURM_CONF."""
    ports = free_ports()
    conf = folder / "slurm.conf"
    conf.write_text(
        CONF.format(
            host=socket.gethostname(), ports=[next(ports) for _ in range(3)], user=getpass.getuser(), folder=folder
        )
    )
    (folder / "prolog.sh").write_text(PROLOG)
    (folder / "prolog.sh").chmod(0o755)
    for name in ("state", "spool-n1", "spool-n2"):
        (folder / name).mkdir()
    environment = {**os.environ, "SLURM_CONF": str(conf), "PATH": search()}
    with ExitStack() as stack:
        for command in (["slurmctld", "-D"], ["slurmd", "-D", "-N", "n1"], ["slurmd", "-D", "-N", "n2"]):
            with (folder / f"{command[-1]}.out").open("w") as out:
                process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
            stack.callback(process.wait)
            stack.callback(process.terminate)
        until = time.monotonic() + PATIENCE
        while states(environment) != ["idle", "idle"]:
            assert time.monotonic() < until, states(environment)
            time.sleep(0.2)
        yield conf


def states(environment: dict[str, str]) -> list[str]:
    command = ["sinfo", "--noheader", "--Node", "--format=%T"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout.split()
