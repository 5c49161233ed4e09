"""Compare ways to reduce the launch overhead of small stages: four blocks of width 64, full and at .25.

python benchmarks/small_stages.py                  one CPU thread
python benchmarks/small_stages.py --device cuda    also CUDA graphs (torch.compile, mode reduce-overhead)
"""

import argparse

import torch
from figures import keep
from timed_step import TimedStep, median_milliseconds, median_ratio, rounds, where

from explorer import Rates

MODEL = {
    "model_name": "vit_tiny_patch16_224",
    "img_size": 32,
    "patch_size": 4,
    "embed_dim": 64,
    "num_heads": 4,
    "depth": 4,
    "num_classes": 10,
}
WAYS = {
    "eager, AdamW loop": {"optimizer": "loop"},
    "eager, AdamW foreach": {"optimizer": "foreach"},
    "eager, AdamW fused": {},
    "compiled, AdamW fused": {"compiled": "blocks"},
}
GRAPHS = {"CUDA graphs, AdamW fused": {"compiled": "reduce-overhead"}}
SMALL = Rates(heads=0.25, mlp=0.25, tokens=0.25)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=10, help="steps per round")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    options = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(1)
    ways = WAYS | (GRAPHS if options.device == "cuda" else {})
    candidates = {
        (way, size): TimedStep(MODEL, rates, options.batch, 32, options.device, **how)  # type: ignore[arg-type]
        for way, how in ways.items()
        for size, rates in (("full", Rates()), ("small", SMALL))
    }
    named = {f"{way} {size}": candidate for (way, size), candidate in candidates.items()}
    timed = rounds(named, options.rounds, options.steps)
    flops = named["eager, AdamW fused small"].flops / named["eager, AdamW fused full"].flops
    print(
        f"{where(options.device)}\nfour blocks, width 64, 64 tokens, batch {options.batch}; small is {flops:.3f} of the FLOPs\n"
    )
    print("| how | ms a step in full | at .25 | time ratio |\n| --- | --- | --- | --- |")
    for way in ways:
        full, small = (median_milliseconds(timed, f"{way} {size}") for size in ("full", "small"))
        print(f"| {way} | {full:.1f} | {small:.1f} | {median_ratio(timed, f'{way} small', f'{way} full'):.2f} |")
        keep(f"{way}: time of a step at .25, of the full one", median_ratio(timed, f"{way} small", f"{way} full"), 0.15)


if __name__ == "__main__":
    main()
