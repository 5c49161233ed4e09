"""Compiles a model with `torch.compile`, such that equal blocks share their code and no size is left uncompiled unseen.

A model with one stack of equal blocks is compiled block by block, in place: code for a block of one size is compiled once and
serves all blocks of this size, at every stage and in later trials of the same process. Blocks with different rates of
stochastic depth are not equal. Other models are compiled as a whole, once for each size. Code is also kept on disk
(`TORCHINDUCTOR_CACHE_DIR`), so that later processes on the host need not compile it again.

torch stops compiling a function after eight sizes and goes on without a word, slower. Here there is no such limit.

torch has no public names for these limits and counters. This module is the only one that uses the private ones; its test fails
when a new release of torch changes them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn

from explorer.elastic.depth import active_blocks

BACKEND = "inductor"
"""Backend of `torch.compile`."""
MAX_SIZES = 4096
"""Sizes for which a block may be compiled in one process. Beyond it, training fails; it does not go on uncompiled."""


@dataclass(frozen=True)
class CompiledCode:
    """What was compiled in this process."""

    graphs: int = 0
    """Number of graphs: one for each size of a block, or of a model that is compiled as a whole, without graph breaks."""
    graph_breaks: int = 0
    """Number of places where Python interrupted a graph."""

    def since(self, before: CompiledCode) -> CompiledCode:
        """What was compiled after an earlier count."""
        return CompiledCode(self.graphs - before.graphs, self.graph_breaks - before.graph_breaks)

    @classmethod
    def so_far(cls) -> CompiledCode:
        """What this process has compiled since it started."""
        counters = torch._dynamo.utils.counters
        return cls(counters["stats"]["unique_graphs"], sum(counters["graph_break"].values()))


@cache
def can_compile(device: str) -> bool:
    """Whether a function of one line can be compiled for `cuda` or `cpu` here; if not, a warning says why."""
    try:
        torch.compile(torch.square, backend=BACKEND)(torch.ones(1, device=device))
    except Exception as error:  # what backends and C++ compilers raise has no common class
        reason = str(error).strip().split("\n", 1)[0]
        warnings.warn(f"recipe.compile: nothing can be compiled on this machine, training without: {reason}", stacklevel=2)
        return False
    return True


def compile_blocks(model: nn.Module) -> bool:
    """Compile the active blocks of a model in place, each at the sizes that it is called with.

    Compilation takes place at the first call with a size. To be called again after each stage change, which may add blocks.

    Returns:
        Whether the model has a stack of blocks; if not, nothing is done, and the model is to be compiled as a whole.
    """
    _configure_torch()
    blocks = active_blocks(model)
    for block in blocks or ():
        if block._compiled_call_impl is None:
            block.compile(
                dynamic=False, backend=BACKEND
            )  # sizes are constant within a stage, and code for varying ones is slower
    return blocks is not None


def compiled_whole(model: nn.Module, *, cuda_graphs: bool = False) -> nn.Module:
    """A wrapper that compiles a model as a whole.

    Args:
        model: the model.
        cuda_graphs: whether its kernels are recorded and started together (`mode="reduce-overhead"`), which saves the time
            to start each of them and takes more memory; `begin_step` is then called before each forward pass. Without effect
            on the CPU.
    """
    _configure_torch()
    mode = "reduce-overhead" if cuda_graphs else None
    wrapped: nn.Module = torch.compile(model, dynamic=False, backend=BACKEND, mode=mode)  # type: ignore[assignment]
    return wrapped


def begin_step() -> None:
    """Say that the outputs of the forward pass before are no longer needed: the next one overwrites them."""
    torch.compiler.cudagraph_mark_step_begin()


@contextmanager
def without_compiling() -> Iterator[None]:
    """Within the context, models run what they are made of, compiled or not: for evaluation, at sizes that are used once."""
    with torch.compiler.set_stance("force_eager"):
        yield


def _configure_torch() -> None:
    """Lift torch's limits, and silence a warning of its own access to inputs of blocks."""
    warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf Tensor is being accessed")
    config = torch._dynamo.config
    config.recompile_limit = config.accumulated_recompile_limit = MAX_SIZES
    config.fail_on_recompile_limit_hit = True
