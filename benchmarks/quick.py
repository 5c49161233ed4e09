"""The quick benchmarks again, and where they differ from the kept figures by more than noise.

    python benchmarks/quick.py            under ten minutes on two cores
    python benchmarks/quick.py --gpu      the part for a GPU; needs torch and timm, not ray
    python benchmarks/quick.py --keep     what was measured becomes the kept figures
    python benchmarks/quick.py --strict   exit code 1 where something differs

Each benchmark says how far its figures move from run to run; kept figures are in figures.json.
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
    "search/replay.py",
    "sweep_sharing.py",
)
GPU = ("elastic_speed.py --device cuda", "small_stages.py --device cuda", "fractals_gpu.py")


def measure(command: str) -> list[dict[str, float | str]]:
    """Run a benchmark and return the figures it hands over."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "figures")
        script, *arguments = command.split()
        environment = {**os.environ, VARIABLE: str(file)}
        subprocess.run([sys.executable, str(FOLDER / script), *arguments], env=environment, check=True)
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def differs(kept: float, now: float, noise: float) -> bool:
    """True when two measurements are farther apart than noise; infinite ones (never reached) only match each other."""
    if math.isinf(kept) or math.isinf(now):
        return kept != now
    return abs(now - kept) > noise * abs(kept) + 1e-9


def main() -> None:
    """Run, compare, and keep if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--strict", action="store_true")
    parser.add_argument("--only", nargs="*", help="beginnings of the benchmarks' names")
    options = parser.parse_args()
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    commands = [c for c in (GPU if options.gpu else QUICK) if not options.only or c.startswith(tuple(options.only))]
    rows = [("benchmark", "figure", "kept", "now", "noise", "")]
    different, begun = 0, time.perf_counter()
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
    print(f"{different} of {len(rows) - 1} figures differ by more than noise; {time.perf_counter() - begun:.0f} s")
    if options.keep:
        KEPT.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    sys.exit(1 if options.strict and different else 0)


if __name__ == "__main__":
    main()
