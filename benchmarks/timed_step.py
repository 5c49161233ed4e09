"""A training step of a resized timm model (forward, backward, AdamW) that benchmarks time. Needs torch and timm, not ray."""

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
from explorer.cost import count_step_flops
from explorer.elastic import ElasticModel

ARITHMETIC = ("mm", "conv", "attention")
"""Parts of the names of operations whose FLOPs are counted; all others are norms, residuals, activations, the optimizer."""


class TimedStep:
    """A model at fixed rates with its optimizer and a batch.

    Args:
        model: arguments of `timm.create_model`.
        rates: at which it trains.
        batch, size: images, and their side in pixels.
        device: where.
        optimizer: `fused`, `foreach` or `loop`: how torch runs AdamW.
        compiled: mode of `torch.compile`; none: eager.
        bf16: automatic mixed precision.
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
            counted = timm.create_model(**model)
        ElasticModel(counted).set_rates(rates)
        self.flops = count_step_flops(counted, (batch, 3, size, size))
        self.model = timm.create_model(**model).to(device)
        self.optimizer = create_optimizer_v2(
            self.model, "adamw", lr=1e-4, fused=optimizer == "fused", foreach=optimizer == "foreach"
        )
        ElasticModel(self.model).set_rates(rates, self.optimizer)
        self.trained: nn.Module = torch.compile(self.model, dynamic=False, mode=compiled) if compiled else self.model  # type: ignore[assignment]
        self.images = torch.randn(batch, 3, size, size, device=device)
        self.labels = torch.randint(0, 10, (batch,), device=device)
        self.device, self.bf16 = device, bf16

    def steps(self, count: int) -> None:
        """Train so many steps."""
        for _ in range(count):
            self.optimizer.zero_grad(set_to_none=True)
            with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
                loss = nn.functional.cross_entropy(self.trained(self.images), self.labels)
            loss.backward()
            self.optimizer.step()

    def seconds(self, count: int) -> float:
        """Seconds a step, over so many."""
        self._wait()
        started = time.perf_counter()
        self.steps(count)
        self._wait()
        return (time.perf_counter() - started) / count

    def split(self) -> tuple[float, float]:
        """Share of a step's CPU time in counted arithmetic, and in all else."""
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            self.steps(3)
        times = {row.key: row.self_cpu_time_total for row in profiled.key_averages()}
        arithmetic = sum(value for name, value in times.items() if any(part in name for part in ARITHMETIC))
        return arithmetic / sum(times.values()), 1 - arithmetic / sum(times.values())

    def peak_bytes(self) -> int:
        """Most GPU memory of a step, weights and optimizer state included."""
        torch.cuda.reset_peak_memory_stats()
        self.steps(2)
        return torch.cuda.max_memory_allocated()

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def rounds(candidates: Mapping[str, TimedStep], count: int, steps: int) -> list[dict[str, float]]:
    """Time all candidates in turn, round after round, so that a machine whose speed drifts gives the same ratios."""
    for candidate in candidates.values():
        candidate.seconds(3)
    return [{name: candidate.seconds(steps) for name, candidate in candidates.items()} for _ in range(count)]


def median_ratio(timed: list[dict[str, float]], name: str, over: str) -> float:
    """Median over rounds of one candidate's time over another's in the same round."""
    return statistics.median(each[name] / each[over] for each in timed)


def median_milliseconds(timed: list[dict[str, float]], name: str) -> float:
    """Median over rounds."""
    return 1000 * statistics.median(each[name] for each in timed)


def where(device: str) -> str:
    """Hardware, versions and date, in a line."""
    hardware = torch.cuda.get_device_name() if device == "cuda" else f"one thread of {os.cpu_count()} CPU cores"
    return f"{hardware} ({platform.machine()}), torch {torch.__version__}, timm {timm.__version__}, {time.strftime('%Y-%m-%d')}"
