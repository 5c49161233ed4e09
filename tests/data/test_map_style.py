"""Map-style data sets of the user's: torch's, with Pillow's images, tensors of any number of channels, and dictionaries as items."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset

from explorer import Budget, InvalidInput, Rates, Schedule, Stage, compile_plan
from explorer.data import ResidentData, check_data, map_style_data, open_data
from explorer.data.array_images import as_image
from explorer.data.contact_sheet import contact_sheet
from explorer.data.contract import DataSourceContract
from explorer.spec import DataSpec, TaskSpec
from explorer.training.loop import train
from explorer.training.task import Task

COUNTS = {"train": 24, "validation": 10}


class Pictures(Dataset):
    """Noise as torch's data sets give it: `form` says how an image is stored."""

    def __init__(self, root=None, split="train", form="pil", side=12, count=None):
        if split not in COUNTS:
            raise ValueError(f"no split {split}")
        self.form, self.side, self.root = form, side, root
        self.first = 0 if split == "train" else 1000
        self.count = COUNTS[split] if count is None else count

    def __len__(self):
        return self.count

    def pixels(self, number, channels):
        generator = np.random.default_rng(self.first + number)
        return generator.integers(0, 256, (self.side, self.side + 4, channels), dtype=np.uint8)

    def image(self, number):
        if self.form == "pil":
            return Image.fromarray(self.pixels(number, 3))
        if self.form == "array":
            return self.pixels(number, 3)
        if self.form == "tensor":
            return torch.from_numpy(self.pixels(number, 4)).permute(2, 0, 1)
        return torch.from_numpy(self.pixels(number, 13)).permute(2, 0, 1) / 255

    def __getitem__(self, number):
        return self.image(number), number % 2


class Dictionaries(Pictures):
    target_kind = "labels"
    classes = ("red", "green", "blue")

    def __getitem__(self, number):
        return {"picture": self.image(number), "marks": torch.tensor([1, number % 2, number % 3 == 0]), "id": number}


def heights(split, **options):
    """A function that gives a data set, with numbers as targets."""

    class Heights(Pictures):
        def __getitem__(self, number):
            return self.image(number), number / 4

    return Heights(split=split, **options)


class Sequential(IterableDataset):
    def __init__(self, split):
        self.split = split

    def __iter__(self):
        yield from ()


class Wrong(Pictures):
    def __init__(self, split, item):
        super().__init__(split=split)
        self.item = item
        if item == "targets":
            self.targets = [1, 0] * (len(self) // 2)

    def __getitem__(self, number):
        image = super().__getitem__(number)[0]
        return {
            "dict": {"img": image, "label": 0},
            "triple": (image, 0, number),
            "none": None,
            "text": ("0001.jpg", 0),
            "vector": (image, [0.0, 1.0]),
            "hidden": (image, None),
            "targets": (image, number % 2),
            "shape": (torch.zeros(32, 32, 3), 0),
            "int16": (torch.zeros(2, 8, 8, dtype=torch.int16), 0),
        }[self.item]


def spec_of(dataset, side=8, **changes) -> DataSpec:
    return DataSpec(name=f"{__name__}:{dataset.__name__}", image_size=side, **changes)


def normalized(channels, mean=0.5, std=0.25):
    return {"mean": (mean,) * channels, "std": (std,) * channels}


THIRTEEN = spec_of(Pictures, options={"form": "floats"}, preprocessing=normalized(13))


class TestPictures(DataSourceContract):
    @pytest.fixture
    def spec(self):
        return spec_of(Pictures, test_split=None)


class TestThirteenChannels(DataSourceContract):
    @pytest.fixture
    def spec(self):
        return THIRTEEN


class TestDictionaries(DataSourceContract):
    num_workers = (0,)  # the others start processes

    @pytest.fixture
    def spec(self):
        options = {"form": "tensor", "input_key": "picture", "target_key": "marks"}
        return spec_of(Dictionaries, options=options, preprocessing=normalized(4))


class TestNumbers(DataSourceContract):
    num_workers = (0,)  # the others start processes

    @pytest.fixture
    def spec(self):
        return spec_of(heights, options={"target_kind": "values", "form": "array"})


@pytest.mark.parametrize("form", ["pil", "array"])
def test_images_of_three_channels_of_bytes_are_rgb_images(form):
    """They are read by the same code as those of files: augmented by any policy, cached, and the same pixels."""
    source = open_data(spec_of(Pictures, options={"form": form}))
    assert (source.channels, source.has_tensors) == (3, False)
    image, target = source.splits["test"].data[3]
    assert np.array_equal(np.asarray(as_image(image)), Pictures(split="validation").pixels(3, 3))
    assert target == 1


def test_tensors_keep_their_channels_and_values():
    """At their own size and without cropping, evaluation gives (value - mean) / deviation."""
    preprocessing = {**normalized(4, mean=0.25, std=0.5), "crop_pct": 1.0, "crop_mode": "squash"}
    spec = spec_of(Pictures, side=12, options={"form": "tensor"}, preprocessing=preprocessing)
    images, targets = next(open_data(spec).evaluation_batches("test", torch.device("cpu")))
    assert (images.shape, targets.tolist()) == ((10, 4, 12, 12), [0, 1] * 5)
    square = Pictures(split="validation", form="tensor")
    resized = torch.nn.functional.interpolate(square.image(3)[None] / 255, (12, 12), mode="bilinear", antialias=True)
    spec = spec.model_copy(update={"preprocessing": spec.preprocessing.model_copy(update={"interpolation": "bilinear"})})
    images, _ = next(open_data(spec).evaluation_batches("test", torch.device("cpu")))
    assert torch.allclose(images[3], (resized[0] - 0.25) / 0.5, atol=1e-5)


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        (np.zeros((5, 7, 13), np.uint8), (13, 5, 7)),
        (np.zeros((5, 7)), (1, 5, 7)),
        (torch.zeros(1, 5, 7, dtype=torch.uint8), (1, 5, 7)),
        (torch.zeros(3, 5, 7, dtype=torch.float64), (3, 5, 7)),
    ],
)
def test_arrays_are_channels_last_and_tensors_channels_first(value, shape):
    assert (tuple(as_image(value).shape), as_image(value).dtype) == (shape, torch.float32)


def test_thirteen_channels_are_trained_on():
    task = Task(task_spec(THIRTEEN, augmentation={"transform": {"color_jitter": None, "re_prob": 0.5}}))
    task.check()
    schedule = Schedule(stages=(Stage(rates=Rates(heads=0.5), duration_ratio=0.5), Stage(rates=Rates(), duration_ratio=0.5)))
    result = train(task, compile_plan(schedule, task, Budget.parse("100%"), task.step_cost), seed=0)
    assert result.steps > 4
    inventory = check_data(THIRTEEN).inventory
    assert (inventory.train.modes, inventory.train.sizes) == ({"13 channels": 21}, {"16x12": 21})
    assert inventory.checked
    assert contact_sheet(task.data, task.spec.recipe.augmentation, inventory.class_names).mode == "RGB"


def task_spec(data, **recipe) -> TaskSpec:
    model = {"name": "vit_tiny_patch16_224", "options": {"patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2}}
    settings = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, **recipe}
    return TaskSpec.model_validate({"model": model, "data": data.model_dump(), "recipe": settings})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {},
            r"recipe\.augmentation\.transform\.color_jitter: 0\.4: timm's value if it is not given, .*; set color_jitter: null",
        ),
        (
            {"augmentation": {"transform": {"auto_augment": "rand-m9"}}},
            r"transform\.auto_augment: 'rand-m9': changes the colors of 8-bit RGB images, and these are tensors of 13 channels",
        ),
        (
            {"augmentation": {"backend": "tensor"}},
            r"recipe\.augmentation\.backend: 'tensor': is for 8-bit RGB images; must be pil",
        ),
        (
            {"augmentation": {"transform": {"color_jitter": None, "interpolation": "lanczos"}}},
            r"timm.data.create_transform cannot augment tensors of 13 channels so",
        ),
    ],
)
def test_augmentation_that_tensors_cannot_have_is_refused(changes, message):
    with pytest.raises(InvalidInput, match=message):
        Task(task_spec(THIRTEEN, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preprocessing": {}}, r"data\.preprocessing\.mean: None: must be 13 numbers, one for each channel"),
        ({"preprocessing": {"mean": (0.5,) * 13}}, r"data\.preprocessing\.std: None: must be 13 numbers"),
        ({"preprocessing": normalized(4)}, r"data\.preprocessing\.mean: \[0\.5, 0\.5, 0\.5, 0\.5\]: must be 13 numbers"),
        ({"cache": {}}, r"data\.cache: .*holds 8-bit RGB images, and these are tensors; leave it out"),
        ({"resident": "cpu"}, r"data\.resident: 'cpu': is for 8-bit RGB images"),
        ({"preprocessing": {**normalized(13), "crop_mode": "border"}}, r"crop_mode: 'border': is for 8-bit RGB"),
        ({"preprocessing": {**normalized(13), "interpolation": "lanczos"}}, r"interpolation: 'lanczos': is for 8-bit RGB"),
    ],
)
def test_settings_that_tensors_cannot_have_are_refused(changes, message):
    with pytest.raises(InvalidInput, match=message):
        open_data(DataSpec.model_validate(THIRTEEN.model_dump() | changes))


@pytest.mark.parametrize(
    ("dataset", "changes", "message"),
    [
        (
            Sequential,
            {},
            r"data\.train_split: 'train': Sequential can only be read in sequence, but training needs random access",
        ),
        (Pictures, {"options": {"count": 0}}, r"data\.train_split: 'train': Pictures has no images: its length is 0"),
        (
            Pictures,
            {"options": {"colour": 1}},
            r"data\.options: .*has the parameters root, split, form, side, count: .*'colour'",
        ),
        (Pictures, {"test_split": "test"}, r"data\.test_split: 'test': .*cannot open it: ValueError: no split test"),
        (
            Pictures,
            {"options": {"target_kind": "words"}},
            r"data\.options: target_kind: 'words': .*'class', 'labels' or 'values'",
        ),
        (Wrong, {"options": {"item": "dict"}}, r"item 0 cannot be used: has no key 'image', but img, label; name .*input_key"),
        (Wrong, {"options": {"item": "triple"}}, r"item 0 cannot be used: is a tuple of 3; must be a pair"),
        (Wrong, {"options": {"item": "none"}}, r"item 0 cannot be used: is a NoneType; must be a pair"),
        (Wrong, {"options": {"item": "text"}}, r"item 0 cannot be used: is a str; images must be Pillow's, tensors, or NumPy"),
        (
            Wrong,
            {"options": {"item": "vector"}},
            r"the target of item 0 is \[0\.0, 1\.0\], .* set data\.options\.target_kind to",
        ),
        (Wrong, {"options": {"item": "hidden"}}, r"24 of 24 images have no label"),
        (
            Wrong,
            {"options": {"item": "targets"}},
            r"the target of item 0 is 0, but the attribute targets has 1: they must agree",
        ),
        (Wrong, {"options": {"item": "shape"}}, r"has the shape \(32, 32, 3\); .* tensors \(C, H, W\)"),
        (Wrong, {"options": {"item": "int16"}}, r"has values of torch\.int16; must be uint8 .* or floats"),
        (Wrong, {"options": {"item": "missing"}}, r"item 0 cannot be used: KeyError: 'missing'"),
    ],
)
def test_data_sets_that_cannot_be_trained_on_are_refused_in_one_line(dataset, changes, message):
    with pytest.raises(InvalidInput, match=message) as caught:
        open_data(spec_of(dataset, **changes))
    assert "\n" not in str(caught.value)


class Named(Pictures):
    """Images with names: `alike`, those of files without their folders, which are the same in two classes."""

    def __init__(self, split, names="alike"):
        super().__init__(split=split)
        period = self.count // 2 if names == "alike" else self.count
        self.names = [f"{split[0]}\udce9{number % period}.png" for number in range(self.count)]
        self.targets = [number % 2 for number in range(self.count)]

    def __getitem__(self, number):
        if number == 7 and self.first == 0:
            raise OSError("damaged file")
        return super().__getitem__(number)


@pytest.mark.parametrize(("names", "name"), [("alike", "train/7"), ("unlike", r"t\\xe97\.png")])
def test_every_image_is_checked_whatever_the_names_and_has_a_name_of_its_own(names, name):
    spec = spec_of(Named, options={"names": names})
    with pytest.raises(
        InvalidInput, match=rf"1 of {COUNTS['train'] + COUNTS['validation']} images .*: {name} \(damaged file\)"
    ):
        check_data(spec)
    inventory = check_data(spec.model_copy(update={"unreadable": "skip"})).inventory
    splits = inventory.splits.values()
    assert sum(split.opened for split in splits) == COUNTS["train"] + COUNTS["validation"] - 1
    inventory.model_dump_json()


class Mixed(Pictures):
    """Image 7 has other channels than the first."""

    def __getitem__(self, number):
        image, target = super().__getitem__(number)
        return (image[:5] if number == 7 else image), target


def test_an_image_of_another_shape_than_the_first_is_named():
    options = {"form": "floats"}
    with pytest.raises(
        InvalidInput, match=r"train/7 \(is a tensor of 5 channels, and the first training image is a tensor of 13"
    ):
        check_data(spec_of(Mixed, options=options, preprocessing=normalized(13)))
    sets = {"train": Pictures(form="floats"), "test": Pictures(split="validation", form="tensor")}
    with pytest.raises(
        InvalidInput, match=r"data\.test_split: .*tensors of 4 channels, and the training images are tensors of 13"
    ):
        map_style_data(DataSpec(name="x", image_size=8, preprocessing=normalized(13)), sets)


class Damaged(Pictures):
    """Item 3 cannot be read; its target is in the list."""

    def __init__(self, split):
        super().__init__(split=split)
        self.targets = [number % 2 for number in range(len(self))]
        if split == "validation":
            self.target_kind = "class"

    def __getitem__(self, number):
        if number == 3 and self.first == 0:
            raise OSError("no such tile")
        return super().__getitem__(number)


def test_an_item_that_cannot_be_read_is_refused_or_left_out():
    with pytest.raises(InvalidInput, match=r"1 of 34 images cannot be read: train/3 \(no such tile\)"):
        check_data(spec_of(Damaged))
    inventory = check_data(spec_of(Damaged, unreadable="skip")).inventory
    assert (inventory.train.images + inventory.validation.images, inventory.train.unreadable) == (23, ("train/3",))


def test_a_kind_of_targets_that_does_not_exist_is_refused():
    data = Pictures()
    data.target_kind = "boxes"
    with pytest.raises(
        InvalidInput, match=r"data\.train_split: 'boxes': Pictures\.target_kind must be one of class, labels, values"
    ):
        map_style_data(DataSpec(name="x", image_size=8), {"train": data})


def test_a_task_with_another_description_keeps_the_data():
    task = Task(task_spec(DataSpec(name="mine", image_size=8)), data={"train": Pictures(count=40)})
    assert task.with_spec(task.spec.with_compilation(True)).train_images == task.train_images == 32


def test_floats_outside_the_usual_range_are_counted():
    class Standardized(Pictures):
        def __getitem__(self, number):
            return torch.from_numpy(self.pixels(number, 3)).permute(2, 0, 1) / 64 - 2, number % 2

    data = map_style_data(DataSpec(name="x", image_size=8), {"train": Standardized(count=40)})
    assert data.has_tensors
    from explorer.data.image_facts import NumberedImage, examine

    facts = examine(NumberedImage(data.splits["train"].data, 0), DataSpec(name="x", image_size=8))
    assert facts.remarks == (
        "images of floats outside the range from 0 to 1, which are normalized by data.preprocessing as they are",
    )


def test_the_folder_is_given_where_a_parameter_takes_it(tmp_path):
    assert open_data(spec_of(Pictures, root=str(tmp_path))).splits["train"].data._data.root == str(tmp_path)


def test_a_task_takes_data_sets_and_sources_as_objects():
    spec = task_spec(DataSpec(name="mine", image_size=8, preprocessing={"crop_pct": 1}))
    task = Task(spec, data={"train": Pictures(count=40), "test": Pictures(split="validation")})
    inventory = task.data.inventory
    assert [split.images for split in inventory.splits.values()] == [36, 4, 10]
    assert task.data.normalization[0] == (0.5, 0.5, 0.5)  # the model's own
    resident = open_data(DataSpec(name="digits"))
    assert isinstance(resident, ResidentData)
    spec = task_spec(DataSpec(name="mine", image_size=8, train_fraction=0.5))
    assert Task(spec, data=resident).train_images == pytest.approx(resident.train_images / 2, abs=5)
    with pytest.raises(InvalidInput, match=r"data\.image_size: 16: must be 8, as in the data that is given"):
        Task(task_spec(DataSpec(name="mine", image_size=16)), data=resident)
    for wrong, message in (
        (Pictures(), "data: 'Pictures': must be a data source"),
        ({"test": Pictures()}, "by the names train"),
    ):
        with pytest.raises(InvalidInput, match=message):
            Task(task_spec(DataSpec(name="mine", image_size=8)), data=wrong)
