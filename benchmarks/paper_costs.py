"""The costs of "Budgeted Training for Vision Transformer" (ICLR 2023) beside those that this project counts.

    python benchmarks/paper_costs.py

One row for each model and stage (the paper's Table 6: G multiply-adds of the forward pass of one image) and for each schedule
(its Tables 1 and 14: the sum over the stages, times epochs). Exits with code 1 if one is off by more than 1 %. Everything is
counted on the meta device; no data and no training is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import timm
import torch
from rich.console import Console
from rich.table import Table

from explorer import Rates, Staging
from explorer.elastic.step_cost import StepCounter
from explorer.spec.budget import GMAC

TOLERANCE = 0.01


@dataclass(frozen=True, kw_only=True)
class PaperModel:
    """A model of the paper, with its stages and schedules."""

    name: str
    """Name in timm."""
    stages: tuple[Rates, ...]
    """Active parts of each stage (Table 6)."""
    stage_gmacs: tuple[float, ...]
    """Printed cost of each stage (Table 6)."""
    schedules: dict[tuple[int, ...], float]
    """Epochs of each stage, and the printed cost (Tables 1 and 14)."""
    inconsistent: str | None = None
    """Why the costs of the schedules are not compared."""


MODELS = {
    "DeiT-S": PaperModel(
        name="deit_small_patch16_224",
        stages=(Rates(heads=2, mlp=384, tokens=100), Rates(heads=4, mlp=768, tokens=144), Rates()),
        stage_gmacs=(0.69, 1.91, 4.61),
        schedules={
            (29, 49, 50): 343.7,
            (49, 71, 113): 689.8,
            (55, 55, 193): 1032.1,
            (86, 105, 243): 1379.1,
            (0, 0, 300): 1382.4,
        },
    ),
    "DeiT-B": PaperModel(
        name="deit_base_patch16_224",
        stages=(Rates(heads=4, mlp=768, tokens=100), Rates(heads=8, mlp=1536, tokens=144), Rates()),
        stage_gmacs=(2.57, 7.23, 17.58),
        schedules={(150, 100, 50): 1372.2, (100, 100, 100): 2122.7, (50, 50, 200): 3702.4, (0, 0, 300): 5274.9},
        inconsistent="the paper's total costs do not follow from its own stage costs, which give 1987.5, 2738 and 4006",
    ),
    "PVTv2-b2-li": PaperModel(
        name="pvt_v2_b2_li",
        # The MLP channels are printed as 256 512 320 512 and 512 1024 640 1024, beside 1024 2048 1280 4096 for the full model,
        # which has 512 1024 1280 2048. A quarter and half of these have the printed costs.
        stages=(
            Rates(heads=(1, 1, 2, 2), mlp=(128, 256, 320, 512), tokens=1600),
            Rates(heads=(1, 2, 4, 4), mlp=(256, 512, 640, 1024), tokens=2304),
            Rates(),
        ),
        stage_gmacs=(0.80, 1.79, 3.91),
        schedules={
            (27, 28, 56): 290.5,
            (25, 27, 132): 584.3,
            (51, 118, 160): 877.1,
            (65, 87, 246): 1169.1,
            (0, 0, 300): 1173.0,
        },
    ),
    "Swin-S": PaperModel(
        name="swin_small_patch4_window7_224",
        stages=(
            Rates(heads=(1, 2, 4, 8), mlp=(96, 192, 384, 768), tokens=1600),
            Rates(heads=(2, 4, 8, 16), mlp=(192, 384, 768, 1536), tokens=2304),
            Rates(),
        ),
        stage_gmacs=(1.32, 3.64, 8.77),
        schedules={
            (29, 35, 55): 648.0,
            (41, 42, 126): 1311.9,
            (42, 123, 167): 1967.9,
            (38, 124, 242): 2623.9,
            (0, 0, 300): 2630.7,
        },
    ),
}
"""The models of the paper. All of them crop the grid of patches to its center."""


@dataclass(frozen=True)
class Row:
    """A cost of the paper beside ours."""

    model: str
    what: str
    """The stage, or the epochs of the schedule."""
    unit: str
    paper: float
    ours: float
    compared: bool = True

    @property
    def ratio(self) -> float:
        """Ours divided by the paper's."""
        return self.ours / self.paper

    @property
    def off(self) -> bool:
        """Whether the two differ by more than 1 %."""
        return self.compared and abs(self.ratio - 1) > TOLERANCE


@cache
def counter(label: str) -> StepCounter:
    """Counts the cost of a step of one of the paper's models, for images of 224 pixels."""
    model = MODELS[label]
    with torch.device("meta"):
        return StepCounter(timm.create_model(model.name), Staging(token_policy="center"), (3, 224, 224))


def stage_gmacs(label: str) -> list[float]:
    """Our cost of each stage: G multiply-adds of the forward pass of one image."""
    return [counter(label).step_cost(rates, 1).forward_macs / GMAC for rates in MODELS[label].stages]


def rows(label: str) -> Iterator[Row]:
    """The rows of one model: its stages, then its schedules."""
    model, ours = MODELS[label], stage_gmacs(label)
    for number, (paper, counted) in enumerate(zip(model.stage_gmacs, ours, strict=True), start=1):
        yield Row(label, f"stage {number}", "GMACs", paper, counted)
    for epochs, paper in model.schedules.items():
        total = sum(length * cost for length, cost in zip(epochs, ours, strict=True))
        staged = any(epochs[:-1])
        yield Row(label, " ".join(map(str, epochs)), "GMACs-epochs", paper, total, compared=not (model.inconsistent and staged))


def main() -> int:
    """Print the table; 1 if a cost is off by more than 1 %."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("model", "stage, or epochs of the schedule", "unit", "paper", "ours", "ratio"):
        table.add_column(title, justify="left" if title in ("model", "unit") else "right")
    table_rows = [row for label in MODELS for row in rows(label)]
    for row in table_rows:
        ratio = f"{row.ratio:.3f}" + (" OFF" if row.off else "") if row.compared else "not compared"
        digits = 2 if row.unit == "GMACs" else 1
        table.add_row(row.model, row.what, row.unit, f"{row.paper:.{digits}f}", f"{row.ours:.{digits + 1}f}", ratio)
    console = Console()
    console.print(table)
    for label, model in MODELS.items():
        if model.inconsistent:
            console.print(f"{label}: {model.inconsistent}", highlight=False, soft_wrap=True)
    off = [row for row in table_rows if row.off]
    compared = sum(row.compared for row in table_rows)
    console.print(f"{compared} costs compared, {len(off)} off by more than {TOLERANCE:.0%}", highlight=False)
    return 1 if off else 0


if __name__ == "__main__":
    sys.exit(main())
