"""The example spaces for large data: checked and compiled on the meta device, with the sizes of data sets that are not there."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from explorer import Rates
from explorer.errors import validated
from explorer.search.checks import check_space
from explorer.search.search import Search
from explorer.search.trial_plan import compile_trial
from explorer.spec.base import read_mapping
from explorer.spec.search_space import SearchSpace
from explorer.training import task as task_module

FOLDER = Path(__file__).parents[2] / "search_spaces"


@dataclass(frozen=True)
class Sizes:
    """What a plan depends on of a data set."""

    train_images: int
    classes: int
    image_size: int
    channels: int = 3
    supported_augmentations: tuple[str, ...] = ("transform",)


SIZES = {
    "imagenet_deit_small": Sizes(1_153_050, 1000, 224),  # nine tenths of 1,281,167
    "imagenet_swin_tiny": Sizes(1_153_050, 1000, 224),
    "cifar10_vit_tiny": Sizes(45_000, 10, 32),
    "imagefolder_finetune": Sizes(9_000, 20, 224),
}


def full_trainings(space):
    """Planned cost of the search and of the repeats with fresh seeds."""
    total = 0.0
    for budget in space.budgets:
        runs = space.trials_at(budget, "staged") + space.trials_at(budget, "baseline")
        runs += 2 * space.search.repeat * space.search.repeat_seeds
        total += runs * budget.amount
    return total


def test_every_space_has_a_test():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == {*SIZES, "digits"}


@pytest.mark.parametrize("name", SIZES)
def test_a_space_is_valid_planned_and_costs_what_its_header_says(name, monkeypatch):
    monkeypatch.setattr(task_module, "open_data", lambda _: SIZES[name])
    path = FOLDER / f"{name}.yaml"
    space = validated(SearchSpace, read_mapping(path), path.name)
    assert space.name == name
    check_space(space)

    search = Search(space)
    trial = search.next()
    task, plan = compile_trial(trial, space)
    full = task.step_cost(Rates()).flops
    assert 0 <= plan.budget_cost - plan.flops < full
    assert len(plan.stages()) == space.search.stages

    (header,) = [line for line in path.read_text().splitlines() if line.startswith("# Cost: ")]
    said = re.fullmatch(
        r"# Cost: (\d+) trials, ([\d.]+) full trainings of ([\d.e+]+) FLOPs before sharing; ([\d,]+) GPU-hours at a sustained "
        r"([\d.]+) TFLOP/s\.",
        header,
    )
    assert said, f"should read: {cost_line(search.planned, full_trainings(space), plan.full_flops, 100 if full > 1e9 else 20)}"
    assert header == cost_line(search.planned, full_trainings(space), plan.full_flops, float(said[5]))


def cost_line(trials, trainings, full_flops, teraflops):
    hours = trainings * full_flops / (teraflops * 1e12) / 3600
    return (
        f"# Cost: {trials} trials, {trainings:.1f} full trainings of {full_flops:.2e} FLOPs before sharing; "
        f"{hours:,.0f} GPU-hours at a sustained {teraflops:g} TFLOP/s."
    )
