"""Finds the finished trainings of other sweeps on the storage of a sweep; see `explorer.search.reuse`."""

from __future__ import annotations

from collections.abc import Callable

from explorer.ledger import Ledger, sweeps_in
from explorer.search.reuse import OtherTrainings
from explorer.spec.inventory import Inventory
from explorer.spec.search_space import SearchSpace
from explorer.spec.step_times import StepTimeTable
from explorer.sweep.placement import kinds_of_gpu
from explorer.sweep.places import Places
from explorer.sweep.step_times import on_worker
from explorer.sweep.versions import installed_versions
from explorer.training.device import device_for, device_name
from explorer.training.distributed import Processes


def other_trainings(
    ledger: Ledger,
    space: SearchSpace,
    inventory: Inventory,
    table: StepTimeTable | None,
    places: Places,
    say: Callable[[str], None],
) -> OtherTrainings:
    """The trainings of the other sweeps in the folder that contains the sweep's.

    Args:
        ledger: of the sweep.
        space: its search space, with what was chosen for `recipe.compile: auto`.
        inventory: what its data set contains.
        table: the sweep's step times; `None` in a sweep that counts FLOPs.
        places: where its trials run.
        say: called with a line about what was found, and about sweeps that cannot be read.

    Raises:
        InvalidInput: when the storage cannot be read.
    """

    def device() -> str | None:
        if not space.resources.gpus:
            return "cpu"
        if len(kinds_of_gpu(space.resources)) > 1:
            return None
        return on_worker(space, places.excluded, _device_of_trial, space)

    others = sweeps_in(ledger.location.rpartition("/")[0])
    found = OtherTrainings(ledger, space, inventory, installed_versions(), device, others, table)
    if len(found):
        say(f"other sweeps on this storage have {len(found)} finished trainings of this kind: equal trials reuse them")
    for name, reason in found.unreadable.items():
        say(f"warning: nothing of sweep {name} can be reused: {reason}")
    return found


def _device_of_trial(space: SearchSpace, *, processes: Processes) -> str:  # noqa: ARG001 (the call of a worker group)
    return device_name(device_for(space.resources.process_gpus))
