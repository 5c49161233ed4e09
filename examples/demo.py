"""Run the whole workflow: a sweep, its report, and a production training that reproduces the reported accuracy.

`make demo` runs this script. It takes 15 minutes on two CPU cores, 19 with the installation. Each step is a
command that you can run yourself.
"""

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

from explorer import Schedule
from explorer.frontier import best_by_budget, trials_frame
from explorer.ledger import Ledger

SPACE = "search_spaces/digits.yaml"


def run(*arguments: str) -> None:
    """Print a command and run it; exit if it fails."""
    print(f"\n$ explorer {shlex.join(arguments)}", flush=True)
    completed = subprocess.run([sys.executable, "-m", "explorer", *arguments], check=False)
    if completed.returncode:
        sys.exit(completed.returncode)


def demonstrated_budget() -> str:
    """The lowest budget with a validation accuracy that reaches the baseline's best; otherwise the highest budget."""
    ledger = Ledger("sweeps/demo")
    table = best_by_budget(trials_frame(ledger.records(), ledger.header()))
    target = table[table.kind == "baseline"].validation_mean.max()
    matching = table[(table.validation_mean >= target) | (table.budget_amount == table.budget_amount.max())]
    return str(matching.budget.iloc[0])


def main() -> None:
    """Run the demo and check that the production training reproduces the accuracy of the sweep."""
    started = time.monotonic()
    run("sweep", SPACE, "--name", "demo", "--plan", "exhaustive")
    run("report", "demo")
    budget = demonstrated_budget()
    run("best", "demo", "--budget", budget, "--out", "runs/demo-best.json")
    run("plan", "--schedule", "runs/demo-best.json", "--task", SPACE, "--budget", budget)
    run("train", "--schedule", "runs/demo-best.json", "--task", SPACE, "--budget", budget, "--out", "runs/demo")

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
