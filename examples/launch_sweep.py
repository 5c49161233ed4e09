"""Launch a sweep from Python, on this machine or on a Ray cluster. Copy this script and adapt it.

    python examples/launch_sweep.py                                                on this machine
    python examples/launch_sweep.py --address auto --storage s3://bucket/sweeps    on the cluster of this node

Run the script again to resume an interrupted sweep. On a cluster, all nodes must share the storage (NFS or a URI) and have
vit-budget-explorer installed.
"""

import argparse

from explorer import SearchSpace, Sweep
from explorer.ledger import Ledger
from explorer.report.page import write_report


def main() -> None:
    """Run a sweep, write its report, and save the schedule for one budget."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="search_spaces/digits.yaml", help="search space file")
    parser.add_argument("--storage", default="sweeps", help="folder or URI for sweeps")
    parser.add_argument("--address", default=None, help="Ray cluster (auto); default: this machine")
    parser.add_argument("--budget", default="20%", help="budget of the schedule to save")
    options = parser.parse_args()

    space = SearchSpace.load(options.space)  # raises InvalidInput for an invalid key or value
    sweep = Sweep(space, storage=options.storage, address=options.address).run()

    report = write_report(Ledger(sweep.location), f"reports/{space.name}")
    print(report.headline)
    print(f"page: {report.page}")

    schedule = sweep.best(options.budget)
    print(f"schedule for {options.budget}: {schedule.save('best.json')}")


if __name__ == "__main__":
    main()
