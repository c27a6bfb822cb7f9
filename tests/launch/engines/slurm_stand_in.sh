#!/bin/bash
# A stand-in for Slurm's commands, called by the name of each: one job at a time, all on this machine.
# It keeps its state in $SLURM_STAND_IN: `job` is the process of the batch script, `steps/` has those of sruns.
state=$SLURM_STAND_IN
case $(basename "$0") in
sbatch)
    script=${*: -1}
    echo "$*" >> "$state/submitted"
    if grep -q '^#SBATCH --partition=nope' "$script"; then
        echo "sbatch: error: invalid partition specified: nope" >&2
        echo "sbatch: error: Batch job submission failed: Invalid partition name specified" >&2
        exit 1
    fi
    if grep -q '^#SBATCH --nodelist=nope' "$script"; then
        echo "sbatch: error: Batch job submission failed: Invalid node name specified" >&2
        exit 1
    fi
    if grep -q '^#SBATCH --cpus-per-task=64' "$script"; then
        touch "$state/held"
        echo 7
        exit 0
    fi
    mkdir -p "$state/steps"
    SLURM_JOB_ID=7 setsid bash "$script" > "$state/job.log" 2>&1 < /dev/null &
    echo $! > "$state/job"
    echo 7
    ;;
srun)
    echo "$*" >> "$state/steps.log"
    while [[ $1 == --* ]]; do
        case $1 in
        --output=*) output=${1#--output=} ;;
        --gpus-per-task=*) CUDA_VISIBLE_DEVICES=$(seq -s, 0 $((${1#--gpus-per-task=} - 1))); export CUDA_VISIBLE_DEVICES ;;
        esac
        shift
    done
    "$@" >> "$output" 2>&1 < /dev/null &
    step=$!
    echo $step > "$state/steps/$step"
    wait $step
    code=$?
    rm "$state/steps/$step"
    exit $code
    ;;
squeue)
    if [ -e "$state/held" ]; then echo PENDING PartitionConfig; exit 0; fi
    if kill -0 "$(cat "$state/job")" 2> /dev/null; then echo RUNNING None; else echo "Invalid job id specified" >&2; exit 1; fi
    ;;
scancel)
    rm -f "$state/held"
    if [[ $1 == --signal=* ]]; then
        cat "$state"/steps/* | xargs -r kill "-${1#--signal=}" 2> /dev/null
    else
        kill -KILL -- "-$(cat "$state/job")" 2> /dev/null
        cat "$state"/steps/* | xargs -r kill -KILL 2> /dev/null
    fi
    exit 0
    ;;
sinfo)
    printf '%s\n' 'n1 gpu:2' 'n2 gpu:a100:4(S:0-1)' 'n3 (null)'
    ;;
esac
