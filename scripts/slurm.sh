#!/usr/bin/env bash
# One run on several nodes, one process a GPU, as JAX has it under SLURM:
#
#     sbatch scripts/slurm.sh configs/million.toml runs/million.zarr
#
# RUN must be on a disk that all nodes see. A job that meets its time limit loses the chunk in hand
# of each process at most; the same command continues the run, and says at once if nothing is left
# to do. To queue the continuation beforehand:
#
#     sbatch --dependency=afterany:JOBID scripts/slurm.sh configs/million.toml runs/million.zarr

#SBATCH --job-name=rqf
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=2
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@60

set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: sbatch $0 CONFIG RUN.zarr [options of rqf-jax run]" >&2
    exit 2
fi
config=$1
run=$2
shift 2

# When one process dies the others wait for it in vain: let SLURM end the step.
exec srun --kill-on-bad-exit=1 rqf-jax run "$config" --out "$run" --hosts auto "$@"
