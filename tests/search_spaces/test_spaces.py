"""The example spaces: compiled with the sizes of data sets that are not there, and trained for some steps on small images.

Training has each space's own augmentation, optimizer, schedule of learning rates and staging, and a narrow model of its class.
"""

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image

from explorer import Rates
from explorer.errors import validated
from explorer.search.checks import check_space
from explorer.search.priced_limit import priced_limit
from explorer.search.search import Search
from explorer.search.spending import Spending
from explorer.search.trial_plan import compile_trial
from explorer.spec.base import read_mapping
from explorer.spec.search_space import SearchSpace
from explorer.spec.trial_counts import MIN_TRIALS
from explorer.training import task as task_module
from explorer.training.loop import train

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


NARROW = {
    "digits": {"embed_dim": 16},
    "imagenet_deit_small": {"embed_dim": 48, "depth": 2},
    "imagenet_swin_tiny": {"embed_dim": 24, "depths": (1, 1, 1, 1)},
    "cifar10_vit_tiny": {"embed_dim": 48, "depth": 2},
    "imagefolder_finetune": {"embed_dim": 48, "depth": 2},
}
"""Options that make the models small; the numbers of heads stay as they are."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """JPEG files of several sizes in two classes, in the splits that the example spaces name."""
    root = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for split, count in (("train", 12), ("validation", 2), ("test", 2)):
        for label in ("coarse", "fine"):
            (root / split / label).mkdir(parents=True)
            for number in range(count):
                width, height = generator.integers(24, 320, 2)
                side = 4 if label == "coarse" else 64
                noise = generator.integers(0, 256, (side, side, 3), dtype=np.uint8)
                Image.fromarray(noise).resize((width, height)).save(root / split / label / f"{number}.jpg")
    return root


def full_trainings(space):
    """Planned cost of the search and of the repeats with fresh seeds."""
    total = 0.0
    for budget in space.budgets:
        runs = space.trials_at(budget, "staged") + space.trials_at(budget, "baseline")
        runs += 2 * space.search.repeat * space.seeds_at(budget)
        total += runs * budget.amount
    return total


def test_every_space_has_a_test():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == {*SIZES, "digits"} == {*NARROW}


@pytest.mark.parametrize(
    "name", [name if name == "imagenet_deit_small" else pytest.param(name, marks=pytest.mark.nightly) for name in SIZES]
)
def test_a_space_is_valid_planned_and_costs_what_its_header_says(name, monkeypatch):
    sizes = SIZES[name]
    monkeypatch.setattr(
        task_module,
        "open_data",
        lambda spec: replace(sizes, train_images=round(sizes.train_images * spec.train_fraction)),
    )
    path = FOLDER / f"{name}.yaml"
    space = validated(SearchSpace, read_mapping(path), path.name)
    assert space.name == name
    check_space(space)

    limited = space.up_to_goal()
    spending = Spending(limited, priced_limit(limited))
    assert spending.plan.verified[0] >= 1  # what the proxy chose is trained at the goal itself
    assert all(count > MIN_TRIALS for count, _ in spending.on_proxies)
    on_target = sum(each.cost * (each.staged + each.baseline + each.repeats) for each in spending.at_start)
    assert 0.8 < on_target + sum(cost for _, cost in spending.on_proxies) <= 1

    exhaustive = space.model_copy(update={"search": space.search.model_copy(update={"plan": "exhaustive"})}).as_planned()
    search = Search(exhaustive)
    trial = search.next()
    task, plan = compile_trial(trial, exhaustive)
    full = task.step_cost(Rates()).flops
    assert 0 <= plan.budget_cost - plan.flops < full
    assert len(plan.stages()) == space.search.stages

    header = re.search(r"^# Cost: .*\n# .*$", path.read_text(), re.MULTILINE).group()
    sustained = float(re.search(r"([\d.]+) TFLOP/s", header)[1])
    assert header == cost_lines(search.planned, full_trainings(exhaustive), plan.full_flops, sustained)


def test_the_kept_report_has_the_search_space_that_it_was_measured_with():
    space = SearchSpace.load(FOLDER.parent / "reports" / "digits" / "space.yaml")
    kept = pd.read_csv(FOLDER.parent / "reports" / "digits" / "frontier.csv")
    assert [str(budget) for budget in space.budgets] == list(dict.fromkeys(kept.budget))


def test_the_demo_has_as_many_trials_as_its_header_says():
    space = SearchSpace.load(FOLDER / "digits.yaml")
    trials = space.with_search(plan="exhaustive").as_planned().planned_trials
    assert f"which `make demo`\n# runs: {trials} trials," in (FOLDER / "digits.yaml").read_text()
    limited = space.up_to_goal()
    assert Spending(limited, priced_limit(limited)).plan.verified == (1, 1)


def test_fine_tuning_starts_from_a_file_of_weights(photos, tmp_path):
    content = read_mapping(FOLDER / "imagefolder_finetune.yaml")
    model = timm.create_model(content["model"]["name"], num_classes=21, **NARROW["imagefolder_finetune"])
    torch.save({"state_dict": model.state_dict()}, tmp_path / "pretrained.pth")
    space = narrowed("imagefolder_finetune", photos, checkpoint=str(tmp_path / "pretrained.pth"))
    trial = Search(space).next()
    task, plan = compile_trial(trial, space)
    task.check()
    assert "model.checkpoint: head.weight is new: that of the file is for 21 classes" in task.warnings
    assert (task.growth, task.spec.staging.subset) == ("initial", "importance")
    assert torch.equal(task.build_model().blocks[1].mlp.fc1.weight, model.blocks[1].mlp.fc1.weight)
    result = train(task, plan, seed=0)
    assert result.steps == plan.steps >= 8
    assert all(math.isfinite(segment.mean_loss) for segment in result.segments)


@pytest.mark.parametrize("name", NARROW)
def test_a_space_trains(name, photos):
    space = narrowed(name, photos)
    search = Search(space)
    trials = [search.next(), search.next()]  # of the proxy first, where there is one
    task, plan = compile_trial(next(trial for trial in trials if trial.kind == "staged"), space)
    result = train(task, plan, seed=0)
    assert result.steps == plan.steps >= 8
    assert task.train_images == (286 if space.proxy else task.data.train_images)
    assert all(math.isfinite(segment.mean_loss) for segment in result.segments)


def narrowed(name, photos, **model):
    """An example space with a narrow model and small data, at one budget."""
    path = FOLDER / f"{name}.yaml"
    content = read_mapping(path)
    content["model"] = {**content["model"], "pretrained": False, **model}
    content["model"]["options"] = {**content["model"]["options"], **NARROW[name]}
    if not name.startswith("digits"):
        content["data"] |= {"name": "folder", "root": str(photos), "num_workers": 0}
        content["recipe"] |= {"compile": False, "epochs": 4}
        del content["proxy"]  # these are too few images for one
    else:
        content["recipe"]["epochs"] = 0.4  # of a quarter of the images
    content["recipe"]["batch_size"] = 8
    content["budgets"] = ["100%"]
    content["search"] |= {"trials": 1, "baseline_trials": 1, "batch_size": [8], "stages": 2, "grid": 4, "repeat_seeds": 1}
    content["search"] |= {"spend": None, "goal": None}
    if "proxy" in content:
        content["proxy"]["trials"] = 1
    return validated(SearchSpace, content, path.name)


def cost_lines(trials, trainings, full_flops, teraflops):
    hours = full_flops / (teraflops * 1e12) / 3600
    return (
        f"# Cost: at most 1 full training ({full_flops:.2e} FLOPs, {hours:.2g} GPU-hours at a sustained {teraflops:g} TFLOP/s) for a\n"
        f"# schedule for 25 %; --plan exhaustive: {trials} trials, {trainings:.1f} full trainings before sharing."
    )
