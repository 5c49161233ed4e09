"""The table of timm's transformers that ships with the package: on which axes each can be reduced, and what that saves.

There is one file for each version of timm that this package was tested with; `explorer.elastic.coverage` writes it. Reading
it imports neither torch nor timm.
"""

from __future__ import annotations

import difflib
import fnmatch
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata, resources
from typing import Any, Literal

from explorer.errors import InvalidInput
from explorer.spec.rates import Axis, Rates
from explorer.spec.staging import SubsetChoice

FOLDER = "coverage_tables"
FULL_RATES = Rates()
TokenReductionName = Literal["drop", "center", "resize"]


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What can be done with one timm model."""

    name: str
    """The name in `timm.list_models()`."""
    family: str
    """The module that registers the name, without the packages that contain it."""
    axes: tuple[Axis, ...] = ()
    """Axes on which the model can be reduced; empty if `reason` says why it cannot."""
    smallest_rates: Rates = FULL_RATES
    """The smallest rate possible on each axis: one head in each layer, one channel, one token, one block."""
    token_policies: tuple[TokenReductionName, ...] = ()
    """How the number of tokens can be reduced: by dropping random tokens or those around the center, by resizing images, or not
    at all."""
    subsets: tuple[SubsetChoice, ...] = ()
    """Which heads and channels may be the active ones; see `explorer.elastic.subset`."""
    full_flops: int | None = None
    """FLOPs of a training step of the full model, per image; `None` if not counted."""
    half_flops: int | None = None
    """FLOPs of a training step at rate .5 on all its axes except depth, per image; `None` if not counted."""
    reason: str | None = None
    """Why the model cannot be resized, in one line; `None` if it can."""

    @property
    def half_fraction(self) -> float | None:
        """Cost at rate .5 as a fraction of the full model's; `None` if not counted."""
        return self.half_flops / self.full_flops if self.full_flops and self.half_flops else None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON, with rates for the model's own axes only."""
        return {
            "name": self.name,
            "family": self.family,
            "axes": list(self.axes),
            "smallest_rates": {axis: getattr(self.smallest_rates, axis) for axis in self.axes},
            "token_policies": list(self.token_policies),
            "subsets": list(self.subsets),
            "full_flops": self.full_flops,
            "half_flops": self.half_flops,
            "half_fraction": self.half_fraction,
            "reason": self.reason,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Coverage:
        """The inverse of `as_dict`."""
        return cls(
            name=data["name"],
            family=data["family"],
            axes=tuple(data["axes"]),
            smallest_rates=Rates(**data["smallest_rates"]),
            token_policies=tuple(data["token_policies"]),
            subsets=tuple(data["subsets"]),
            full_flops=data["full_flops"],
            half_flops=data["half_flops"],
            reason=data["reason"],
        )


@dataclass(frozen=True)
class CoverageTable:
    """All transformers of one version of timm, in the order of `timm.list_models()`."""

    timm_version: str
    rows: tuple[Coverage, ...]

    def matching(self, pattern: str) -> list[Coverage]:
        """Rows whose names match a pattern, as `timm.list_models` matches it; an empty pattern matches every name."""
        names = set(fnmatch.filter([row.name for row in self.rows], pattern or "*"))
        return [row for row in self.rows if row.name in names]

    def to_json(self) -> str:
        """The text of the table's file: one line per model, so that two versions can be compared line by line."""
        lines = [json.dumps(row.as_dict()) for row in self.rows]
        return f'{{"timm": {json.dumps(self.timm_version)}, "models": [\n' + ",\n".join(lines) + "\n]}\n"


def installed_timm_version() -> str:
    """Version of the installed timm, read from its metadata."""
    return metadata.version("timm")


def file_name(timm_version: str) -> str:
    """Name of the file that contains the table for a version of timm."""
    return f"timm-{timm_version}.json"


def read_table(timm_version: str | None = None) -> CoverageTable | None:
    """The table for a version of timm, `None` if this package has none.

    Args:
        timm_version: such as `1.0.31`; `None` for the installed version.
    """
    version = timm_version or installed_timm_version()
    file = resources.files("explorer.elastic").joinpath(FOLDER, file_name(version))
    if not file.is_file():
        return None
    data = json.loads(file.read_text(encoding="utf-8"))
    return CoverageTable(data["timm"], tuple(Coverage.from_dict(row) for row in data["models"]))


def no_match(pattern: str, timm_version: str, names: Sequence[str]) -> InvalidInput:
    """The error for a pattern that matches none of the transformers, with similar names."""
    similar = difflib.get_close_matches(pattern.strip("*"), names, n=3, cutoff=0.4)
    hint = f"; similar names: {', '.join(similar)}" if similar else ""
    return InvalidInput("models", pattern, f"matches none of the {len(names)} transformers of timm {timm_version}{hint}")


def summary(rows: Iterable[Coverage]) -> list[str]:
    """Lines of a Markdown table: for each combination of axes, the number of models and the timm modules they are from."""
    families_by_axes: dict[tuple[Axis, ...], Counter[str]] = {}
    for row in rows:
        families_by_axes.setdefault(row.axes, Counter())[row.family] += 1
    total = sum(sum(families.values()) for families in families_by_axes.values())
    not_resizable = sum(families_by_axes.get((), Counter()).values())
    lines = ["| axes | names | timm modules |", "| --- | --- | --- |"]
    for axes, families in sorted(families_by_axes.items(), key=lambda item: (-len(item[0]), item[0])):
        modules = ", ".join(f"{module} {number}" for module, number in sorted(families.items()))
        lines.append(f"| {', '.join(axes) or 'none'} | {sum(families.values())} | {modules} |")
    return [*lines, f"| any | {total - not_resizable} of {total} | |"]
