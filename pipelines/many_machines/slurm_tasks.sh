#!/bin/bash
# A dump as one Slurm job of several nodes. Each task takes its share and a GPU of its own, by what srun tells it; the
# last one finishes the store.
#
#   sbatch pipelines/many_machines/slurm_tasks.sh pipelines/fashion_mnist/dump.toml /shared/train.zarr
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --requeue
set -eu
srun --kill-on-bad-exit=0 softlab dump-teacher "$1" --out "$2"
