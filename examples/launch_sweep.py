"""Launch a sweep from Python: on this machine, or on a Ray cluster. Copy and adapt.

    python examples/launch_sweep.py                                          this machine
    python examples/launch_sweep.py --address auto --storage s3://bucket/sweeps    the cluster this node belongs to

Run it again to resume an interrupted sweep. On a cluster the storage must be shared by all nodes (NFS or a URI), and
vit-budget-explorer must be installed on them.
"""

import argparse

from explorer import SearchSpace, Sweep
from explorer.ledger import Ledger
from explorer.report.page import write_report


def main() -> None:
    """Sweep, report, and save the schedule for one budget."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="search_spaces/digits.yaml")
    parser.add_argument("--storage", default="sweeps")
    parser.add_argument("--address", default=None)
    parser.add_argument("--budget", default="20%")
    options = parser.parse_args()

    space = SearchSpace.load(options.space)
    sweep = Sweep(space, storage=options.storage, address=options.address)  # everything is checked here, before it runs
    sweep.run()

    report = write_report(Ledger(sweep.location), f"reports/{space.name}")
    print(report.headline)
    print(f"page: {report.page}")

    schedule = sweep.best(options.budget)
    print(f"schedule for {options.budget}: {schedule.save('best.json')}")


if __name__ == "__main__":
    main()
