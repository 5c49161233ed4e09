"""The search space that `explorer init` writes: every choice is explained where it stands."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from typing import Any

import yaml

from explorer.cli.model_inspection import ModelOnData, data_section
from explorer.spec.applied_augmentation import SMALL_IMAGES
from explorer.spec.rates import Axis

BUDGETS = (2.5, 5, 10, 25, 50, 100)
"""Budgets in percent of full training."""
GOAL = 25
"""The budget, in percent, that a schedule is proposed for."""
PROXY_SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
"""Shares of the images that a proxy may have; see benchmarks/transfer. The smallest one that is large enough is proposed."""
MIN_IMAGES_PER_CLASS = 10
"""Training images of a class, on average, that a proxy has at least."""
MIN_PROXY_STEPS = 100
"""Optimizer steps of the full model that a proxy has at least at the budget that a schedule is wanted for."""
USUAL_CORES_PER_GPU = 4
"""CPU cores for each GPU below which a machine is hardly the one that will train: images are decoded by them."""
GRID = 20
EPOCHS = 50
MIN_FULL_STEPS = 1000
"""Optimizer steps of full training that the proposed epochs give at least: the cheapest budget must still hold every stage."""
MIN_STEPS_PER_EPOCH = 8
SMALL_TRANSFORM: dict[str, Any] = {"scale": [0.6, 1.0], "hflip": 0.5, "color_jitter": None}
"""Augmentation that is proposed for images below `SMALL_IMAGES` pixels."""
AXIS_MEANING: dict[Axis, str] = {
    "heads": "attention heads",
    "mlp": "hidden channels of the MLPs",
    "tokens": "patch tokens",
    "depth": "blocks",
}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What one trial may use of this machine."""

    cpus: int
    gpus: float
    doubt: str = ""
    """Why `cpus`, counted on this machine, may be wrong for the one that trains; empty if it was given or fits."""


def machine_for(gpus: float, cpus: int | None = None, local_gpus: int = 0) -> Machine:
    """The resources of one trial.

    Args:
        gpus: GPUs that all trials together are to use, or the fraction of one that a trial uses; 0 trains on the CPU.
        cpus: CPU cores of a trial; `None` for its part of this machine's.
        local_gpus: number of GPUs of this machine.
    """
    each = min(1.0, gpus)
    if cpus is not None:
        return Machine(cpus=cpus, gpus=each)
    if not gpus:
        return Machine(cpus=1, gpus=0)
    cores, users = os.cpu_count() or 1, math.ceil(gpus)
    doubt = ""
    if local_gpus < users or cores // users < USUAL_CORES_PER_GPU:
        here = f"{cores} CPU core{'s' if cores > 1 else ''} and {local_gpus} GPU{'s' if local_gpus != 1 else ''}"
        doubt = f"counted on this machine, which has {here}: set it to the cores for each GPU of the machine that trains"
    return Machine(cpus=max(1, cores // users), gpus=each, doubt=doubt)


def starter_name(found: ModelOnData) -> str:
    """A name for the sweep, from the data and the model: `flowers_vit_tiny_patch16_224`."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", f"{found.data.short_name}_{found.model}").lstrip("._-")


def starter_space(found: ModelOnData, machine: Machine, name: str) -> str:
    """The YAML text of a search space that passes every check without an edit."""
    batch_size = _batch_size(found.train_images, on_gpu=machine.gpus > 0)
    epochs = max(EPOCHS, math.ceil(MIN_FULL_STEPS * batch_size / found.train_images))
    sections = (
        _head(name),
        _model(found),
        _data(found, machine),
        _recipe(found, batch_size, epochs),
        _budgets(_proxy_share(found, batch_size, epochs)),
        _search(found, batch_size),
        _resources(machine),
    )
    return "\n".join(sections)


def _head(name: str) -> str:
    return f"""\
# A search space: one sweep over training schedules. Written by `explorer init`; every value can be edited.
# All fields are explained in the documentation (docs/reference/search-space.md).
# Next: `explorer sweep FILE --dry-run` prints the number of trials, their cost and the expected time, and trains nothing.
name: {_scalar(name)}    # folder under sweeps/, and title of the report
"""


def _model(found: ModelOnData) -> str:
    lines = ["model:", f"  name: {found.model}    # any transformer that `explorer models` lists"]
    if found.options:
        patch_size = found.options["patch_size"]
        lines.append(f"  # The images are small: patches of {patch_size} pixels keep enough tokens.")
        lines.append(f"  options: {{patch_size: {patch_size}}}")
    else:
        lines.append(
            "  # `pretrained: true` downloads timm's weights and starts from them; lower the learning rates tenfold then."
        )
    lines.append("  pretrained: false")
    return "\n".join(lines) + "\n"


def _data(found: ModelOnData, machine: Machine) -> str:
    data = found.data
    lines = [f"# {found.train_images:,} training images of {found.classes} classes.", "data:"]
    for key, value in data_section(data, found.image_size).items():
        lines.append(f"  {key}: {_scalar(value)}{_data_comment(key, found)}")
    if data.from_files:
        if not data.validation_split:
            lines.append("  validation_split: null    # a tenth of the training images is set aside to choose schedules on")
        if found.image_size < SMALL_IMAGES:
            lines.append("  preprocessing: {crop_pct: 1}    # evaluation crops nothing: these images are small")
        decoders = min(8, machine.cpus)
        doubt = "; from resources.cpus below, to be changed with it" if machine.doubt else ""
        lines.append(f"  num_workers: {decoders}    # processes of the data loader that decode images{doubt}")
    return "\n".join(lines) + "\n"


def _data_comment(key: str, found: ModelOnData) -> str:
    if key == "image_size":
        if found.image_size == found.published_size:
            return f"    # pixels; the size that {found.model} was published with"
        return f"    # pixels; {found.model} was published for {found.published_size}, but these images are smaller"
    if key == "train_split" and found.data.train_split == found.data.short_name:
        return "    # the folder of images under root: it has one subfolder per class, and no test images of its own"
    if key == "test_split" and not found.data.test_split:
        return "    # a tenth of the training images is set aside, on which results are reported"
    comments = {
        "validation_split": "    # schedules are chosen on these images",
        "test_split": "    # results are reported on these images, and nothing is chosen by them",
    }
    return comments.get(key, "")


def _recipe(found: ModelOnData, batch_size: int, epochs: int) -> str:
    steps = epochs * found.train_images // batch_size
    augmentation = _augmentation(found.image_size) if found.data.from_files else ""
    return f"""\
# Training of the full model at budget 100 %, and the starting point of every trial.
recipe:
  epochs: {epochs}    # {steps:,} optimizer steps; set this to what you would train without a budget
  batch_size: {batch_size}
  learning_rate: 1.0e-3    # peak; the search below tries others
  lr_schedule: {{kind: wsd, warmup: 0.05}}    # decays to zero within every budget
  optimizer: adamw
  weight_decay: 0.05
  label_smoothing: 0.1
  clip_grad: 1.0
{augmentation}"""


def _augmentation(image_size: int) -> str:
    """The augmentation of images that are decoded, written out: gentle for small images, timm's for ImageNet otherwise."""
    if image_size < SMALL_IMAGES:
        reason, transform = "moderate crops and no color jitter, as usual for small images", SMALL_TRANSFORM
    else:
        reason, transform = "timm's values for ImageNet", {"scale": [0.08, 1.0], "hflip": 0.5, "color_jitter": 0.4}
    return (
        "  # Arguments of timm.data.create_transform: random crops of `scale` times the image's area, flips with\n"
        f"  # the probability `hflip` (0 for digits or text); {reason}.\n"
        f"  augmentation: {{transform: {_flow(transform)}}}\n"
    )


def _flow(value: dict[str, Any]) -> str:
    """A mapping in braces, as YAML has it."""
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=math.inf).strip()


def _proxy_share(found: ModelOnData, batch_size: int, epochs: int) -> float | None:
    """The share of the images that a proxy has; `None` where too few remain of any."""
    steps = epochs * found.train_images / batch_size * GOAL / 100
    for share in PROXY_SHARES:
        if found.train_images * share >= MIN_IMAGES_PER_CLASS * found.classes and steps * share >= MIN_PROXY_STEPS:
            return share
    return None


def _budgets(proxy_share: float | None) -> str:
    lines = [
        "# Costs at which staged schedules are compared with the full model, in percent of full training.",
        f"budgets: [{', '.join(f'{budget:g}%' for budget in BUDGETS)}]",
    ]
    if proxy_share is not None:
        lines += [
            "# Schedules are compared on a part of the images first, where a training costs little. The report says how well",
            "# their ranks carry over to all images.",
            f"proxy: {{images: {proxy_share:g}}}",
        ]
    return "\n".join(lines) + "\n"


def _search(found: ModelOnData, batch_size: int) -> str:
    lines = [
        "search:",
        "  spend: 1 training    # what the whole sweep may cost at most: one full training. More finds better schedules",
        f"  goal: {GOAL}%    # the budget that a schedule is wanted for; `explorer sweep FILE --for 50%` asks for another one",
        "  # `explorer sweep FILE --plan exhaustive` searches every budget in place of this, with these numbers of trials:",
        "  trials: 24    # staged trials at the cheapest budget; the others get as many as cost the same, at least three",
        "  baseline_trials: [6, 6, 4, 4, 4, 3]    # trials of the full model at each budget, over the same learning rates",
        "  # first: [paper]    # known schedules to try first at every budget; `explorer schedules` lists them",
        "  stages: 3    # the last stage is always the full model; the search may leave out the others",
        f"  grid: {GRID}    # stage durations are multiples of 1/{GRID} of the budget",
        "  # Activation rates that a stage may have: fractions of the model that are active. The last is the full model.",
        "  rates:",
    ]
    levels = ", ".join(f"{level:g}" for level in found.levels)
    for axis, realised in found.realised.items():
        rounded = [f"{rate:.2g}" for rate in realised]
        lines.append(f"    # {AXIS_MEANING[axis]}: the smallest possible rate is {getattr(found.smallest, axis):.2g}")
        became = "" if rounded == [f"{level:.2g}" for level in found.levels] else f"    # rounded to {', '.join(rounded)}"
        lines.append(f"    {axis}: [{levels}]{became}")
    lines += [
        *_other_axes(found),
        "  tied: true    # one choice sets all axes; false searches each axis on its own and needs about twice the trials",
        "  learning_rate: [3.0e-4, 3.0e-3]    # lowest and highest peak learning rate",
        "  learning_rate_grid: 4    # four values; trials with equal rates, learning rate and batch size share what they train",
        f"  batch_size: [{batch_size}]    # list several to search them too",
        "  repeat: 1    # the best trial of each kind and budget is repeated ...",
        "  repeat_seeds: 3    # ... with so many fresh seeds, for confidence intervals",
        "  seed: 0",
    ]
    return "\n".join(lines) + "\n"


def _other_axes(found: ModelOnData) -> list[str]:
    lines = []
    for axis, meaning in AXIS_MEANING.items():
        if axis in found.axes:
            continue
        smallest = getattr(found.smallest, axis)
        if smallest == 1:
            lines.append(f"    # {axis}: this model cannot be reduced on it")
        elif axis == "depth":
            levels = ", ".join(f"{level:g}" for level in found.levels)
            lines.append(f"    # depth: [{levels}]    # {meaning}; possible, left out to keep the search small")
        else:
            lines.append(f"    # {axis}: possible from {smallest:.3g} only, left out")
    return lines


def _resources(machine: Machine) -> str:
    where = "one GPU" if machine.gpus == 1 else f"{machine.gpus:g} of a GPU" if machine.gpus else "the CPU"
    doubt = f"# `cpus` was {machine.doubt}.\n" if machine.doubt else ""
    return f"""\
# What one trial may use. Trials run in parallel as far as the machine (or the Ray cluster) has resources: each on {where}.
{doubt}resources: {{cpus: {machine.cpus}, gpus: {machine.gpus:g}}}
"""


def _scalar(value: Any) -> str:
    """A value on one line of YAML, in quotes only where it needs them."""
    return yaml.safe_dump(value, width=math.inf, allow_unicode=True).splitlines()[0]


def _batch_size(train_images: int, *, on_gpu: bool) -> int:
    """A power of two that leaves some steps in each epoch."""
    limit = min(128 if on_gpu else 64, train_images // MIN_STEPS_PER_EPOCH)
    return 1 << max(0, limit.bit_length() - 1)
