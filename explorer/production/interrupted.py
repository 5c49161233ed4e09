"""What to say about a training that did not end: how far it was, and from where the same command resumes."""

from __future__ import annotations

from explorer.errors import InvalidInput
from explorer.production.run import Run
from explorer.production.run_folder import CHECKPOINT
from explorer.production.run_status import RunStatus
from explorer.training.checkpoint import EARLIER, load_checkpoint


def interrupted_line(run: Run) -> str:
    """One line about a run that was interrupted."""
    status = RunStatus.read(run.out)
    here = f"interrupted at {status.spent:.0%} of the budget" if status else "interrupted"
    return f"{here}; {checkpoint_clause(run)}"


def checkpoint_clause(run: Run) -> str:
    """From where the same command resumes."""
    path = run.out / CHECKPOINT
    if not path.exists():
        return "there is no checkpoint yet, so the same command starts from the beginning"
    try:
        return f"the same command resumes at {_spent(run, _steps(run)):.0%} from {path}"
    except InvalidInput as error:
        return str(error)


def diverged_clause(run: Run) -> str:
    """What is left of a run that diverged, and what can be done: its own command would most likely diverge again."""
    instead = "train with a lower recipe.learning_rate, or with recipe.clip_grad, into another --out"
    path = run.out / CHECKPOINT
    try:
        steps = _steps(run) if path.exists() else 0
    except InvalidInput as error:
        return f"{error}; {instead}"
    if not steps:
        return f"there is no checkpoint yet; {instead}"
    earlier = f" (earlier ones are in {run.out / EARLIER})" if (run.out / EARLIER).is_dir() else ""
    kept = f"{path} of step {steps}, {_spent(run, steps):.0%} of the budget, has finite weights and stays{earlier}"
    return f"{kept}; the same command would most likely diverge again from it: {instead}"


def _steps(run: Run) -> int:
    """Steps of the run's checkpoint."""
    return int(load_checkpoint(run.out / CHECKPOINT, mmap=True)["steps"])


def _spent(run: Run, steps: int) -> float:
    """The share of the budget that some steps cost."""
    return run.plan.cost_after(steps) / run.plan.cost
