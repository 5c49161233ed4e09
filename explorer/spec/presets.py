"""Known-good schedules by name: the paper's, what our own sweeps found, and published alternatives as schedules.

Those whose names end in `-like` express another method with what stages have here: rates, shares of the cost, shares of the
recipe's augmentation, and batch factors. What a schedule cannot express is said in the summary.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explorer.errors import InvalidInput
from explorer.paths import expanded
from explorer.spec.augmentation_strength import AugmentationStrength
from explorer.spec.model import ModelSpec
from explorer.spec.rates import Rate, Rates
from explorer.spec.schedule import Schedule, Stage


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A known-good schedule."""

    name: str
    summary: str
    """What its stages do, in one line."""
    source: str
    """Where it comes from."""
    measured: str
    """Where it was measured, and with what result."""
    stages: Callable[[str], tuple[Stage, ...]]
    """Its stages for a model, given by its name in timm."""
    staging: Callable[[str], dict[str, str]] = lambda _: {}
    """Settings of `staging` that it needs, for a model."""
    grid: int = 20
    """Grid of its durations."""

    def schedule(self, model: str, epochs: Sequence[float] | None = None) -> Schedule:
        """The schedule for a model.

        Args:
            model: name of the model in timm.
            epochs: lengths of the stages in epochs; `None` for the preset's shares of the cost.

        Raises:
            InvalidInput: when there are not as many epochs as stages.
        """
        stages = self.stages(model)
        if epochs is not None:
            if len(epochs) != len(stages):
                raise InvalidInput("epochs", list(epochs), f"must be {len(stages)} numbers, one for each stage of {self.name}")
            stages = tuple(
                Stage(**{**dict(stage), "duration_ratio": None, "epochs": length})
                for stage, length in zip(stages, epochs, strict=True)
            )
        return Schedule(stages=stages, grid=self.grid, staging=self.staging(model))


def preset(name: str, model: Any, epochs: Sequence[float] | None = None) -> Schedule:
    """A known-good schedule by name; see `Schedule.preset`."""
    if name not in PRESETS:
        raise InvalidInput("schedule", name, _unknown(name))
    return PRESETS[name].schedule(_model_name(model), epochs)


def load_schedule(name: str | Path, model: str) -> Schedule:
    """A known-good schedule by name, or a schedule file.

    Args:
        name: a name in `PRESETS`, or the path of a file. A file with the name of a preset needs a suffix or a folder.
        model: name of the model in timm.

    Raises:
        InvalidInput: when there is neither a preset nor a file of this name, or the file is not a schedule.
    """
    if str(name) in PRESETS:
        return preset(str(name), model)
    is_file = Path(expanded(name, "schedule")).exists()
    if not is_file and not Path(name).suffix and len(Path(name).parts) == 1:
        raise InvalidInput("schedule", str(name), f"there is no such file; {_unknown(str(name))}")
    return Schedule.load(name)


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, PRESETS, n=1)
    return f"known schedules are {', '.join(PRESETS)}" + (f"; did you mean {near[0]!r}?" if near else "")


def _model_name(model: Any) -> str:
    """The name of a model in timm."""
    if isinstance(model, str):
        return model
    configuration = getattr(model, "pretrained_cfg", None)
    name = model.name if isinstance(model, ModelSpec) else (configuration or {}).get("architecture")
    if not isinstance(name, str):
        raise InvalidInput("model", type(model).__name__, "must be the name of a timm model, a ModelSpec or a timm model")
    return name


def _grown(shares: Sequence[float], **levels: Sequence[Rate]) -> tuple[Stage, ...]:
    """Stages with the given shares of the cost, and the rates of each axis from the first stage to the last but one."""
    rates = [Rates(**dict(zip(levels, each, strict=True))) for each in zip(*levels.values(), strict=True)]
    return tuple(Stage(rates=each, duration_ratio=share) for each, share in zip([*rates, Rates()], shares, strict=True))


def _image_sizes(*sizes: int, full: int = 224) -> list[float]:
    """Rates of tokens of smaller square images."""
    return [(size / full) ** 2 for size in sizes]


PVT_HEADS = ((1, 1, 2, 2), (1, 2, 4, 4))
"""Heads of the four levels of a PVTv2 in the paper's first two stages (Table 6); the full model has 1, 2, 5 and 8."""


def _paper(model: str) -> tuple[Stage, ...]:
    # 29, 49 and 50 epochs at 0.69, 1.91 and 4.61 G (Tables 1 and 6): 5.8, 27.2 and 67.0 % of the cost.
    # A third and two thirds of the heads of a Swin are the paper's as well: 1 2 4 8 and 2 4 8 16 of 3 6 12 24.
    heads = PVT_HEADS if model.startswith("pvt_v2_") else (1 / 3, 2 / 3)
    return _grown((0.06, 0.27, 0.67), heads=heads, mlp=(1 / 4, 1 / 2), tokens=(100 / 196, 144 / 196))


def _paper_staging(_: str) -> dict[str, str]:
    # The central crop of the patch grid, and copies with fresh optimizer moments (Table 11).
    return {"growth": "copy", "token_policy": "center"}


def _efficienttrain(_: str) -> tuple[Stage, ...]:
    # Ten pieces of equal cost; the magnitude is 0 in the first one and 9 in the last one.
    tokens = _image_sizes(96, 96, 160, 160, 160, 160, 192, 192, 224)
    plain = _grown([0.1] * 10, tokens=tokens)
    strengths = [AugmentationStrength(magnitude=piece / 9) for piece in range(10)]
    return tuple(stage.model_copy(update={"augmentation": strength}) for stage, strength in zip(plain, strengths, strict=True))


def _autoprog(_: str) -> tuple[Stage, ...]:
    # Four stages of equal epochs: their costs are as depth times tokens.
    plain = _grown((0.08, 0.16, 0.29, 0.47), tokens=_image_sizes(128, 160, 192), depth=(1 / 2, 2 / 3, 5 / 6))
    strengths = [AugmentationStrength(magnitude=0.5 + step / 6, drop_path=step / 3) for step in range(3)]
    return (
        *(stage.model_copy(update={"augmentation": each}) for stage, each in zip(plain, strengths, strict=False)),
        plain[-1],
    )


def _timm_progressive(_: str) -> tuple[Stage, ...]:
    # Four stages of equal epochs: their costs are as their tokens. Batches have about as many tokens as those of the full size.
    plain = _grown((0.13, 0.2, 0.28, 0.39), tokens=_image_sizes(128, 160, 192))
    factors = (3.0, 2.0, 1.25, 1.0)
    return tuple(stage.model_copy(update={"batch_factor": each}) for stage, each in zip(plain, factors, strict=True))


def _resized(_: str) -> dict[str, str]:
    return {"token_policy": "resize"}


_PRESETS = (
    Preset(
        name="paper",
        summary="heads and tokens rise in even steps, MLP ratio 1, 2, 4; tokens of the central crop, growth by copies",
        source='"Budgeted Training for Vision Transformer" (ICLR 2023), Tables 1 and 6: 29, 49 and 50 epochs of DeiT-S',
        measured="ImageNet-1k, DeiT-S at 25 %: 74.5 % against 73.2 % of its best baseline (by its authors)",
        stages=_paper,
        staging=_paper_staging,
        grid=100,
    ),
    Preset(
        name="sweep-fractals",
        summary="everything at one half, depth included, for 60 % of the budget",
        source="the sweep over all axes in benchmarks/README.md",
        measured="fractals, a ViT of four blocks at 25 %: 92.5 % against 56.5 % of the tuned baseline",
        stages=lambda _: _grown((0.6, 0.4), heads=(0.5,), mlp=(0.5,), tokens=(0.5,), depth=(0.5,)),
    ),
    Preset(
        name="sweep-digits",
        summary="heads, MLPs and tokens at one half for 30 % of the budget, then at three quarters for 35 %",
        source="the demo's sweep, reports/digits",
        measured="digits, a ViT of two blocks at 20 %: 97.1 % against 94.0 % of the tuned baseline, intervals overlap",
        stages=lambda _: _grown((0.3, 0.35, 0.35), heads=(0.5, 0.75), mlp=(0.5, 0.75), tokens=(0.5, 0.75)),
    ),
    Preset(
        name="efficienttrain-like",
        summary="images of 96, 160, 192 and 224 of 224 pixels, RandAugment's magnitude rises from 0; images are resized, "
        "where EfficientTrain++ crops their spectrum, and the learning rate has the recipe's warmup",
        source="EfficientTrain++ (Wang et al., TPAMI 2024), the authors' script for DeiT-S",
        measured="ImageNet-1k, DeiT-S at 50 % of 300 epochs: 80.6 % (by its authors); not measured here",
        stages=_efficienttrain,
        staging=_resized,
    ),
    Preset(
        name="autoprog-like",
        summary="images of 128, 160, 192 and 224 of 224 pixels, half of the blocks at first, magnitude from one half, "
        "stochastic depth from 0; AutoProg also searches between stages and erases less at first",
        source="AutoProg (Li et al., CVPR 2022), the linear schedule of the authors' script with four stages",
        measured="ImageNet-1k, VOLO-D1: no loss at .54 of the time (by its authors); not measured here",
        stages=_autoprog,
        staging=_resized,
        grid=100,
    ),
    Preset(
        name="timm-progressive-like",
        summary="images of 128, 160, 192 and 224 of 224 pixels, with larger batches of smaller images; timm draws the size of "
        "each batch from a window that moves over the sizes. The batch size must be a multiple of 4",
        source="timm's train.py with --train-size-schedule progressive (timm 1.0.29 and later)",
        measured="not measured",
        stages=_timm_progressive,
        staging=_resized,
        grid=100,
    ),
    Preset(
        name="full",
        summary="the full model throughout, in one stage: the baseline, to compare a schedule with",
        source="usual training",
        measured="at every budget of every report, as the baseline; alone, it says what the model gains from a larger budget",
        stages=lambda _: (Stage(rates=Rates(), duration_ratio=1.0),),
    ),
)
PRESETS: dict[str, Preset] = {each.name: each for each in _PRESETS}
"""The known-good schedules by name."""
