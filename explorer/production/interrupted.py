"""What to say about a training that was interrupted: how far it was, and where the same command resumes."""

from __future__ import annotations

from explorer.errors import InvalidInput
from explorer.production.run import CHECKPOINT, Run
from explorer.production.run_status import RunStatus
from explorer.training.checkpoint import load_checkpoint


def interrupted_line(run: Run) -> str:
    """One line about a run that was interrupted."""
    status, checkpoint = RunStatus.read(run.out), run.out / CHECKPOINT
    here = f"interrupted at {status.spent:.0%} of the budget" if status else "interrupted"
    if not checkpoint.exists():
        return f"{here}; there is no checkpoint yet, so the same command starts from the beginning"
    try:
        content = load_checkpoint(checkpoint, mmap=True)
    except InvalidInput as error:
        return f"{here}; {error}"
    parts = [*content["segments"], *([content["unfinished"]] if content["unfinished"] else [])]
    spent = sum(flops for _, _, flops, *_ in parts) / run.plan.flops
    return f"{here}; the same command resumes at {spent:.0%} from {checkpoint}"
