"""Time a training step of a resized timm model (forward, backward, AdamW). Needs torch and timm, but not ray."""

import os
import platform
import statistics
import time
from collections.abc import Mapping
from typing import Any

import timm
import torch
from timm.optim import create_optimizer_v2
from torch import nn
from torch.profiler import ProfilerActivity, profile

from explorer import Rates
from explorer.elastic import ElasticModel
from explorer.elastic.step_cost import StepCounter
from explorer.spec.staging import Staging
from explorer.training.compilation import compile_blocks, compiled_whole

ARITHMETIC = ("mm", "conv", "attention")
"""Substrings of the names of operations whose FLOPs are counted: not norms, residuals, activations, and the optimizer."""


class TimedStep:
    """A model at fixed rates with its optimizer and a batch.

    Args:
        model: arguments of `timm.create_model`.
        rates: activation rates.
        batch, size: number of images, and their height and width in pixels.
        device: device of the model and the images.
        optimizer: implementation of AdamW: `fused`, `foreach` or `loop`.
        compiled: `blocks`, each compiled on its own, or `reduce-overhead`, the model as a whole with CUDA graphs; `None` runs
            eagerly.
        bf16: whether to use automatic mixed precision with bfloat16.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        rates: Rates,
        batch: int,
        size: int,
        device: str = "cpu",
        optimizer: str = "fused",
        compiled: str | None = None,
        bf16: bool = False,
    ) -> None:
        with torch.device("meta"):
            counter = StepCounter(timm.create_model(**model), Staging(), (3, size, size))
        self.flops = counter.step_cost(rates, batch).flops
        self.model = timm.create_model(**model).to(device)
        self.optimizer = create_optimizer_v2(
            self.model, "adamw", lr=1e-4, fused=optimizer == "fused", foreach=optimizer == "foreach"
        )
        ElasticModel(self.model).set_rates(rates, self.optimizer)
        self.trained: nn.Module = self.model
        if compiled == "reduce-overhead":
            self.trained = compiled_whole(self.model, cuda_graphs=True)
        elif compiled:
            compile_blocks(self.model)
        self.images = torch.randn(batch, 3, size, size, device=device)
        self.labels = torch.randint(0, 10, (batch,), device=device)
        self.device, self.bf16 = device, bf16

    def steps(self, count: int) -> None:
        """Train for a number of steps."""
        for _ in range(count):
            self.optimizer.zero_grad(set_to_none=True)
            with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
                loss = nn.functional.cross_entropy(self.trained(self.images), self.labels)
            loss.backward()
            self.optimizer.step()

    def seconds(self, count: int) -> float:
        """Mean seconds per step over a number of steps."""
        self._wait()
        started = time.perf_counter()
        self.steps(count)
        self._wait()
        return (time.perf_counter() - started) / count

    def split(self) -> tuple[float, float]:
        """Shares of a step's CPU time in counted operations and in all others."""
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            self.steps(3)
        times = {row.key: row.self_cpu_time_total for row in profiled.key_averages()}
        arithmetic = sum(value for name, value in times.items() if any(part in name for part in ARITHMETIC))
        return arithmetic / sum(times.values()), 1 - arithmetic / sum(times.values())

    def peak_bytes(self) -> int:
        """Peak GPU memory of a step, including weights and optimizer state."""
        torch.cuda.reset_peak_memory_stats()
        self.steps(2)
        return torch.cuda.max_memory_allocated()

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def rounds(candidates: Mapping[str, TimedStep], count: int, steps: int) -> list[dict[str, float]]:
    """Time all candidates in turn in each round, so that their ratios do not depend on drifts of the machine's speed."""
    for candidate in candidates.values():
        candidate.seconds(3)
    return [{name: candidate.seconds(steps) for name, candidate in candidates.items()} for _ in range(count)]


def median_ratio(timed: list[dict[str, float]], name: str, over: str) -> float:
    """Median over rounds of one candidate's time divided by another's in the same round."""
    return statistics.median(each[name] / each[over] for each in timed)


def median_milliseconds(timed: list[dict[str, float]], name: str) -> float:
    """Median over rounds."""
    return 1000 * statistics.median(each[name] for each in timed)


def where(device: str) -> str:
    """Hardware, versions, and date in one line."""
    hardware = torch.cuda.get_device_name() if device == "cuda" else f"one thread of {os.cpu_count()} CPU cores"
    return f"{hardware} ({platform.machine()}), torch {torch.__version__}, timm {timm.__version__}, {time.strftime('%Y-%m-%d')}"
