"""Counts, for timm's transformers, the axes on which each can be reduced and what a training step then costs.

Every model is built on the meta device at the input size it was published with, resized, and its training step counted, so
nothing is downloaded or computed. Counting all models takes about half an hour on two cores, so the results for a tested
version of timm ship with the package (`explorer.elastic.coverage_table`). To support another version of timm, install it, run
the tests of `tests/elastic`, and write the table of that version into the package:

    python -m explorer.elastic.coverage

which shows progress and replaces `explorer/elastic/coverage_tables/timm-VERSION.json`. Repeat this for the supported version
whenever a row of the table of layouts changes: `tests/elastic/test_coverage_table.py` compares a sample of its models with a
fresh count.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import timm
import torch
from rich.console import Console
from rich.progress import track
from timm.models import model_entrypoint

from explorer.cost import count_step_flops
from explorer.elastic.coverage_table import FOLDER, Coverage, CoverageTable, file_name, no_match
from explorer.elastic.model import ElasticModel
from explorer.elastic.subset import subsets
from explorer.elastic.tokens import full_image_size, token_policies
from explorer.errors import InvalidInput
from explorer.files import write_file
from explorer.spec.rates import Rates

_MODULES = """
    beit cait coat convit cpubone crossvit csatv2 davit deepseek_vit deit edgenext efficientformer efficientformer_v2
    efficientvit_mit efficientvit_msra eva fastvit gcvit gemma4_vit hiera hieradet_sam2 iformer levit lowformer maxxvit
    metaformer mobilenetv5 mobilevit mvitv2 naflexvit nest nextvit pit pvt_v2 qwen3_vit shvit swiftformer swin_transformer
    swin_transformer_v2 swin_transformer_v2_cr tiny_vit tnt twins visformer vision_transformer vision_transformer_hybrid
    vision_transformer_relpos vision_transformer_sam vitamin volo xcit
"""
TRANSFORMER_MODULES = frozenset(f"timm.models.{name}" for name in _MODULES.split())
"""Modules of timm whose models are vision transformers, including hybrids with convolutions."""
MIN_MODELS_PER_PROCESS = 8
"""Counting fewer models takes about as long as starting another process."""


def transformer_names(pattern: str = "*") -> list[str]:
    """Names of timm's transformers and of models registered by others, as `timm.list_models` matches and orders them.

    Raises:
        InvalidInput: if no name matches; the message has similar names.
    """
    names = [name for name in timm.list_models(pattern) if _may_be_transformer(name)]
    if not names:
        raise no_match(pattern, timm.__version__, [name for name in timm.list_models() if _may_be_transformer(name)])
    return names


def registered_outside_timm(pattern: str = "*") -> list[str]:
    """Names that match a pattern and were registered by packages other than timm."""
    return [name for name in timm.list_models(pattern) if not model_entrypoint(name).__module__.startswith("timm.")]


def family(name: str) -> str:
    """The module that registers a name, without the packages that contain it."""
    return model_entrypoint(name).__module__.rpartition(".")[2]


def coverage(name: str, count: bool = True) -> Coverage:
    """What can be done with a model. If anything fails, the error's message becomes the `reason`.

    Args:
        name: a name in `timm.list_models()`.
        count: whether to count the training step, which takes most of the time.
    """
    try:
        return _coverage(name, count)
    except Exception as error:  # anything that a third-party model may raise
        return Coverage(name=name, family=family(name), reason=_one_line(error))


def coverages(names: Sequence[str], count: bool = True) -> Iterator[Coverage]:
    """What can be done with each of several models, in the order of their names, on all cores.

    Args:
        names: names in `timm.list_models()`.
        count: see `coverage`.
    """
    # A new process imports timm but no other package, so it does not know models that others have registered.
    outside = bool(set(names) & set(registered_outside_timm()))
    processes = 1 if outside else min(os.cpu_count() or 1, len(names) // MIN_MODELS_PER_PROCESS)
    if processes < 2:
        yield from (coverage(name, count) for name in names)
        return
    # Spawned, not forked: torch's threads do not survive a fork.
    with ProcessPoolExecutor(
        processes, multiprocessing.get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        yield from pool.map(coverage, names, itertools.repeat(count))


def _may_be_transformer(name: str) -> bool:
    module = model_entrypoint(name).__module__
    return module in TRANSFORMER_MODULES or not module.startswith("timm.")


def _coverage(name: str, count: bool) -> Coverage:
    with torch.device("meta"):
        model = timm.create_model(name, pretrained=False)
    elastic = ElasticModel(model)
    smallest = elastic.smallest_rates
    axes = tuple(axis for axis in elastic.axes if getattr(smallest, axis) < 1)
    if not axes:
        raise InvalidInput("model", name, "every layer has a single head and nothing else can be reduced")
    policies = token_policies(model)  # of the model at full size
    images_shape_BCHW = (2, *_input_size(model))  # BatchNorm needs more than one image
    full_flops = count_step_flops(model, images_shape_BCHW) // 2 if count else None
    elastic.set_rates(Rates(**{axis: 0.5 for axis in axes if axis != "depth"}))
    half_flops = count_step_flops(model, images_shape_BCHW) // 2 if count else None
    return Coverage(
        name=name,
        family=family(name),
        axes=axes,
        smallest_rates=smallest,
        token_policies=policies,
        subsets=subsets(model),
        full_flops=full_flops,
        half_flops=half_flops,
    )


def _input_size(model: torch.nn.Module) -> tuple[int, int, int]:
    """Channels, height and width of the images that a model was published with, or else was built for."""
    configuration = getattr(model, "pretrained_cfg", None) or {}
    channels, height, width = configuration.get("input_size") or (3, *full_image_size(model))
    return channels, height, width


def _one_line(error: Exception) -> str:
    if isinstance(error, InvalidInput):
        return error.allowed
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text}"


def main() -> None:
    """Write the table for the installed version of timm."""
    parser = argparse.ArgumentParser(description="Write the table for the installed version of timm.")
    parser.add_argument("--folder", type=Path, default=Path(__file__).with_name(FOLDER), help="where tables are written")
    parser.add_argument("--pattern", default="*", help="only names that match, for a trial")
    options = parser.parse_args()
    names = transformer_names(options.pattern)
    rows = track(coverages(names), "counting models", total=len(names), console=Console(stderr=True))
    table = CoverageTable(timm.__version__, tuple(rows))
    print(write_file(options.folder / file_name(timm.__version__), table.to_json()), file=sys.stderr)


if __name__ == "__main__":
    main()
