"""Recognizes modules that wrap a model: they are made for one size of it, and cannot be resized.

torch has no public name for the class that `torch.compile` returns. This module is the only one that uses the private name;
its test fails when a new release of torch changes it.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

WRAPPERS: tuple[type[nn.Module], ...] = (DistributedDataParallel, DataParallel, torch._dynamo.OptimizedModule)
"""Classes of wrapped models."""


def is_wrapped(model: nn.Module) -> bool:
    """Whether a model is wrapped by DataParallel, DistributedDataParallel or `torch.compile`."""
    return isinstance(model, WRAPPERS)
