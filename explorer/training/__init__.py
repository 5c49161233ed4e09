"""One budgeted training run: the task, the loop that executes a plan, checkpoints. Does not import ray."""
