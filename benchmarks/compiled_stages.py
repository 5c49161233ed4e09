"""Does compilation hold over many sizes and trials, and does it cost one block's compilation whatever the depth?

    python benchmarks/compiled_stages.py [--trials 30] [--sizes 20] [--device cuda]

Takes ten minutes on one core, most of it compiling. Three measurements, each with an empty cache on disk:

1. The stages of a training, each at another size: the number of recompilations (graphs after the first).
2. Compile time of one block and of twelve, and of twelve in a second process that finds the code on disk.
3. Trials over many sizes in one process: the time of a step of the last one over that of the third, which has the
   same size.

The last line has the recompilations, the distinct sizes after the first, and the ratio of 3. It exits with 1 if these two
numbers differ, a graph breaks, or the ratio is above 1.1.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time

import torch
from figures import keep

from explorer import Rates
from explorer.spec.task import TaskSpec
from explorer.training.compilation import CompiledCode, can_compile
from explorer.training.step_time import TimedTraining
from explorer.training.task import Task

MAX_RATIO = 1.1
BLOCK_STEPS = 20


def task_of(depth: int, *, compiled: bool = True) -> Task:
    """The task of all measurements: fractals, a narrow model."""
    options = {"patch_size": 8, "embed_dim": 64, "depth": depth, "num_heads": 4, "global_pool": "avg", "class_token": False}
    content = {
        "model": {"name": "vit_tiny_patch16_224", "options": options},
        "data": {"name": "fractals", "image_size": 32, "fractals": {"classes": 4, "instances": 64, "held_out": 16}},
        "recipe": {"epochs": 1, "batch_size": 16, "learning_rate": 1e-3, "compile": compiled},
    }
    return Task(TaskSpec.model_validate(content))


def first_steps(depth: int, device: str) -> tuple[float, int]:
    """Seconds of the first steps of a training that is compiled, and the number of graphs."""
    can_compile(device)  # which compiles a line
    before, started = CompiledCode.so_far(), time.perf_counter()
    TimedTraining(task_of(depth), Rates(), device)
    return time.perf_counter() - started, CompiledCode.so_far().since(before).graphs


def in_new_process(depth: int, cache: str, device: str) -> tuple[float, int]:
    """`first_steps` in a process of its own, with this cache on disk."""
    command = [sys.executable, __file__, "--first-steps", str(depth), "--device", device]
    done = subprocess.run(
        command, env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache}, check=True, capture_output=True, text=True
    )
    seconds, graphs = done.stdout.split()[-2:]
    return float(seconds), int(graphs)


def step_seconds(task: Task, rates: Rates, device: str) -> float:
    """Seconds of a step: the best of three blocks of steps."""
    training = TimedTraining(task, rates, device)
    laps = [training.block(BLOCK_STEPS) for _ in range(3)]
    return min(lap.seconds / lap.steps for lap in laps)


def main() -> None:
    """Measure, print, and exit with 1 if compilation does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--sizes", type=int, default=20)
    parser.add_argument("--stages", type=int, default=8)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--first-steps", type=int, metavar="DEPTH", help=argparse.SUPPRESS)
    options = parser.parse_args()
    device = options.device
    torch.set_num_threads(1)
    if options.first_steps:
        print(*first_steps(options.first_steps, device))
        return
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as twelve:
        seconds_1, _ = in_new_process(1, one, device)
        seconds_12, graphs_12 = in_new_process(12, twelve, device)
        again, _ = in_new_process(12, twelve, device)
    print(
        f"first steps: one block {seconds_1:.1f} s; twelve {seconds_12:.1f} s, {graphs_12} graphs; twelve again {again:.1f} s"
    )
    keep("first steps of twelve compiled blocks over those of one", seconds_12 / seconds_1, 0.3)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        sizes = [Rates(mlp=(number + 1) / options.sizes) for number in range(options.sizes)]
        task = task_of(2)
        can_compile(device)
        before = CompiledCode.so_far()
        for rates in sizes[: options.stages]:
            step_seconds(task, rates, device)
        stages = CompiledCode.so_far().since(before)
        print(f"{options.stages} stages: {stages.graphs} graphs, {stages.graph_breaks} graph breaks")
        times = []
        for number in range(options.trials):
            position = 2 if number == options.trials - 1 else number % options.sizes
            times.append(step_seconds(task, sizes[position], device))
        plain = step_seconds(task_of(2, compiled=False), sizes[2], device)
    code, ratio = CompiledCode.so_far().since(before), times[-1] / times[2]
    print(f"{options.trials} trials, {options.sizes} sizes: {code.graphs} graphs, {code.graph_breaks} graph breaks")
    print(f"step: third trial {1e3 * times[2]:.2f} ms, last {1e3 * times[-1]:.2f} ms, not compiled {1e3 * plain:.2f} ms")
    keep("compiled step of the last of thirty trials over the third's", ratio, 0.1)
    recompilations, others = stages.graphs - 1, options.stages - 1
    print(f"recompilations {recompilations}, distinct sizes after the first {others}, last over third {ratio:.2f}")
    every_size = recompilations == others and code.graphs == options.sizes and not code.graph_breaks
    sys.exit(0 if every_size and ratio <= MAX_RATIO else 1)


if __name__ == "__main__":
    main()
