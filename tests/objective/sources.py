"""Small data sources with other targets than the class of a digit, and losses and metrics of a user's, for `package.module:name`."""

import torch
from torch import distributed, nn
from torch.nn import functional
from torchmetrics import MeanAbsoluteError

from explorer.data.resident import ResidentData
from explorer.spec.inventory import Inventory, SplitInventory

SIZES = {"train": 320, "validation": 80, "test": 80}
SIZE = 8


def images_of(split):
    """Random patches whose left and right halves have a brightness of their own: float32 (N, 1, S, S) in [-1, 1]."""
    generator = torch.Generator().manual_seed(sorted(SIZES).index(split))
    halves = torch.rand(SIZES[split], 2, generator=generator) * 2 - 1
    noise = 0.3 * torch.randn(SIZES[split], 1, SIZE, SIZE, generator=generator)
    return halves.repeat_interleave(SIZE // 2, dim=1)[:, None, None, :] + noise, halves


class _OtherTargets:
    """Resident data whose classes are replaced by other targets, float32 (N, K) of each split."""

    channels, image_size, supported_augmentations = 1, SIZE, ("shift", "flip")

    def __init__(self, targets, names):
        self.targets, self.classes, self.class_names = targets, len(names), names
        images = {split: images_of(split)[0] for split in SIZES}
        numbers = {split: torch.arange(count) for split, count in SIZES.items()}
        self._numbered = ResidentData.__new__(ResidentData)
        self._numbered.images, self._numbered.labels, self._numbered._copies = images, numbers, {}
        self.train_images = self._numbered.train_images = SIZES["train"]
        splits = {
            split: SplitInventory(
                name=split,
                images=count,
                per_class=tuple(int(column.sum()) for column in (targets[split] > 0.5).T),
                listing=f"{type(self).__name__} {split}",
                content=f"{type(self).__name__} {split}",
            )
            for split, count in SIZES.items()
        }
        self.inventory = Inventory(source="made", class_names=names, checked=True, **splits)

    def train_batches(self, stream):
        for images, numbers in self._numbered.train_batches(stream):
            yield images, self.targets["train"][numbers.cpu()].to(images.device)

    def evaluation_batches(self, split, device, rank=0, process_count=1):
        for images, numbers in self._numbered.evaluation_batches(split, device, rank, process_count):
            yield images, self.targets[split][numbers.cpu()].to(images.device)


class Brightness(_OtherTargets):
    """Regression: the brightness of both halves, in lumens from -10 to 10."""

    target_kind = "values"

    def __init__(self, spec):
        super().__init__({split: 10 * images_of(split)[1] for split in SIZES}, ("left", "right"))


class BrightHalves(_OtherTargets):
    """Several labels per image: whether the left and the right half is bright, and whether they differ."""

    target_kind = "labels"

    def __init__(self, spec):
        targets = {}
        for split in SIZES:
            left, right = (images_of(split)[1] > 0).T
            targets[split] = torch.stack((left, right, left != right), dim=1).float()
        super().__init__(targets, ("left", "right", "differ"))


class Imbalanced(ResidentData):
    """Two classes, of which one has 95 % of the images of each split: the other has a brighter left half."""

    def __init__(self, spec):
        images, labels = {}, {}
        for split, count in SIZES.items():
            label = (torch.arange(count) % 20 == 0).long()
            generator = torch.Generator().manual_seed(sorted(SIZES).index(split))
            image = 0.6 * torch.randn(count, 1, SIZE, SIZE, generator=generator)
            image[:, :, :, : SIZE // 2] += 0.5 * label[:, None, None, None]
            images[split], labels[split] = image, label
        super().__init__(images, labels, 2, ("common", "rare"))


class Unlabelled(Imbalanced):
    """The same data by a source that does not say its labels."""

    @property
    def train_labels(self):
        raise AttributeError("train_labels")


class Means(nn.Module):
    """Predicts the brightness of both halves: exactly, but for the noise."""

    def forward(self, images):
        return 10 * images.unflatten(3, (2, SIZE // 2)).mean(dim=(1, 2, 4))


def model_for(data):
    """A model without training for the targets of a source."""
    if data.target_kind == "values":
        return Means()
    model = nn.Sequential(Means(), nn.Linear(2, 3))
    nn.init.eye_(model[1].weight)
    nn.init.zeros_(model[1].bias)
    return model


MEASURED = (
    ("mae", Brightness),
    ("r2", Brightness),
    ("tests.objective.sources:worst_error", Brightness),
    ("mean_average_precision", BrightHalves),
    ("auc", BrightHalves),
    ("f1", BrightHalves),
)
"""Metrics whose state is summed, and those of a whole split, each with a source that has it."""

# Losses and metrics of a user's.


def squared(outputs, targets, *, scale=1.0):
    return scale * functional.mse_loss(outputs, targets)


def without_gradient(outputs, targets):
    return functional.mse_loss(outputs.detach(), targets)


def per_image(outputs, targets):
    return (outputs - targets).abs().mean(dim=1)


def in_numpy(outputs, targets):
    return float((outputs.detach() - targets).numpy().std())


def failing(outputs, targets):
    raise RuntimeError("three\nlines\nof text")


def worst_error(outputs, targets, *, power=1):
    return (outputs - targets).abs().max() ** power


worst_error.direction, worst_error.unit, worst_error.low, worst_error.label = "minimize", "lm", 0.0, "worst error"


def without_direction(outputs, targets):
    return 0.0


def not_a_number(outputs, targets):
    return float("nan")


not_a_number.direction = "maximize"


def late_nan(outputs, targets):
    """A number for the tiny batch of the check, and none for a whole split."""
    return float("nan") if len(outputs) == SIZES["validation"] else 1.0


late_nan.direction = "maximize"


def fragile(outputs, targets):
    """Fails on a whole split while `fragile.broken` is set, and not on the tiny batch of the check."""
    if fragile.broken and len(outputs) == SIZES["test"]:
        raise ZeroDivisionError("division\nby zero")
    return 1.0


fragile.direction, fragile.broken = "maximize", False


def failing_on_a_split(outputs, targets):
    """Fails on a whole split, and not on the tiny batch of the check, also in a process that was started for it."""
    if len(outputs) > 100:
        raise ZeroDivisionError("division\nby zero")
    return 1.0


failing_on_a_split.direction = "maximize"


class FailsInOneProcess(MeanAbsoluteError):
    """A class that fails while it is updated in the second process."""

    def update(self, outputs, targets):
        if distributed.is_initialized() and distributed.get_rank() == 1:
            raise RuntimeError("of this process")
        super().update(outputs, targets)


def marked_up(outputs, targets):
    return 0.0


marked_up.direction, marked_up.label = "maximize", "<b>bold</b>"


class DeclaredError(MeanAbsoluteError):
    """A torchmetrics class needs no direction of its own: `higher_is_better` says it."""


class NotAMetric:
    """Neither a function nor a class of torchmetrics."""
