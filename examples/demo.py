"""The whole product in one go: sweep, report, and a production training that lands where the report said.

Run by `make demo`; about ten minutes on two CPU cores. Every step is a command you can run yourself.
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
    """Show a command and run it; stop the demo where it fails."""
    print(f"\n$ explorer {shlex.join(arguments)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "explorer", *arguments], check=False)
    if done.returncode:
        sys.exit(done.returncode)


def budget_to_show() -> str:
    """The cheapest budget whose winner matches the full model's best on validation; else the dearest."""
    table = best_by_budget(trials_frame(Ledger("sweeps/demo").records()))
    target = table[table.kind == "baseline"].validation_mean.max()
    matching = table[(table.validation_mean >= target) | (table.budget_amount == table.budget_amount.max())]
    return str(matching.budget.iloc[0])


def main() -> None:
    """Run the demo and check its promise."""
    started = time.monotonic()
    run("sweep", SPACE, "--name", "demo")
    run("report", "demo")
    budget = budget_to_show()
    run("best", "demo", "--budget", budget, "--out", "runs/demo-best.json")
    run("plan", "--schedule", "runs/demo-best.json", "--task", SPACE, "--budget", budget)
    run("train", "--schedule", "runs/demo-best.json", "--task", SPACE, "--budget", budget, "--out", "runs/demo")

    promised = Schedule.load("runs/demo-best.json").provenance
    measured = json.loads(Path("runs/demo/result.json").read_text())
    assert promised is not None
    print(f"\nvalidation accuracy, sweep:      {promised.validation_accuracy:.6f}")
    print(f"validation accuracy, production: {measured['validation_accuracy']:.6f}")
    print(f"open reports/demo/index.html    ({(time.monotonic() - started) / 60:.1f} minutes in all)")
    if promised.validation_accuracy != measured["validation_accuracy"]:
        sys.exit("the schedule did not reproduce its accuracy")


if __name__ == "__main__":
    main()
