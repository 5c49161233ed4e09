"""Which timm models can be run at reduced rates, on which axes, and what that saves. Nothing is downloaded or computed.

Every model is built on the meta device at the input size it was published with, resized, and its training step counted.
"""

from __future__ import annotations

import difflib
import itertools
import multiprocessing
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import timm
import torch
from timm.models import model_entrypoint

from explorer.cost import count_step_flops
from explorer.elastic.model import ElasticModel
from explorer.elastic.subset import subsets
from explorer.elastic.tokens import token_policies
from explorer.errors import InvalidInput
from explorer.spec.rates import Axis, Rates
from explorer.spec.staging import SubsetChoice

_MODULES = """
    beit cait coat convit cpubone crossvit csatv2 davit deepseek_vit deit edgenext efficientformer efficientformer_v2
    efficientvit_mit efficientvit_msra eva fastvit gcvit gemma4_vit hiera hieradet_sam2 iformer levit lowformer maxxvit
    metaformer mobilenetv5 mobilevit mvitv2 naflexvit nest nextvit pit pvt_v2 qwen3_vit shvit swiftformer swin_transformer
    swin_transformer_v2 swin_transformer_v2_cr tiny_vit tnt twins visformer vision_transformer vision_transformer_hybrid
    vision_transformer_relpos vision_transformer_sam vitamin volo xcit
"""
TRANSFORMER_MODULES = frozenset(_MODULES.split())
"""Modules of `timm.models` whose models are vision transformers, hybrids with convolutions included."""


FULL = Rates()
FEW = 8
"""Models that a process counts in about the time that it takes to start."""


@dataclass(frozen=True)
class Coverage:
    """What can be done with one timm model."""

    name: str
    """As in `timm.list_models()`."""
    family: str
    """The module of `timm.models` that registers it."""
    axes: tuple[Axis, ...] = ()
    """Axes on which it can be reduced; none where `reason` says why."""
    smallest: Rates = FULL
    """The smallest rate that each axis can really have: one head of each layer, one channel, one token."""
    tokens: str = "-"
    """How tokens become fewer: `drop`, `resize` (smaller images), `drop+resize` where both work, `-` where they cannot."""
    subsets: tuple[SubsetChoice, ...] = ()
    """Which heads and channels may be the active ones; see `explorer.elastic.subset`."""
    full_flops: int | None = None
    """FLOPs of a training step an image with the full model; none where they were not counted."""
    half_flops: int | None = None
    """The same with the rate .5 on every axis there is but depth."""
    reason: str | None = None
    """Why it cannot be resized, in one line."""

    @property
    def half_fraction(self) -> float | None:
        """Cost at rate .5 as a fraction of the full model's."""
        return self.half_flops / self.full_flops if self.full_flops and self.half_flops else None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON: rates only for the axes there are."""
        return {
            "name": self.name,
            "family": self.family,
            "axes": list(self.axes),
            "smallest_rates": {axis: getattr(self.smallest, axis) for axis in self.axes},
            "token_policy": self.tokens,
            "subsets": list(self.subsets),
            "full_flops": self.full_flops,
            "half_flops": self.half_flops,
            "half_fraction": self.half_fraction,
            "reason": self.reason,
        }


def transformer_names(pattern: str = "*") -> list[str]:
    """Names of timm's transformers, as `timm.list_models` matches and orders them.

    Raises:
        InvalidInput: when there is none; with near matches.
    """
    names = [name for name in timm.list_models(pattern) if family(name) in TRANSFORMER_MODULES]
    if not names:
        raise InvalidInput("models", pattern, _nothing_matches(pattern))
    return names


def family(name: str) -> str:
    """The module of `timm.models` that registers a name."""
    return model_entrypoint(name).__module__.rpartition(".")[2]


def coverage(name: str, count: bool = True) -> Coverage:
    """What can be done with a model. Whatever goes wrong with it becomes the reason.

    Args:
        name: as in `timm.list_models()`.
        count: count the training step too: most of the time this takes.
    """
    try:
        return _coverage(name, count)
    except Exception as error:  # anything that a third-party model may raise
        return Coverage(name, family(name), reason=_one_line(error))


def coverages(names: Sequence[str], count: bool = True) -> Iterator[Coverage]:
    """What can be done with each of many models, in their order, on all cores.

    Args:
        names, count: as `coverage` takes.
    """
    workers = min(os.cpu_count() or 1, len(names) // FEW)
    if workers < 2:
        yield from (coverage(name, count) for name in names)
        return
    # Not forked: torch's own threads do not survive that.
    with ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        yield from pool.map(coverage, names, itertools.repeat(count))


def _coverage(name: str, count: bool) -> Coverage:
    with torch.device("meta"):
        model = timm.create_model(name, pretrained=False)
    elastic = ElasticModel(model)
    smallest = elastic.smallest_rates
    axes = tuple(axis for axis in elastic.axes if getattr(smallest, axis) < 1)
    if not axes:
        raise InvalidInput("model", name, "every layer has a single head and nothing else can be reduced")
    images = (2, *model.pretrained_cfg["input_size"])  # two: BatchNorm needs more than one
    full_flops = count_step_flops(model, images) // 2 if count else None
    elastic.set_rates(Rates(**{axis: 0.5 for axis in axes if axis != "depth"}))
    half_flops = count_step_flops(model, images) // 2 if count else None
    tokens = "+".join(token_policies(model)) or "-"
    return Coverage(name, family(name), axes, smallest, tokens, subsets(model), full_flops, half_flops)


def summary(rows: Iterable[Coverage]) -> list[str]:
    """Markdown table of the families and how many names each has, by the axes on which these can be resized."""
    found: dict[tuple[Axis, ...], Counter[str]] = {}
    for row in rows:
        found.setdefault(row.axes, Counter())[row.family] += 1
    names = sum(sum(each.values()) for each in found.values())
    refused = sum(found.get((), Counter()).values())
    lines = ["| axes | names | timm modules |", "| --- | --- | --- |"]
    for axes, families in sorted(found.items(), key=lambda item: (-len(item[0]), item[0])):
        modules = ", ".join(f"{module} {number}" for module, number in sorted(families.items()))
        lines.append(f"| {', '.join(axes) or 'none'} | {sum(families.values())} | {modules} |")
    return [*lines, f"| any | {names - refused} of {names} | |"]


def _nothing_matches(pattern: str) -> str:
    others = timm.list_models(pattern)
    if others:
        return f"no transformer: {others[0]} is of timm.models.{family(others[0])}, not one of the transformer modules"
    names = [name for name in timm.list_models() if family(name) in TRANSFORMER_MODULES]
    near = difflib.get_close_matches(pattern.strip("*"), names, n=3, cutoff=0.4)
    hint = f"; near: {', '.join(near)}" if near else ""
    return f"matches none of timm {timm.__version__}'s {len(names)} transformers{hint}"


def _one_line(error: Exception) -> str:
    if isinstance(error, InvalidInput):
        return error.allowed
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text}"
