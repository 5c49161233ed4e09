"""The tests that every data source must pass, for pytest: subclass `DataSourceContract` and give the settings of a small set.

    from explorer.data.contract import DataSourceContract

    class TestStripes(DataSourceContract):
        @pytest.fixture
        def spec(self):
            return DataSpec(name="my_project.data:Stripes", image_size=8)

Images are compared by content, so no two images of the set may be equal. All training images are held in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from explorer.data.registry import open_data
from explorer.data.source import Batch, DataSource, Split, TrainStream, target_kind
from explorer.spec.data import DataSpec
from explorer.spec.recipe import Augmentation

CPU = torch.device("cpu")
SPLITS: tuple[Split, ...] = ("validation", "test")
SEED = 7
BATCH_SIZE = 8
STEPS = 6


class DataSourceContract:
    """What training relies on. Subclasses define the fixture `spec`: a `DataSpec` of at least 16 training images."""

    num_workers: Sequence[int] = (0, 2)
    """Values of `data.num_workers` that must give the same images."""

    def test_shapes_types_and_labels_are_as_declared(self, spec: DataSpec) -> None:
        """Images are float32 (B, channels, image_size, image_size), targets of the type and shape that `Batch` says."""
        source = open_data(spec)
        assert source.image_size == spec.image_size, "image_size is not that of the settings"
        training = list(source.train_batches(stream_of(source)))
        assert len(training) == STEPS, f"{len(training)} batches for {STEPS} steps"
        assert all(len(labels) == BATCH_SIZE for _, labels in training), "a training batch is not of the requested size"
        for images_BCSS, labels_B in [*training, *evaluation(source, "validation"), *evaluation(source, "test")]:
            assert images_BCSS.shape == (len(labels_B), source.channels, source.image_size, source.image_size)
            assert images_BCSS.dtype == torch.float32
            assert images_BCSS.isfinite().all(), "an image is not finite"
            assert_targets(source, labels_B)

    def test_every_class_has_training_images(self, spec: DataSpec) -> None:
        """`classes` counts the classes of the training images, or the values of each."""
        source = open_data(spec)
        targets = epoch(source, 0)[1]
        kind = target_kind(source)
        if kind == "class":
            assert set(targets.tolist()) == set(range(source.classes))
        elif kind == "labels":
            assert targets.any(0).all(), "a class has no training image"

    def test_the_inventory_is_that_of_the_targets(self, spec: DataSpec) -> None:
        """Images of each class, or the range of each value, as they are trained and evaluated on."""
        source = open_data(spec)
        kind, inventory = target_kind(source), source.inventory
        assert inventory.target_kind == kind, "the inventory has another kind of targets"
        parts: dict[str, list[Batch]] = {"train": [epoch(source, 0)], **{split: evaluation(source, split) for split in SPLITS}}
        for role, batches in parts.items():
            targets, split = torch.cat([labels for _, labels in batches]), inventory.splits[role]
            assert split.images == len(targets), f"{role} has {len(targets)} images"
            if kind == "values":
                ranges = [(value.min, value.max) for value in split.values]
                assert ranges == list(zip(targets.amin(0).tolist(), targets.amax(0).tolist(), strict=True))
            else:
                one_hot = torch.nn.functional.one_hot(targets, source.classes) if kind == "class" else targets
                assert list(split.per_class) == one_hot.sum(0).int().tolist(), f"{role} has other numbers of images per class"

    def test_an_epoch_has_each_image_once_and_epochs_differ_in_order(self, spec: DataSpec) -> None:
        """The stream is one permutation of the training images after another; another seed has another one."""
        source = open_data(spec)
        first, second = (contents(epoch(source, step)[0]) for step in (0, 1))
        other_seed = contents(epoch(source, 0, seed=SEED + 1)[0])
        assert len(set(first)) == source.train_images, "an epoch does not have each training image once"
        assert Counter(first) == Counter(second) == Counter(other_seed), "epochs do not have the same images"
        assert first != second, "two epochs have the same order"
        assert first != other_seed, "two seeds have the same order"

    def test_training_resumes_anywhere(self, spec: DataSpec) -> None:
        """Batches depend on the seed and the position in the stream alone, whatever was read and drawn before."""
        source = open_data(spec)
        # Far enough that the section spans two epochs.
        start = max(0, source.train_images // BATCH_SIZE - STEPS // 2)
        for augmentation in augmentations(source):
            whole = stream_of(source, augmentation, first_step=start)
            batches = list(source.train_batches(whole))
            for skipped in (1, STEPS - 1):
                torch.rand(1)  # other uses of the global random state must change nothing
                tail = replace(whole, first_step=start + skipped, steps=STEPS - skipped)
                assert_equal(source.train_batches(tail), batches[skipped:], f"resumed after {skipped} steps")
                elsewhere = replace(tail, first_step=0, start=(start + skipped) * BATCH_SIZE)
                assert_equal(source.train_batches(elsewhere), batches[skipped:], "earlier steps had other batch sizes")

    def test_any_number_of_loader_processes_gives_the_same_images(self, spec: DataSpec) -> None:
        """`data.num_workers` changes nothing but the speed."""
        sources = [open_data(spec.model_copy(update={"num_workers": count})) for count in self.num_workers]
        for augmentation in augmentations(sources[0]):
            expected = list(sources[0].train_batches(stream_of(sources[0], augmentation)))
            for source, count in zip(sources[1:], self.num_workers[1:], strict=True):
                assert_equal(source.train_batches(stream_of(source, augmentation)), expected, f"num_workers {count}")
        for split in SPLITS:
            expected = evaluation(sources[0], split)
            for source, count in zip(sources[1:], self.num_workers[1:], strict=True):
                assert_equal(evaluation(source, split), expected, f"{split}, num_workers {count}")

    def test_processes_divide_each_batch(self, spec: DataSpec) -> None:
        """The slices of all processes make up the batch, image by image, augmentation included."""
        source = open_data(spec)
        halves = slice(0, BATCH_SIZE // 2), slice(BATCH_SIZE // 2, BATCH_SIZE)
        for augmentation in augmentations(source):
            stream = stream_of(source, augmentation)
            parts = [source.train_batches(replace(stream, local_slice=half)) for half in halves]
            joined = [
                (torch.cat([images for images, _ in both]), torch.cat([labels for _, labels in both]))
                for both in zip(*parts, strict=True)
            ]
            assert_equal(joined, source.train_batches(stream), "two processes")

    def test_evaluation_has_each_image_once(self, spec: DataSpec) -> None:
        """In one process and divided among two; the same images whenever a split is read."""
        source = open_data(spec)
        for split in SPLITS:
            images = image_contents(evaluation(source, split))
            assert images, f"{split} has no images"
            assert len(set(images)) == len(images), f"{split} has an image twice"
            assert image_contents(evaluation(source, split)) == images, f"{split} differs when it is read again"
            divided = [image_contents(source.evaluation_batches(split, CPU, rank, 2)) for rank in (0, 1)]
            assert Counter(divided[0] + divided[1]) == Counter(images), f"two processes do not divide {split}"

    def test_splits_are_disjoint(self, spec: DataSpec) -> None:
        """No image is in two of training, validation and test, compared without augmentation and cropping."""
        uncropped = spec.preprocessing.model_copy(update={"crop_pct": 1.0, "interpolation": "bilinear"})
        source = open_data(spec.model_copy(update={"preprocessing": uncropped}))
        images: dict[str, set[bytes]] = {split: set(image_contents(evaluation(source, split))) for split in SPLITS}
        images["train"] = set(contents(epoch(source, 0)[0]))
        for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
            assert not images[one] & images[other], f"{one} and {other} share images"

    def test_reading_leaves_the_global_random_state_unchanged(self, spec: DataSpec) -> None:
        """Dropout must not depend on how images are read."""
        source = open_data(spec)
        before = torch.get_rng_state()
        for augmentation in augmentations(source):
            list(source.train_batches(stream_of(source, augmentation)))
        evaluation(source, "test")
        assert torch.equal(torch.get_rng_state(), before)


def assert_targets(source: DataSource, targets: Tensor) -> None:
    """Assert that the targets of a batch are what their kind says."""
    kind, count = target_kind(source), len(targets)
    if kind == "class":
        assert (targets.dtype, targets.shape) == (torch.int64, (count,)), "labels are not int64 (B,)"
        assert targets.min() >= 0, "a label is below 0"
        assert targets.max() < source.classes, "a label is not below the number of classes"
        return
    assert (targets.dtype, targets.shape) == (torch.float32, (count, source.classes)), "targets are not float32 (B, K)"
    if kind == "labels":
        assert ((targets == 0) | (targets == 1)).all(), "a label is neither 0 nor 1"
    else:
        assert targets.isfinite().all(), "a value is not finite"


def augmentations(source: DataSource) -> tuple[Augmentation, Augmentation]:
    """No augmentation, and all that the source supports."""
    strong = {"auto_augment": "rand-m9-mstd0.5", "re_prob": 0.5}
    if getattr(source, "has_tensors", False):  # policies and color jitter are for RGB images
        strong = {"color_jitter": None, "vflip": 0.5, "re_prob": 0.5}
    everything = {"shift": 1, "flip": True, "transform": strong}
    return plain(source), Augmentation.model_validate({name: everything[name] for name in source.supported_augmentations})


def plain(source: DataSource) -> Augmentation:
    """The augmentation that changes nothing."""
    # timm's transforms crop and flip by default.
    return Augmentation(transform={"no_aug": True} if "transform" in source.supported_augmentations else {})


def stream_of(source: DataSource, augmentation: Augmentation | None = None, first_step: int = 0) -> TrainStream:
    """Some steps of the stream, by default with all augmentation that the source supports."""
    chosen = augmentations(source)[1] if augmentation is None else augmentation
    return TrainStream(seed=SEED, first_step=first_step, steps=STEPS, batch_size=BATCH_SIZE, augmentation=chosen)


def epoch(source: DataSource, number: int, seed: int = SEED) -> Batch:
    """All training images of an epoch in one batch, without augmentation."""
    stream = TrainStream(seed=seed, first_step=number, steps=1, batch_size=source.train_images, augmentation=plain(source))
    return next(iter(source.train_batches(stream)))


def evaluation(source: DataSource, split: Split) -> list[Batch]:
    """All batches of a split."""
    return list(source.evaluation_batches(split, CPU))


def contents(images: Tensor) -> list[bytes]:
    """The content of each image."""
    return [image.numpy().tobytes() for image in images.contiguous()]


def image_contents(batches: Iterable[Batch]) -> list[bytes]:
    """The content of each image of some batches."""
    return [content for images, _ in batches for content in contents(images)]


def assert_equal(actual: Iterable[Batch], expected: Iterable[Batch], case: str) -> None:
    """Assert that two sequences of batches are equal bit for bit."""
    for step, (one, other) in enumerate(zip(actual, expected, strict=True)):
        assert torch.equal(one[0], other[0]), f"{case}: the images of batch {step} differ"
        assert torch.equal(one[1], other[1]), f"{case}: the labels of batch {step} differ"
