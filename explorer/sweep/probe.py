"""A look at each node before the first trial: does it see the driver's storage and data, with the same packages and its device,
and has it the weights that timm downloads?

A node that lacks something would fail one trial after another within seconds.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from explorer.errors import InvalidInput
from explorer.spec.search_space import SearchSpace
from explorer.storage import Storage

if TYPE_CHECKING:
    from explorer.training.task import Task

FOLDER = "probe"
"""Folder in a sweep's folder for the files of the probe; it is removed at once."""
MIXABLE = ("torch", "timm")
"""Packages whose versions may differ where the user allows it."""
PACKAGES = ("vit-budget-explorer", "torch", "timm")
"""Packages whose versions are compared."""
MAX_SECONDS = 120.0
"""Time in which the nodes must answer."""
STORAGE_SECONDS = 10.0
"""Time in which a node must reach the storage."""
GPU_SHARE = 0.01
"""Share of a GPU that is reserved for the probe, so that Ray makes the GPU visible to it."""
MAX_SHOWN = 3
"""Number of hosts that are listed when none is good."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a node must see."""

    space: SearchSpace
    location: str
    """The sweep's folder."""
    token: str
    """Name of the file that the driver wrote there."""
    splits: Mapping[str, tuple[object, ...]]
    """Number of images, images per class and digest of the listing, by split."""
    versions: Mapping[str, str]
    """Versions of Python and `PACKAGES`."""


def probe_nodes(
    space: SearchSpace, location: str, nodes: Mapping[str, str], say: Callable[[str], None], *, mix_versions: bool
) -> set[str]:
    """Look at nodes, and return the ids of those that cannot run trials.

    The driver's own node is only looked at where trials need a GPU or a download: it has the same storage, data and packages.

    Args:
        space: the search space.
        location: the sweep's folder; what is relative in it is relative to the driver's working directory.
        nodes: names of the hosts that have room for a trial, by the id of their node.
        say: called with a line about each bad host.
        mix_versions: whether nodes may have other versions of torch and timm than the driver.

    Raises:
        InvalidInput: when no host can run trials.
    """
    own = ray.get_runtime_context().get_node_id()
    of_own_too = space.resources.gpus or _task(space).downloads
    others = [node_id for node_id in nodes if node_id != own or of_own_too]
    if not others:
        return set()
    reasons = _ask(space, location, others, MIXABLE if mix_versions else ())
    for node_id in others:
        if node_id not in reasons:
            say(f"{nodes[node_id]} has not answered within {MAX_SECONDS:g} s; its first trials will show what it can do")
    bad = {node_id: reason for node_id, reason in reasons.items() if reason is not None}
    if bad.keys() == nodes.keys():
        lines = [f"{nodes[node_id]}: {reason}" for node_id, reason in bad.items()]
        more = f"; and {len(lines) - MAX_SHOWN} more" if len(lines) > MAX_SHOWN else ""
        raise InvalidInput("hosts", f"all {len(lines)}", f"no host can run trials: {'; '.join(lines[:MAX_SHOWN])}{more}")
    for node_id, reason in bad.items():
        say(f"{nodes[node_id]} gets no trials: {reason}")
    return set(bad)


def _ask(space: SearchSpace, location: str, node_ids: list[str], any_version: tuple[str, ...]) -> dict[str, str | None]:
    """The reason why each node cannot run trials, or `None`; without the nodes that do not answer in time.

    A node whose GPUs are taken by others cannot answer, and is not to blame.
    """
    storage, token = Storage(f"{location}/{FOLDER}"), secrets.token_hex(8)
    try:
        storage.write(token, token.encode())
        expected = Expected(
            space=space,
            location=location,
            token=token,
            splits=_splits(space),
            versions={name: found for name, found in _comparable_versions().items() if name not in any_version},
        )
        share = min(space.resources.process_gpus, GPU_SHARE)
        probe = ray.remote(num_cpus=0, num_gpus=share, max_retries=0)(obstacle_here)
        asked = {
            probe.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False)).remote(expected): node_id
            for node_id in node_ids
        }
        answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=MAX_SECONDS)
        for reference in silent:
            ray.cancel(reference, force=True)
        return {asked[reference]: _answer(reference) for reference in answered}
    except OSError as error:
        raise InvalidInput("storage", location, f"cannot be written: {error}") from None
    finally:
        with suppress(OSError):
            storage.clear()


def _answer(reference: ray.ObjectRef[str | None]) -> str | None:
    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:  # this package cannot be imported there, or the process died
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return lines[-1] if lines else type(error).__name__


def obstacle_here(expected: Expected) -> str | None:
    """Why trials cannot run on this node, in one line; `None` if they can."""
    for check in (_check_packages, _check_storage, _check_device, _check_data, _check_downloads):  # cheap ones first
        try:
            check(expected)
        except InvalidInput as error:
            return str(error)
        except Exception as error:
            return " ".join(f"{type(error).__name__}: {error}".split())
    return None


def _check_packages(expected: Expected) -> None:
    here = _comparable_versions()
    for name, wanted in expected.versions.items():
        if here[name] != wanted:
            raise InvalidInput(name, here[name], f"must be {wanted}, as on the driver's machine")
    for name in ("torch", "timm"):
        import_module(name)  # a package that is installed may lack a library of the system


def _check_storage(expected: Expected) -> None:
    storage = Storage(f"{expected.location}/{FOLDER}", patience_seconds=STORAGE_SECONDS)
    try:
        storage.read(expected.token)
    except FileNotFoundError:
        raise InvalidInput("storage", expected.location, "is not the driver's: all nodes must share it") from None
    try:
        storage.write(f"{expected.token}-{secrets.token_hex(8)}", b"")
    except OSError as error:
        raise InvalidInput("storage", expected.location, f"cannot be written: {error}") from None


def _check_device(expected: Expected) -> None:
    from explorer.training.device import device_for

    device_for(expected.space.resources.process_gpus)


def _check_data(expected: Expected) -> None:
    here = _splits(expected.space)
    for split, wanted in expected.splits.items():
        if here[split] != wanted:
            images, wanted_images = here[split][0], wanted[0]
            reason = f"differs from the driver's: {images} {split} images, where the driver has {wanted_images}"
            if images == wanted_images:
                reason = f"differs from the driver's: other names, sizes or labels of {split} images"
            data = expected.space.task.data
            raise InvalidInput("data.root" if data.root else "data.name", data.root or data.name, reason)


def _check_downloads(expected: Expected) -> None:
    _task(expected.space).check_downloads()


def _task(space: SearchSpace) -> Task:
    from explorer.training.task import Task  # PyTorch, of which a node may have another version

    return Task(space.task)


def _splits(space: SearchSpace) -> dict[str, tuple[object, ...]]:
    splits = _task(space).data.inventory.splits
    return {name: (split.images, split.per_class, split.listing) for name, split in splits.items()}


def _comparable_versions() -> dict[str, str]:
    """Versions of Python and of packages, without what tells builds apart (`+cu128`): nodes may have other GPUs."""
    versions = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    for package in PACKAGES:
        try:
            versions[package] = version(package).partition("+")[0]
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions
