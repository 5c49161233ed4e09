"""A schedule as a table, stage by stage."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from explorer.cli.shared import console
from explorer.console import print_line
from explorer.spec.augmentation_strength import AugmentationStrength
from explorer.spec.rates import shown_axes
from explorer.spec.schedule import Schedule


def _changed_shares(strengths: Sequence[AugmentationStrength]) -> list[str]:
    """Names of the shares of the recipe's augmentation that some stage reduces."""
    return [name for name in AugmentationStrength.model_fields if any(getattr(each, name) < 1 for each in strengths)]


def print_stages(schedule: Schedule) -> None:
    """Print a schedule as a table, and the settings that it was made for and measured with."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    axes = shown_axes(stage.rates for stage in schedule.stages)
    strengths = _changed_shares([stage.augmentation for stage in schedule.stages])
    factors = ["batch factor"] if any(stage.batch_factor != 1 for stage in schedule.stages) else []
    duration = "epochs" if schedule.in_epochs else "share of the budget"
    for name in ("stage", *axes, duration, *strengths, *factors):
        table.add_column(name, justify="right")
    for number, stage in enumerate(schedule.stages, start=1):
        rates = (stage.rates.text(axis) for axis in axes)
        length = f"{stage.share:.1%}" if stage.epochs is None else f"{stage.epochs:g}"
        shares = (f"{getattr(stage.augmentation, name):.3g}" for name in strengths)
        table.add_row(str(number), *rates, length, *shares, *(f"{stage.batch_factor:g}" for _ in factors))
    console.print(table)
    if schedule.staging:
        settings = ", ".join(f"{name} {value}" for name, value in schedule.staging.items())
        print_line(console, f"made for staging: {settings}")
    if schedule.provenance:
        settings = f"learning rate {schedule.provenance.learning_rate:.4g}, batch {schedule.provenance.batch_size}"
        if schedule.provenance.optimizer:
            settings = f"{schedule.provenance.optimizer.name}, {settings}"
        print_line(console, f"trained with {settings}, seed {schedule.provenance.seed}")
        if schedule.was_edited:
            print_line(console, "edited after that: the results in the file are not of this schedule")
