#!/bin/bash
# A dump as a Slurm array, each task a share on a GPU of its own; tasks may run at any time, in any order, and again.
#
#   sbatch pipelines/many_machines/slurm_array.sh pipelines/fashion_mnist/dump.toml /shared/train.zarr
#   sbatch --dependency=afterany:JOB --wrap "softlab finalize /shared/train.zarr"
#
# Shares count from 0. To run some of eight again: SHARES=8 sbatch --array=3,5 ..
#SBATCH --array=0-7
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --requeue
set -eu
softlab dump-teacher "$1" --out "$2" --shards "$SLURM_ARRAY_TASK_ID/${SHARES:-$SLURM_ARRAY_TASK_COUNT}"
