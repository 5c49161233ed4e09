"""Run the quick benchmarks and list the figures that differ from the stored ones by more than noise.

    python benchmarks/quick.py            less than ten minutes on two cores
    python benchmarks/quick.py --gpu      the benchmarks for a GPU; needs torch and timm, but not ray
    python benchmarks/quick.py --keep     store the measured figures
    python benchmarks/quick.py --strict   exit with code 1 if a figure differs

Each benchmark states how much its figures vary from run to run. The stored figures are in figures.json.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from figures import VARIABLE

FOLDER = Path(__file__).parent
KEPT = FOLDER / "figures.json"
QUICK = (
    "methods/compare.py",
    "fractals_speed.py",
    "elastic_speed.py --rounds 3",
    "small_stages.py --rounds 7",
    "time_budget.py --seconds 10 --repeats 1",
    "search/replay.py --run",
    "search/replay.py --task fashion --table",
    "search/spend.py",
    "prediction.py --table",
    "intervals.py",
    "dry_run.py",
    "sweep_sharing.py",
    "one_trunk.py --table",
)
GPU = (
    "elastic_speed.py --device cuda",
    "small_stages.py --device cuda",
    "compiled_stages.py --device cuda --trials 15 --sizes 10",
    "input_rates.py",
    "staged_input.py --device cuda --epochs 20",
    "resume_agreement.py --device cuda",
    "fractals_gpu.py --epochs 5 --seeds 1 --budgets 25%",
)


def measure(command: str) -> list[dict[str, float | str]]:
    """Run a benchmark and return the figures that it reports."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "figures")
        script, *arguments = command.split()
        environment = {**os.environ, VARIABLE: str(file)}
        done = subprocess.run([sys.executable, str(FOLDER / script), *arguments], env=environment, check=False)
        if done.returncode:
            print(f"{command}: exit code {done.returncode}", file=sys.stderr)
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def differs(kept: float, now: float, noise: float) -> bool:
    """True if two measurements differ by more than the noise; an infinite value (never reached) equals only another one."""
    if math.isinf(kept) or math.isinf(now):
        return kept != now
    return abs(now - kept) > noise * abs(kept) + 1e-9


def main() -> None:
    """Run the benchmarks, compare the figures, and optionally store them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpu", action="store_true", help="run the benchmarks for a GPU")
    parser.add_argument("--keep", action="store_true", help="store the measured figures")
    parser.add_argument("--strict", action="store_true", help="exit with code 1 if a figure differs")
    parser.add_argument("--only", nargs="*", help="prefixes of the names of the benchmarks to run")
    options = parser.parse_args()
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    commands = [c for c in (GPU if options.gpu else QUICK) if not options.only or c.startswith(tuple(options.only))]
    rows = [("benchmark", "figure", "stored", "now", "noise", "")]
    different, started = 0, time.perf_counter()
    for command in commands:
        for figure in measure(command):
            name, now, noise = str(figure["name"]), float(figure["value"]), float(figure["noise"])
            before = kept.get(command, {}).get(name)
            verdict = "new" if before is None else "DIFFERS" if differs(before, now, noise) else ""
            different += verdict == "DIFFERS"
            rows.append((command, name, "" if before is None else f"{before:.3g}", f"{now:.3g}", f"{noise:.1%}", verdict))
            if options.keep:
                kept.setdefault(command, {})[name] = float(f"{now:.4g}")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"{different} of {len(rows) - 1} figures differ by more than noise; {time.perf_counter() - started:.0f} s")
    if options.keep:
        KEPT.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    sys.exit(1 if options.strict and different else 0)


if __name__ == "__main__":
    main()
