"""Checks of the proxies of a search space that need timm and the data. They run before a sweep starts."""

from __future__ import annotations

import itertools

from explorer.errors import InvalidInput
from explorer.search.trial_plan import full_training_plan
from explorer.spec.rates import AXES, Rates
from explorer.spec.search_space import SearchSpace
from explorer.training.task import Task


def check_costs(space: SearchSpace) -> None:
    """Check that every proxy costs less than the one after it, and the last one less than the target.

    Costs are counted in FLOPs: proxies of a sweep in device-seconds have steps of the same cost as the target.

    Raises:
        InvalidInput: naming the proxy that does not.
    """
    spaces = [space.proxy_space(number) for number in range(1, len(space.proxy) + 1)]
    costs = [full_training_plan(each.model_copy(update={"currency": "flops"})).full_flops for each in (*spaces, space)]
    for number, (cost, following) in enumerate(itertools.pairwise(costs)):
        if cost >= following:
            is_last = number == len(spaces) - 1
            other = "the target" if is_last else f"proxy.{number + 1}, which comes after it"
            reason = "must be cheaper" if is_last else "proxies are listed from the cheapest up"
            allowed = f"costs {cost / following:.3g} of the full training of {other}: {reason}"
            raise InvalidInput(f"proxy.{number}", str(space.proxy[number]), allowed)


def proxy_warnings(space: SearchSpace) -> tuple[str, ...]:
    """What to say before a sweep: rates of the search that a proxy cannot tell apart."""
    lines = []
    for number in range(1, len(space.proxy) + 1):
        task = Task(space.proxy_space(number).task)
        for axis in AXES:
            levels = getattr(space.search.rates, axis)
            realised = [getattr(task.step_cost(Rates(**{axis: level})).rates, axis) for level in levels]
            for (level, size), (higher, same) in itertools.pairwise(zip(levels, realised, strict=True)):
                if size == same:
                    lines.append(f"proxy {number} cannot tell {axis} {level:g} from {higher:g}: both are {size:g} of its model")
    return tuple(lines)
