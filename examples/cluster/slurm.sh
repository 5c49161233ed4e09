#!/usr/bin/env bash
# A sweep on Slurm:  sbatch examples/cluster/slurm.sh
# The environment, the search space and the storage must be on a file system shared by all nodes.
# Once: `ray get-auth-token --generate` writes the token that keeps strangers out of the cluster.
#SBATCH --job-name=explorer-sweep
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
#SBATCH --requeue
set -euo pipefail

source "${EXPLORER_VENV:-/shared/venv}/bin/activate"
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address="$(getent ahostsv4 "$head" | awk 'NR == 1 { print $1 }'):$((6379 + SLURM_JOB_ID % 1000))"

# Starts Ray on every node, runs the command on the head, and stops Ray. A requeued job resumes from the ledger.
srun ray symmetric-run --address "$address" --min-nodes "$SLURM_JOB_NUM_NODES" \
  --num-cpus "$SLURM_CPUS_PER_TASK" --num-gpus "${SLURM_GPUS_ON_NODE:-0}" -- \
  explorer sweep "${SPACE:-/shared/space.yaml}" --storage "${STORAGE:-/shared/sweeps}" --address auto
