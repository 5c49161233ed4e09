"""Where training happens."""

from __future__ import annotations

import torch


def device_for(gpus: float) -> str:
    """`cuda` for a run that is given GPUs, where there are any; else `cpu`."""
    return "cuda" if gpus > 0 and torch.cuda.is_available() else "cpu"


def device_name(device: str) -> str:
    """The GPU's name, or `cpu`."""
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"
