"""Short runs, interrupted and resumed, for the tests of training."""

import shutil

import torch

from explorer import Budget, compile_plan
from explorer.training.loop import train


class Interrupted(Exception):
    """Raised in a callback to stop a run."""


def planned(task, schedule, budget="50%"):
    return compile_plan(schedule, task, Budget.parse(budget), task.step_cost)


def same_weights(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def assert_resumes_exactly(task, plan, stops, folder):
    """From the checkpoint after each of some numbers of segments, a run ends in the same bits as one without checkpoints.

    Returns:
        The uninterrupted run.
    """
    straight = train(task, plan, seed=1)

    def keep(progress):
        if len(progress.segments) in stops:
            shutil.copy(folder / "checkpoint.pt", folder / f"{len(progress.segments)}.pt")

    train(task, plan, seed=1, checkpoint=folder / "checkpoint.pt", on_segment=keep)
    for stop in stops:
        torch.rand(5)  # the random state of this process must not matter
        seen = []
        resumed = train(
            task,
            plan,
            seed=1,
            checkpoint=folder / f"{stop}.pt",
            on_segment=lambda progress, seen=seen: seen.append(len(progress.segments)),
        )
        assert seen[0] == stop + 1
        assert same_weights(straight.model, resumed.model), stop
        assert (resumed.steps, resumed.flops) == (straight.steps, straight.flops)
        assert resumed.test == straight.test
    return straight
