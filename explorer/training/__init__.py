"""One budgeted training run as a plain function: task, data, the loop that executes a plan, checkpoints. No ray."""
