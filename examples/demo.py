"""Run the whole workflow: a sweep, its report, and a production training that reproduces the reported accuracy.

`make demo` runs this script. It takes 10 to 15 minutes on two CPU cores, by the machine, and two for the installation.
Each step is a command that you can run yourself.
"""

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

from explorer import Schedule

SPACE = "search_spaces/digits.yaml"
BUDGET = "20%"
"""Of the production training: a fifth of full training."""


def run(*arguments: str) -> None:
    """Print a command and run it; exit if it fails."""
    print(f"\n$ explorer {shlex.join(arguments)}", flush=True)
    completed = subprocess.run([sys.executable, "-m", "explorer", *arguments], check=False)
    if completed.returncode:
        sys.exit(completed.returncode)


def main() -> None:
    """Run the demo and check that the production training reproduces the accuracy of the sweep."""
    started = time.monotonic()
    run("sweep", SPACE, "--name", "demo", "--plan", "exhaustive")
    run("report", "demo")
    run("best", "demo", "--budget", BUDGET, "--out", "runs/demo-best.json")
    run("plan", "--schedule", "runs/demo-best.json", "--task", SPACE, "--budget", BUDGET)
    run("train", "--schedule", "runs/demo-best.json", "--task", SPACE, "--budget", BUDGET, "--out", "runs/demo")

    expected = Schedule.load("runs/demo-best.json").provenance
    measured = json.loads(Path("runs/demo/result.json").read_text())
    assert expected is not None
    print(f"\nvalidation accuracy, sweep:      {expected.validation:.6f}")
    print(f"validation accuracy, production: {measured['validation']:.6f}")
    print(f"open reports/demo/index.html    ({(time.monotonic() - started) / 60:.1f} minutes in total)")
    if expected.validation != measured["validation"]:
        sys.exit("the production training did not reproduce the accuracy of the sweep")


if __name__ == "__main__":
    main()
