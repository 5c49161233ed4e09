"""The device that trains."""

from __future__ import annotations

import os
import warnings

import torch

from explorer.errors import InvalidInput


def device_for(gpus: float) -> str:
    """The device of a run that is given this number of GPUs: `cuda`, or `cpu` for none.

    Raises:
        InvalidInput: when the run is given a GPU that torch cannot use; it quotes torch's reason.
    """
    if gpus <= 0:
        return "cpu"
    if reason := gpu_obstacle():
        raise InvalidInput("resources.gpus", gpus, f"the GPU cannot be used: {reason}")
    return "cuda"


def available_device(gpus: float) -> str:
    """`cuda` for a run that is given GPUs, if this machine has one that torch can use; otherwise `cpu`."""
    return "cuda" if gpus > 0 and gpu_obstacle() is None else "cpu"


def gpu_obstacle() -> str | None:
    """Why torch cannot use a GPU in this process, in one line; `None` if it can."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of what is returned here
        try:
            torch.cuda.init()
            torch.zeros(1, device="cuda")  # a device that is listed may still be of an unknown kind, or be in use
        except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            visible = os.environ.get("CUDA_VISIBLE_DEVICES")
            return reason if visible is None else f"{reason} (CUDA_VISIBLE_DEVICES is {visible!r})"
    return None


def device_name(device: str) -> str:
    """The GPU's name, or `cpu`."""
    return torch.cuda.get_device_name() if device == "cuda" else device


def training_on(device: str, precision: str | None, threads: int, processes: int) -> str:
    """Where a run trains: `training on NVIDIA H100, bf16`, `training with 2 processes, each on the CPU, 1 thread`.

    Args:
        device: the GPU's name, or `cpu`.
        precision: the lower precision of training; `None` without mixed precision.
        threads: threads of each process on the CPU.
        processes: number of processes that train together.
    """
    where = f"the CPU, {threads} thread{'s' if threads > 1 else ''}" if device == "cpu" else device
    each = f"with {processes} processes, each on" if processes > 1 else "on"
    return f"training {each} {where}{f', {precision}' if precision else ''}"
