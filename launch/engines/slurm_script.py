"""The batch script of the engine `slurm`: one allocation, one `srun` for each node, restarts within it. Pure.

The script needs nobody: the driver writes its address into `rank0.json` in the shared folder, the others join through
it, a client that dies is started again as often as was said, and with the driver's end all end. How each node has ended
stands in NAME.exit. Where a launcher watches, it renews the file `lease`, and the job ends soon after it is gone.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launch.config.engines import SlurmEngineConfig

SEED = "rank0.json"
LEASE = "lease"
STOP = "stop"
LEASE_SECONDS = 10
"""Seconds without a renewal after which the launcher is taken for dead."""
LAST_SECONDS = 10
"""Seconds that nodes have to end in order once it is."""


@dataclass(frozen=True)
class SlurmTask:
    """A node of the job.

    Attributes:
        name: the node; its node file is NAME.json.
        port: that it listens on; 0 for any that is free.
        gpus: how many it gets.
        host: a machine that it must be on; None for any.
        restarts: how often it is started again.
    """

    name: str
    port: int = 0
    gpus: int = 0
    host: str | None = None
    restarts: int = 0


def render(run: str, config: SlurmEngineConfig, tasks: Sequence[SlurmTask], folder: Path, python: str) -> str:
    """The script.

    Args:
        run: the run's slug.
        config: the section `engine`.
        tasks: the driver, whose end is that of the job, and the nodes that it waits for.
        folder: the run's folder, an absolute path that all machines share.
        python: the interpreter with fednet.
    """
    driver, *clients = tasks
    starts = "\n".join(map(_start, clients))
    setup = "\n".join(config.setup)
    python = shlex.quote(config.python or python)
    host = config.interface or "$(hostname)"
    return f"""#!/bin/bash
{_directives(run, config, tasks, folder)}
# Written by fednet; start it with `sbatch`. The node files beside it hold private keys.
set -u
umask 077
{setup}
cd {shlex.quote(str(folder / "slurm"))} || exit 2
rm -f {SEED} {STOP} ./*.exit

node() {{  # NAME, PORT, RESTARTS, options of srun
    local name=$1 port=$2 lives=$3 code
    shift 3
    while :; do
        srun --ntasks=1 --nodes=1 --exact --cpus-per-task={config.cpus} --kill-on-bad-exit=0 --input=none \\
            --open-mode=append --output="../logs/$name.log" "$@" \\
            bash -c 'exec "$2" -m launch node --spec "$0" --listen "tcp://{host}:$1"' "$name.json" "$port" {python}
        code=$?
        case $code in 0|2|4|5) break ;; esac
        [ ! -e {STOP} ] && [ "$lives" -gt 0 ] || break
        lives=$((lives - 1))
        echo "$name has ended with $code and is started again, $lives left"
    done
    echo "$code" > ".$name.exit" && mv ".$name.exit" "$name.exit"
}}

watch_launcher() {{
    local last="" now idle=0
    while [ ! -e {STOP} ]; do
        now=$(stat -c %Y {LEASE})
        if [ "$now" = "$last" ]; then idle=$((idle + 1)); else idle=0; fi
        if [ "$idle" -ge {LEASE_SECONDS} ]; then
            echo "the launcher is gone"
            touch {STOP}
            scancel --signal=TERM "$SLURM_JOB_ID"
            sleep {LAST_SECONDS}
            scancel "$SLURM_JOB_ID"
        fi
        last=$now
        sleep 1
    done
}}

{_start(driver)}
driver=$!
{starts}
if [ -e {LEASE} ]; then watch_launcher & fi
wait "$driver"
touch {STOP}
scancel --signal=TERM "$SLURM_JOB_ID"
for name in {" ".join(task.name for task in clients)}; do
    for _ in $(seq 100); do [ -e "$name.exit" ] && break; sleep 0.1; done
done
exit "$(cat {driver.name}.exit)"
"""


def _directives(run: str, config: SlurmEngineConfig, tasks: Sequence[SlurmTask], folder: Path) -> str:
    gpus = sum(task.gpus for task in tasks)
    hosts = sorted({task.host for task in tasks if task.host})
    wanted = {
        "job-name": f"fednet-{run}",
        "ntasks": len(tasks),
        "cpus-per-task": config.cpus,
        "gpus": gpus or None,
        "nodelist": ",".join(hosts) or None,
        "partition": config.partition,
        "account": config.account,
        "time": config.time,
        "output": folder / "logs" / "slurm.log",
        "open-mode": "append",
    }
    lines = [f"#SBATCH --{key}={value}" for key, value in wanted.items() if value is not None]
    return "\n".join([*lines, *(f"#SBATCH {option}" for option in config.options)])


def _start(task: SlurmTask) -> str:
    """A line that starts a node in the background."""
    options = [f"--gpus-per-task={task.gpus}"] if task.gpus else []
    options += [f"--nodelist={task.host}"] if task.host else []
    return " ".join(["node", task.name, str(task.port), str(task.restarts), *map(shlex.quote, options), "&"])
