"""The check of a data set: every image is read and decoded before anything is trained on it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from explorer.console import print_line
from explorer.data.decoding import SIXTEEN_BIT
from explorer.data.image_access import image_name
from explorer.data.image_facts import MIN_FOR_PROCESSES, ImageFacts, NumberedImage, examine_all
from explorer.data.opened_split import OpenedSplit
from explorer.data.overlaps import overlaps_of
from explorer.data.registry import forget_opened, open_data
from explorer.data.remembered import MISSING, RememberedFacts, stamp_of
from explorer.data.source import DataSource
from explorer.data.streamed import StreamedData
from explorer.data.targets import text_of
from explorer.errors import InvalidInput
from explorer.spec.data import DataSpec
from explorer.spec.inventory import Inventory, SplitInventory

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

SAMPLED_IMAGES = 256
"""Images of each split that commands open that train nothing."""
SHOWN_SIZES = 8
"""Image sizes that an inventory counts one by one."""
SHOWN_IMAGES = 3
"""Unreadable images that a message names."""
DARK = 16384
"""Where no 16-bit value reaches this, images become darker than a quarter of the range."""

Facts = Mapping[str, ImageFacts]
"""What is known of the images by their names."""


@dataclass(frozen=True)
class CheckedData:
    """A data set whose images were checked."""

    spec: DataSpec
    """The settings to train with: those given, and the unreadable images in `skip_files`."""
    inventory: Inventory


def check_data(spec: DataSpec, *, sample: int | None = None, console: Console | None = None, anew: bool = True) -> CheckedData:
    """Open a data set, read and decode its images, as training does, and return what is in it.

    Images are read in parallel, one process per CPU; what was found is remembered in the user's cache folder, and only images
    whose files changed are read again. Sources whose images are in memory have nothing to check.

    Args:
        spec: the data set.
        sample: number of images of each split that are read, evenly spaced; `None` reads all. Images that are remembered
            count in any case.
        console: where progress is shown; `None` shows none.
        anew: whether to list the files again. `False` is for who has just opened the data in this process: listing a large
            folder on a network takes minutes.

    Raises:
        InvalidInput: when the data cannot be opened, when an image cannot be read and `spec.unreadable` is `error`, or when a
            class has no training images without the unreadable ones.
    """
    if anew:
        forget_opened()
    source = open_data(spec)
    if not isinstance(source, StreamedData):
        return CheckedData(spec, source.inventory.model_copy(update={"source": spec.name, "root": spec.root}))
    facts = _facts(source, spec, sample, console)
    unreadable = {name: fact.error for name, fact in facts.items() if fact.error}
    if unreadable and spec.unreadable == "error":
        shown = "; ".join(f"{name} ({reason})" for name, reason in list(unreadable.items())[:SHOWN_IMAGES])
        more = f"; and {len(unreadable) - SHOWN_IMAGES:,} more" if len(unreadable) > SHOWN_IMAGES else ""
        count = f"{len(unreadable):,} of {len(facts):,} images cannot be read"
        allowed = f"{count}: {shown}{more}. Repair or remove them, or set data.unreadable: skip to leave them out"
        raise InvalidInput("data.unreadable", spec.unreadable, allowed)
    if unreadable:
        spec = spec.model_copy(update={"skip_files": (*spec.skip_files, *unreadable)})
        source = _opened_again(spec, source)
    return CheckedData(spec, _inventory(source, facts))


def _opened_again(spec: DataSpec, before: DataSource) -> StreamedData:
    """The data set without its unreadable images."""
    source = open_data(spec)
    assert isinstance(source, StreamedData)
    per_class = source.inventory.train.per_class
    names = before.inventory.class_names if before.inventory.train.per_class else ()
    if empty := [name for label, name in enumerate(names) if label >= len(per_class) or not per_class[label]]:
        allowed = f"no training image of {', '.join(empty[:SHOWN_IMAGES])} can be read; repair them or remove the class"
        raise InvalidInput("data.unreadable", spec.unreadable, allowed)
    return source


def _facts(source: StreamedData, spec: DataSpec, sample: int | None, console: Console | None) -> Facts:
    """What is known of the images: remembered, or found out now."""
    remembered, known, pending = RememberedFacts(spec), {}, {}
    stamps = {}  # taken before images are read: a file that changes meanwhile is read again the next time
    for split in source.splits.values():
        step = 1 if sample is None else max(1, -(-len(split.numbers) // sample))
        for place, number in enumerate(split.numbers):
            name, image = image_name(split.data, number, split.of), NumberedImage(split.data, number)
            if (fact := remembered.get(name, image)) is not None:
                known[name] = fact
            elif place % step == 0 or stamp_of(image) == MISSING:
                pending[name], stamps[name] = image, stamp_of(image)
    if pending:
        try:
            with _progress(len(pending), console) as progress:
                for name, fact in examine_all(pending, spec):
                    known[name] = fact
                    remembered.add(name, stamps[name], fact)
                    progress.advance(progress.task_ids[0])
        finally:
            remembered.save()
    return known


@contextmanager
def _progress(images: int, console: Console | None) -> Iterator[Progress]:
    # Training on a machine with torch and timm alone checks no images.
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("checking images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = console is None or images < MIN_FOR_PROCESSES
    if console is not None and not hidden and not console.is_terminal:  # a bar would fill a log
        print_line(console, f"checking {images:,} images")
        hidden = True
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        progress.add_task("check", total=images)
        yield progress


def _inventory(source: StreamedData, facts: Facts) -> Inventory:
    """The inventory with what the images told."""
    inventory = source.inventory
    splits, contents = {}, {}
    for role, split in source.splits.items():
        names = [image_name(split.data, number, split.of) for number in split.numbers]
        splits[role] = _split_inventory(inventory.splits[role], split, names, facts)
        contents[role] = [facts[name].digest for name in names if name in facts]
    checked = all(split.opened == split.images for split in splits.values())
    return inventory.model_copy(update={**splits, "checked": checked, "overlaps": overlaps_of(contents)})


def _split_inventory(listed: SplitInventory, split: OpenedSplit, names: list[str], facts: Facts) -> SplitInventory:
    known = [facts[name] for name in names if name in facts]
    remarks = Counter(remark for fact in known for remark in fact.remarks)
    brightest = max((fact.brightest for fact in known), default=-1)
    if SIXTEEN_BIT in remarks and brightest < DARK:
        remarks[f"{SIXTEEN_BIT}: no value exceeds {brightest} of 65535, so they become dark"] = remarks.pop(SIXTEEN_BIT)
    sizes = Counter(f"{fact.width}x{fact.height}" for fact in known).most_common()
    shown = dict(sizes[:SHOWN_SIZES])
    if others := sum(count for _, count in sizes[SHOWN_SIZES:]):
        shown["other"] = others
    content = ""
    if len(known) == len(names):
        pairs = sorted(f"{fact.digest} {text_of(label)}" for fact, label in zip(known, split.labels, strict=True))
        content = hashlib.sha256("\n".join(pairs).encode()).hexdigest()
    return listed.model_copy(
        update={
            "modes": dict(Counter(fact.mode for fact in known).most_common()),
            "sizes": shown,
            "opened": len(known),
            "remarks": listed.remarks | dict(remarks),
            "content": content,
        }
    )
