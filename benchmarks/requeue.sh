#!/usr/bin/env bash
# A sweep of one job on a SLURM of one node: interrupted in its middle, put back into the queue, finished.
#
#   bash benchmarks/requeue.sh FOLDER WEIGHTS [signal | scontrol]
#
# FOLDER: of images by class; WEIGHTS: of MobileNetV2, a file. `signal`: the one by which submitit is told of a preemption;
# `scontrol`: by SLURM itself. Prints the epochs as the job's log has them. Needs root and benchmarks/one_node_slurm.sh.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source "$here/one_node_slurm.sh"
folder=$(realpath "$1") weights=$(realpath "$2") way=${3:-signal}
sweep=$(mktemp -d)/sweep
start_slurm > /dev/null
trap 'stop_slurm || true' EXIT
python "$here/../train.py" -m data.root="$folder" backbone=mobilenet_v2 backbone.weights="$weights" strategy=finetune_top \
  trainer.max_epochs=6 seed=0 report=false hydra/launcher=submitit_slurm hydra.launcher.mem_gb=null hydra.launcher.cpus_per_task=2 \
  hydra.sweep.dir="$sweep" > /dev/null 2>&1 &
until [ -f "$sweep/0/checkpoints/previous.ckpt" ]; do sleep 0.5; done
job=$(squeue --noheader --format=%i | head -1)
if [ "$way" = signal ]; then scancel --signal=USR2 "$job"; else scontrol requeue "$job"; fi
sleep 3
squeue --format="%i %T %r"
scontrol update jobid="$job" starttime=now
wait
grep -h "resuming\|epoch  " "$sweep"/0/*.log | cut -d' ' -f5-
