"""Wrappers of a model that are made for one size of it: found, and renewed when the model is resized, so that users need not
wrap it again. Wrappers of an optimizer are taken off.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim import Optimizer

from explorer.elastic.optimizer_state import as_sequence
from explorer.errors import InvalidInput

COMPILED = torch._dynamo.OptimizedModule
"""Class of models that `torch.compile` returns. torch has no public name for it; a test fails when that changes."""


def unwrapped(model: nn.Module) -> nn.Module:
    """The model within DistributedDataParallel and `torch.compile`; the model itself if it is not wrapped.

    Raises:
        InvalidInput: when it is wrapped by what cannot follow a change of its size.
    """
    while isinstance(model, (DistributedDataParallel, COMPILED)):
        _refuse_static_graph(model)
        model = model.module if isinstance(model, DistributedDataParallel) else model._orig_mod
    refuse_sharded(model)
    return model


def unwrapped_optimizers(optimizer: Optimizer | Sequence[Optimizer]) -> Sequence[Optimizer]:
    """One optimizer or several as a sequence, each without the wrapper of Accelerate's `prepare`.

    The wrapper is an `Optimizer` too, but it has no hooks and no state of its own: it calls the optimizer that it wraps.
    """
    wrapped: Sequence[Any] = as_sequence(optimizer)
    return tuple(each.optimizer if _is_accelerates(each) else each for each in wrapped)


def _is_accelerates(optimizer: object) -> bool:
    """Whether an optimizer is a wrapper of Accelerate, by name: the package may not be installed."""
    return any(kind.__module__.startswith("accelerate.") for kind in type(optimizer).__mro__)


def refuse_sharded(model: nn.Module) -> None:
    """Refuse DataParallel, whose copies of the model are hidden, and FSDP, whose parameters are parts of tensors.

    Raises:
        InvalidInput: naming what to use in place of it.
    """
    kinds = {kind.__name__ for kind in type(model).__mro__}
    instead = "cannot be resized; wrap the model in DistributedDataParallel"
    if isinstance(model, DataParallel):
        raise InvalidInput("model", type(model).__name__, instead)
    # fully_shard makes a class of its own of each sharded module's class.
    if kinds & {"FSDPModule", "FullyShardedDataParallel"}:
        raise InvalidInput("model", type(model).__name__, f"its parameters are shards (FSDP), and {instead}")
    for name, parameter in model.named_parameters():
        if "DTensor" in {kind.__name__ for kind in type(parameter).__mro__}:
            raise InvalidInput(
                "model", name, f"is a shard of a parameter (DTensor of FSDP2 or of tensor parallelism), and {instead}"
            )


def check_wrappers(model: nn.Module) -> Sequence[DistributedDataParallel]:
    """Every DistributedDataParallel around a model, which may have been wrapped after it was given to the schedule.

    Raises:
        InvalidInput: when one of them cannot follow a change of its size.
    """
    wrappers = list(_data_parallel_around(model)) if distributed.is_initialized() else []
    for wrapper in wrappers:
        _refuse_static_graph(wrapper)
    return wrappers


def _refuse_static_graph(model: nn.Module) -> None:
    """Refuse static graphs: after a change of size, gradients of a step are not averaged, and the processes' weights differ."""
    if isinstance(model, DistributedDataParallel) and model.static_graph:
        raise InvalidInput("static_graph", True, "must be False: the graph changes with every stage")


def renew_wrappers(model: nn.Module) -> int:
    """Renew every DistributedDataParallel around a model, in place, for the model's present size.

    Its reducer has hooks on the nodes that accumulate gradients, and buckets of their sizes. Every process has to call this.

    Returns:
        The number of wrappers.

    Raises:
        InvalidInput: as `check_wrappers`.
    """
    wrappers = check_wrappers(model)
    for wrapper in wrappers:
        state = wrapper.__getstate__()
        hooks = list(state.get("_comm_hooks", ()))
        del wrapper.reducer, wrapper.logger  # its hooks go with the reducer
        wrapper.__setstate__({**state, "_comm_hooks": []})  # as after unpickling: makes reducer and logger anew
        for hook, hook_state in hooks:
            wrapper.register_comm_hook(hook_state, hook)
    return len(wrappers)


def _data_parallel_around(model: nn.Module) -> Iterator[DistributedDataParallel]:
    """The wrappers that exist in this process, whoever holds them: a trainer's is not accessible otherwise."""
    for candidate in gc.get_objects():
        is_wrapper = issubclass(type(candidate), DistributedDataParallel) and hasattr(candidate, "reducer")
        if is_wrapper and any(inner is model for inner in candidate.modules()):
            yield candidate
