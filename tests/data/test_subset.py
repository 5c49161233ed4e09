"""Stratified subsets of the training images: what is in them, and that training reads the same images in every way."""

import pytest
import torch

from explorer import InvalidInput
from explorer.data import open_data, registry
from explorer.data.contract import DataSourceContract
from explorer.data.decoded_cache import DecodedCache
from explorer.data.source import TrainStream
from explorer.data.subset import stratified_subset
from explorer.spec import Augmentation, DataSpec
from explorer.spec.data import CacheSpec
from tests.data.conftest import folder_spec

LABELS = [0, 1, 1, 0, 1, 2, 1, 2, 0, 1, 1, 1, 2, 2]  # three of class 0, seven of 1, four of 2
NAMES = ("a", "b", "c")


class TestHalfOfTheDigits(DataSourceContract):
    @pytest.fixture
    def spec(self):
        return DataSpec(name="digits", train_fraction=0.5)


class TestHalfOfAFolder(DataSourceContract):
    @pytest.fixture
    def spec(self, image_folder):
        return folder_spec(image_folder, train_fraction=0.5)


def test_every_class_keeps_the_same_fraction_rounded():
    chosen = stratified_subset(LABELS, 0.5, NAMES)
    assert chosen == sorted(set(chosen))
    # Half of 3, 7 and 4, rounded: 1.5 and 3.5 to the even number.
    assert [[LABELS[number] for number in chosen].count(label) for label in range(3)] == [2, 4, 2]
    assert stratified_subset(LABELS, 1.0, NAMES) == list(range(14))


def test_smaller_subsets_are_contained_in_larger_ones_and_classes_do_not_matter_to_each_other():
    labels = [number % 10 for number in range(1000)]
    names = tuple("0123456789")
    quarter, half = (set(stratified_subset(labels, fraction, names)) for fraction in (0.25, 0.5))
    assert (len(quarter), len(half)) == (250, 500)
    assert quarter < half
    evens = [number for number in range(1000) if labels[number] % 2 == 0]
    alone = stratified_subset([labels[number] for number in evens], 0.5, names)
    assert {evens[place] for place in alone} == {number for number in half if labels[number] % 2 == 0}


def test_a_subset_is_the_same_in_every_process():
    """As another process printed it."""
    printed = [21, 22, 27, 30, 32, 35, 36, 47, 52, 54, 65, 66, 67, 69, 72, 75, 79, 90, 95, 96]
    assert stratified_subset([0, 1] * 50, 0.2, ("a", "b")) == printed


def test_a_class_without_an_image_is_refused():
    with pytest.raises(
        InvalidInput, match=r"data\.train_fraction: 0\.15: leaves no image of the class 'a', which has 3 images"
    ):
        stratified_subset(LABELS, 0.15, NAMES)


def test_held_out_images_and_classes_stay():
    whole, part = (open_data(DataSpec(name="digits", train_fraction=fraction)) for fraction in (1, 0.25))
    assert whole.train_images == 1149
    assert abs(part.train_images - 1149 / 4) < 5  # each of ten classes is rounded
    assert torch.equal(whole.labels["validation"], part.labels["validation"])
    assert part.inventory.test == whole.inventory.test
    counts = part.inventory.train.per_class, whole.inventory.train.per_class
    per_class = [count / all_of_it for count, all_of_it in zip(*counts, strict=True)]
    assert min(per_class) > 0.24
    assert max(per_class) < 0.26
    assert part.inventory.train.listing != whole.inventory.train.listing  # by which states of training are told apart


def first_batches(spec: DataSpec, backend: str = "pil"):
    stream = TrainStream(seed=3, steps=3, batch_size=8, augmentation=Augmentation(transform={"no_aug": True}, backend=backend))
    return list(open_data(spec).train_batches(stream))


def test_neither_loader_processes_nor_decoded_images_change_a_subset(image_folder, tmp_path):
    spec = folder_spec(image_folder, train_fraction=0.25)
    cached = spec.model_copy(update={"cache": CacheSpec(folder=str(tmp_path / "cache"))})
    workers = spec.model_copy(update={"num_workers": 2})
    expected = first_batches(spec)
    for other in (cached, workers):
        for (images, labels), (same, same_labels) in zip(expected, first_batches(other), strict=True):
            assert torch.equal(images, same)
            assert torch.equal(labels, same_labels)
    # The file of decoded images is that of the whole data set, which was written for the subset.
    whole = cached.model_copy(update={"train_fraction": 1.0})
    assert DecodedCache(whole, open_data(whole).splits).is_complete
    expected = first_batches(spec, "tensor")
    for (images, labels), (same, same_labels) in zip(expected, first_batches(cached, "tensor"), strict=True):
        assert torch.equal(images, same)
        assert torch.equal(labels, same_labels)


class WithoutSubsets:
    """A data source of one's own, with what `DataSource` asks for and nothing else."""

    def __init__(self, spec):
        self.source = open_data(DataSpec(name="digits"))

    def __getattr__(self, name):
        if name == "with_train_fraction":
            raise AttributeError(name)
        return getattr(self.source, name)


def test_a_source_without_subsets_is_refused(monkeypatch):
    monkeypatch.setitem(registry._registered, "bare", WithoutSubsets)
    assert open_data(DataSpec(name="bare", image_size=8)).train_images == 1149
    with pytest.raises(InvalidInput, match=r"data\.train_fraction: 0\.5: must be 1: 'bare' has no method with_train_fraction"):
        open_data(DataSpec(name="bare", image_size=8, train_fraction=0.5))
