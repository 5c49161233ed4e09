"""The device that trains."""

from __future__ import annotations

import torch


def device_for(gpus: float) -> str:
    """`cuda` for a run that is given GPUs, if this machine has any; otherwise `cpu`."""
    return "cuda" if gpus > 0 and torch.cuda.is_available() else "cpu"


def device_name(device: str) -> str:
    """The GPU's name, or `cpu`."""
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"


def training_on(device: str, bf16: bool, threads: int, processes: int) -> str:
    """Where a run trains: `training on NVIDIA H100, bf16`, `training with 2 processes, each on the CPU, 1 thread`.

    Args:
        device: the GPU's name, or `cpu`.
        bf16: whether training is in mixed precision.
        threads: threads of each process on the CPU.
        processes: number of processes that train together.
    """
    where = f"the CPU, {threads} thread{'s' if threads > 1 else ''}" if device == "cpu" else device
    each = f"with {processes} processes, each on" if processes > 1 else "on"
    return f"training {each} {where}{', bf16' if bf16 else ''}"
