"""Every source passes the contract, and the contract refuses sources that break it."""

import inspect
from dataclasses import replace

import pytest
import torch

from explorer import InvalidInput
from explorer.data import ResidentData, open_data
from explorer.data.contract import DataSourceContract
from explorer.spec import DataSpec
from explorer.spec.data import FractalSpec
from tests.data.conftest import folder_spec


class TestDigits(DataSourceContract):
    @pytest.fixture
    def spec(self):
        return DataSpec(name="digits")


class TestFractals(DataSourceContract):
    @pytest.fixture
    def spec(self):
        return DataSpec(name="fractals", image_size=16, fractals=FractalSpec(classes=3, instances=10, held_out=4))


class TestFolder(DataSourceContract):
    @pytest.fixture
    def spec(self, image_folder):
        return folder_spec(image_folder)


class TestTarShards(DataSourceContract):
    @pytest.fixture
    def spec(self, tar_shards):
        return folder_spec(tar_shards, name="wds")


class TestTorchvision(DataSourceContract):
    @pytest.fixture
    def spec(self, mnist):
        return folder_spec(mnist, name="torch/mnist", image_size=28)


class TestHuggingFace(DataSourceContract):
    @pytest.fixture
    def spec(self, hugging_face):
        return hugging_face


class TestSourceOutsideThePackage(DataSourceContract):
    @pytest.fixture
    def spec(self, extending):
        return DataSpec(name="data_source:stripes", image_size=8, options={"train_images": 40, "held_out_images": 12})


def several(spec: DataSpec) -> ResidentData:
    """Targets of the kind that the options name: any of three classes, or two values."""
    kind, source = spec.options["kind"], noise(spec)
    generator = torch.Generator().manual_seed(1)
    width = 3 if kind == "labels" else 2
    numbers = {split: torch.rand(len(images), width, generator=generator) for split, images in source.images.items()}
    targets = {split: (rows > 0.6).float() if kind == "labels" else rows for split, rows in numbers.items()}
    return ResidentData(source.images, targets, width, target_kind=kind)


class TestAnyNumberOfClasses(DataSourceContract):
    @pytest.fixture
    def spec(self):
        return DataSpec(name=f"{__name__}:several", image_size=8, options={"kind": "labels"})


class TestValues(DataSourceContract):
    @pytest.fixture
    def spec(self):
        return DataSpec(name=f"{__name__}:several", image_size=8, options={"kind": "values"})


def noise(spec: DataSpec) -> ResidentData:
    generator = torch.Generator().manual_seed(0)
    counts = {"train": 24, "validation": 8, "test": 8}
    images = {split: torch.rand(count, 1, 8, 8, generator=generator) for split, count in counts.items()}
    return ResidentData(images, {split: torch.arange(count) % 2 for split, count in counts.items()}, classes=2)


class Wrapped:
    """A source that breaks one promise; all else is the sound one's."""

    def __init__(self, spec):
        self.source = noise(spec)

    def __getattr__(self, name):
        return getattr(self.source, name)

    def train_batches(self, stream):
        return self.source.train_batches(stream)

    def evaluation_batches(self, split, device, rank=0, process_count=1):
        return self.source.evaluation_batches(split, device, rank, process_count)


class IgnoresTheFirstStep(Wrapped):
    def train_batches(self, stream):
        return self.source.train_batches(replace(stream, first_step=0))


class IgnoresTheSlice(Wrapped):
    def train_batches(self, stream):
        return self.source.train_batches(replace(stream, local_slice=slice(None)))


class DrawsFromTheGlobalState(Wrapped):
    def train_batches(self, stream):
        for images, labels in self.source.train_batches(stream):
            yield images + torch.rand(len(images), 1, 1, 1), labels


class DependsOnTheWorkers(Wrapped):
    def __init__(self, spec):
        super().__init__(spec)
        self.seed = spec.num_workers

    def train_batches(self, stream):
        return self.source.train_batches(replace(stream, seed=self.seed))


class IgnoresTheSeed(Wrapped):
    def train_batches(self, stream):
        return self.source.train_batches(replace(stream, seed=0))


class NeverShuffles(Wrapped):
    def train_batches(self, stream):
        images, labels = self.source.images["train"], self.source.labels["train"]
        for step in range(stream.steps):
            index = torch.tensor([stream.position(step, i) for i in stream.local_range]) % len(images)
            yield images[index], labels[index]


class ValidatesOnTest(Wrapped):
    def evaluation_batches(self, split, device, rank=0, process_count=1):
        return self.source.evaluation_batches("test", device, rank, process_count)


class EvaluatesOnTraining(Wrapped):
    def evaluation_batches(self, split, device, rank=0, process_count=1):
        part = slice(0, 8) if split == "test" else slice(8, 16)
        images, labels = (tensors["train"][part][rank::process_count] for tensors in (self.source.images, self.source.labels))
        yield images, labels


class EveryProcessEvaluatesAll(Wrapped):
    def evaluation_batches(self, split, device, rank=0, process_count=1):
        return self.source.evaluation_batches(split, device)


class DeclaresAnotherSize(Wrapped):
    image_size = 7


class DeclaresAnotherClass(Wrapped):
    classes = 3


class CountsOtherImages(Wrapped):
    @property
    def inventory(self):
        whole = self.source.inventory
        return whole.model_copy(update={"train": whole.train.model_copy(update={"per_class": (11, 13)})})


class CallsItsClassesLabels(Wrapped):
    target_kind = "labels"


BROKEN = [
    (CountsOtherImages, "the_inventory_is_that_of_the_targets"),
    (CallsItsClassesLabels, "shapes_types_and_labels_are_as_declared"),
    (IgnoresTheFirstStep, "training_resumes_anywhere"),
    (DrawsFromTheGlobalState, "training_resumes_anywhere"),
    (DrawsFromTheGlobalState, "reading_leaves_the_global_random_state_unchanged"),
    (IgnoresTheSlice, "processes_divide_each_batch"),
    (DependsOnTheWorkers, "any_number_of_loader_processes_gives_the_same_images"),
    (IgnoresTheSeed, "an_epoch_has_each_image_once_and_epochs_differ_in_order"),
    (NeverShuffles, "an_epoch_has_each_image_once_and_epochs_differ_in_order"),
    (ValidatesOnTest, "splits_are_disjoint"),
    (EvaluatesOnTraining, "splits_are_disjoint"),
    (EveryProcessEvaluatesAll, "evaluation_has_each_image_once"),
    (DeclaresAnotherSize, "shapes_types_and_labels_are_as_declared"),
    (DeclaresAnotherClass, "every_class_has_training_images"),
]
TESTS = [name for name, _ in inspect.getmembers(DataSourceContract, inspect.isfunction) if name.startswith("test_")]


def spec_of(source) -> DataSpec:
    return DataSpec(name=f"{__name__}:{source.__name__}", image_size=8)


@pytest.mark.parametrize("name", TESTS)
def test_the_sound_source_passes(name):
    getattr(DataSourceContract(), name)(spec_of(Wrapped))


@pytest.mark.parametrize(("broken", "test"), BROKEN)
def test_a_broken_source_is_refused(broken, test):
    with pytest.raises(AssertionError):
        getattr(DataSourceContract(), f"test_{test}")(spec_of(broken))


def test_every_test_of_the_contract_refuses_some_source():
    assert {f"test_{test}" for _, test in BROKEN} == set(TESTS)


def test_a_folder_that_is_validated_on_training_images_is_refused(image_folder):
    """They have the same names; images of other names are compared without cropping."""
    message = r"data\.validation_split: 'train': has 60 images of data\.train_split \('train'\), for example "
    with pytest.raises(InvalidInput, match=message):
        DataSourceContract().test_splits_are_disjoint(folder_spec(image_folder, validation_split="train"))


def test_data_that_is_open_stays_open():
    assert open_data(DataSpec(name="digits")) is open_data(DataSpec(name="digits"))
