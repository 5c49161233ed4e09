"""Weights that training starts from: a file of the user's (`model.checkpoint`), fitted to classes, channels and image size.

Files are read by timm's `load_state_dict`, which unpickles tensors only, and converted by the `checkpoint_filter_fn` of the
model's module in timm: it knows other names of the same weights, and resamples position embeddings.
"""

from __future__ import annotations

import hashlib
import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from timm.layers import resample_abs_pos_embed
from timm.models import adapt_input_conv, load_state_dict
from torch import Tensor, nn

from explorer.console import printable
from explorer.errors import InvalidInput
from explorer.paths import expanded
from explorer.spec.model import ModelSpec
from explorer.spec.task import TaskSpec
from explorer.training.tensor_shapes import early_stage_clause, first_different_tensor

FIELD = "model.checkpoint"
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
"""Ends of the names of files that can be read."""
PREFIX_TOKENS = (0, 1, 2, 5)
"""Numbers of class, distillation and register tokens that position embeddings may begin with."""

RGB = 3
MAX_SHOWN = 3
"""Number of resized tensors that are listed."""


def checkpoint_noted(task: TaskSpec) -> TaskSpec:
    """The task with the digest of its file of weights, if it has one.

    Raises:
        InvalidInput: when the file cannot be read, or its content is not that of `model.weights_sha256`.
    """
    model = task.model
    if model.checkpoint is None:
        return task
    path = checkpoint_path(model.checkpoint)
    try:
        status = os.stat(path)
        digest = _sha256(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise InvalidInput(FIELD, path, f"cannot be read: {error.strerror or error}") from None
    if model.weights_sha256 not in (None, digest):
        reason = f"its SHA-256 is {digest}, and must be {model.weights_sha256} (model.weights_sha256): the file has changed"
        raise InvalidInput(FIELD, path, reason)
    return task.model_copy(update={"model": model.model_copy(update={"weights_sha256": digest})})


def checkpoint_path(given: str) -> str:
    """The path of a file of weights.

    Raises:
        InvalidInput: when there is no such file, or it is of another kind.
    """
    path = expanded(given, FIELD)
    if not path.endswith(SUFFIXES):
        raise InvalidInput(FIELD, given, f"must be a file of weights: {', '.join(SUFFIXES)}")
    if not Path(path).is_file():
        raise InvalidInput(FIELD, path, "there is no such file")
    return path


@lru_cache(maxsize=8)
def _sha256(path: str, _size: int, _modified: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class FittedWeights:
    """Weights of a file as a model takes them."""

    tensors: dict[str, Tensor]
    """By their names in the model; without those of a classifier that is not taken."""
    changes: tuple[str, ...]
    """What differs from the file, one clause each."""

    def load(self, model: nn.Module) -> None:
        """Copy the weights into the model that they were fitted to, or one that is built like it."""
        model.load_state_dict(self.tensors, strict=False)


def fitted_weights(model: nn.Module, spec: ModelSpec) -> FittedWeights:
    """Read the file of weights of a model, and fit them to the model.

    Args:
        model: at full size, on any device; it is not changed.
        spec: names the file.

    Raises:
        InvalidInput: when the file cannot be read; when it has weights of another architecture, naming the first tensor that
            differs.
    """
    assert spec.checkpoint is not None
    path = checkpoint_path(spec.checkpoint)
    in_file = _read(path)
    tensors = _converted(in_file, model)
    expected = dict(model.state_dict())
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    resized: list[str] = []
    for name, tensor in list(tensors.items()):
        if name not in expected:
            continue
        if name in in_file and in_file[name].numel() != tensor.numel():
            resized.append(_resized(name, in_file[name], tensor))
        elif (fitted := _fitted(name, tensor, expected[name], _first_convolutions(model))) is not None:
            tensors[name] = fitted
            resized.append(_resized(name, tensor, fitted))
    changes = resized[:MAX_SHOWN]
    if len(resized) > MAX_SHOWN:
        changes.append(f"and {len(resized) - MAX_SHOWN} more tensors for the size of the images")
    classifier = [name for name in expected if name.startswith(tuple(f"{each}." for each in _classifiers(model)))]
    replaced = [name for name in classifier if _is_other_classifier(tensors.get(name), expected[name])]
    for name in replaced:
        dropped, _ = tensors.pop(name, None), expected.pop(name)
        if name.endswith("weight"):
            old = "the file has none" if dropped is None else f"that of the file is for {len(dropped):,} classes"
            changes.append(f"{name} is new: {old}")
    for name in list(expected):  # such as indices of relative positions, which the model computes
        statistic = name.endswith(("running_mean", "running_var"))
        if name not in parameters and not statistic and _shape(tensors.get(name)) != _shape(expected[name]):
            del expected[name]
            tensors.pop(name, None)
    shapes = [{name: tuple(tensor.shape) for name, tensor in each.items()} for each in (tensors, expected)]
    if different := first_different_tensor(*shapes):
        reason = (
            f"has weights of another architecture: {printable(different.name)} {different.in_file} in the file, and "
            f"{different.in_model} in {spec.name} with the options of this task{early_stage_clause(*shapes)}"
        )
        raise InvalidInput(FIELD, path, reason)
    return FittedWeights(tensors, tuple(changes))


def _read(path: str) -> dict[str, Tensor]:
    try:
        tensors = load_state_dict(path)
    except Exception as error:  # of pickle, zip, safetensors and timm
        reason = f"must contain tensors only: {printable(str(error)).partition(' No automatic')[0]}"
        raise InvalidInput(FIELD, path, reason) from None
    other = next((name for name, value in tensors.items() if not isinstance(value, Tensor)), None)
    if other is not None:
        reason = f"must contain tensors, by name or under state_dict or model: {printable(str(other))} is none"
        raise InvalidInput(FIELD, path, reason)
    return tensors


def _converted(tensors: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The weights after the conversion of the nearest class that has one; as they are if it is for other weights."""
    for kind in type(model).__mro__:
        convert: Callable[..., Any] | None = getattr(sys.modules.get(kind.__module__), "checkpoint_filter_fn", None)
        if convert is not None:
            try:
                return dict(convert(dict(tensors), model))
            except Exception:  # of any kind, for weights that it does not expect; the comparison names what differs
                return dict(tensors)
    return dict(tensors)


def _fitted(name: str, tensor: Tensor, expected: Tensor, first_convolutions: set[str]) -> Tensor | None:
    """A tensor for another image size or other channels, at the size of the model; `None` if it is something else."""
    reads_rgb = name in first_convolutions and tensor.ndim == 4 and tensor.shape[1] == RGB
    if reads_rgb and expected.shape[1] != RGB and tensor[:, 0].shape == expected[:, 0].shape:
        return adapt_input_conv(expected.shape[1], tensor)
    is_position = "pos" in name and tensor.ndim == expected.ndim == 3 and tensor.shape[1] != expected.shape[1]
    if is_position and tensor.shape[::2] == expected.shape[::2]:
        for prefix in PREFIX_TOKENS:
            sides = [math.isqrt(max(0, each.shape[1] - prefix)) for each in (tensor, expected)]
            if all(side and side**2 + prefix == each.shape[1] for side, each in zip(sides, (tensor, expected), strict=True)):
                return resample_abs_pos_embed(tensor, [sides[1]] * 2, num_prefix_tokens=prefix)
    return None


def _first_convolutions(model: nn.Module) -> set[str]:
    """Names of the weights that read the images' channels."""
    named: Any = (getattr(model, "pretrained_cfg", None) or {}).get("first_conv")
    if named is None:
        named = next((name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)), ())
    return {f"{each}.weight" for each in ((named,) if isinstance(named, str) else named)}


def _classifiers(model: nn.Module) -> tuple[str, ...]:
    """Names of the layers that give class scores: as timm knows them, otherwise the last linear layer."""
    named: Any = (getattr(model, "pretrained_cfg", None) or {}).get("classifier")
    if named is None:
        named = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1:]
    return (named,) if isinstance(named, str) else tuple(named)


def _is_other_classifier(in_file: Tensor | None, own: Tensor) -> bool:
    """Whether a tensor of the classifier is missing in the file, or is for another number of classes."""
    return in_file is None or (in_file.shape[0] != own.shape[0] and in_file.shape[1:] == own.shape[1:])


def _shape(tensor: Tensor | None) -> tuple[int, ...] | None:
    return None if tensor is None else tuple(tensor.shape)


def _resized(name: str, before: Tensor, after: Tensor) -> str:
    if before.ndim == 4 and before.shape[1] != after.shape[1]:
        return f"{name} is converted from {before.shape[1]} to {after.shape[1]} channels"
    return f"{name} is resampled from {tuple(before.shape)} to {tuple(after.shape)}"
