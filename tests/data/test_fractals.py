import numpy as np
import pytest
import torch
import yaml

from explorer import InvalidInput, SearchSpace
from explorer.data import TrainStream, open_data
from explorer.data.fractals import MAX_NORM, class_system, fractal_images, render
from explorer.search.checks import check_space
from explorer.spec import Augmentation, DataSpec, FractalSpec

SMALL = FractalSpec(classes=3, instances=6, held_out=4)
CPU = torch.device("cpu")


def quarters(image: np.ndarray) -> list[float]:
    """Fraction of visited pixels of each quarter: upper left, upper right, lower left, lower right."""
    half = len(image) // 2
    parts = (image[:half, :half], image[:half, half:], image[half:, :half], image[half:, half:])
    return [float((part > 0).mean()) for part in parts]


def test_a_sierpinski_triangle_leaves_one_quarter_empty():
    # Three halvings, towards (0, 0), (1, 0) and (0, 1): each maps the triangle onto one of three quarters of its box.
    maps = np.array([[0.5, 0, 0, 0.5, e, f] for e, f in ((0, 0), (0.5, 0), (0, 0.5))], np.float32)
    image = render(maps[None], 64, np.random.default_rng(0))[0]
    filled = quarters(image)
    assert filled[3] < 0.01
    # A quarter is 32 = 2^5 pixels wide: (3/4)^5 = .24 of them are the triangle's, and some of those that touch it.
    assert all(0.23 < each < 0.36 for each in filled[:3])
    # The same again within a quarter.
    assert quarters(image[:32, :32])[3] < 0.02


def test_four_halvings_fill_the_square():
    maps = np.array([[0.5, 0, 0, 0.5, e, f] for e in (0, 0.5) for f in (0, 0.5)], np.float32)
    assert (render(maps[None], 16, np.random.default_rng(0))[0] > 0).all()


def test_a_single_contraction_ends_in_its_fixed_point():
    maps = np.array([[0.5, 0, 0, 0.5, 1, 1]] * 2, np.float32)
    image = render(maps[None], 16, np.random.default_rng(0))[0]
    assert image.max() == 255
    assert (image > 0).mean() < 0.5


def test_images_depend_on_the_settings_alone_and_differ_between_splits_and_seeds():
    images, labels = fractal_images(SMALL, 16)
    again, _ = fractal_images(SMALL, 16)
    assert all(np.array_equal(images[split], again[split]) for split in images)
    assert images["train"].shape == (18, 1, 16, 16)
    assert not np.array_equal(images["validation"], images["test"])
    other, _ = fractal_images(SMALL.model_copy(update={"seed": 1}), 16)
    assert not np.array_equal(images["train"], other["train"])
    for split, each in (("train", 6), ("validation", 4), ("test", 4)):
        assert np.bincount(labels[split]).tolist() == [each] * 3


def test_no_two_images_of_a_class_are_equal():
    images, labels = fractal_images(SMALL, 16)
    first = images["train"][labels["train"] == 0]
    assert len(np.unique(first.reshape(len(first), -1), axis=0)) == len(first)


@pytest.mark.parametrize("label", range(6))
def test_classes_contract_and_fill_an_image(label):
    maps = class_system(0, label)
    linear = maps[:, :4].reshape(-1, 2, 2)
    assert all(np.linalg.svd(each, compute_uv=False)[0] < MAX_NORM for each in linear)
    image = render(maps[None], 64, np.random.default_rng(1))[0]
    assert (image > 0).mean() > 0.18  # the threshold is .2; another walk visits slightly other pixels


def test_without_variation_and_flips_instances_differ_by_the_walk_alone():
    spec = SMALL.model_copy(update={"variation": 0.0, "flips": False})
    images, labels = fractal_images(spec, 16)
    first = images["train"][labels["train"] == 0].astype(float)
    varied = fractal_images(SMALL, 16)[0]["train"][labels["train"] == 0].astype(float)
    assert np.abs(first - first.mean(0)).mean() < np.abs(varied - varied.mean(0)).mean() / 2


def test_batches_are_normalized_and_stored_small():
    data = open_data(DataSpec(name="fractals", image_size=16, fractals=SMALL))
    assert (data.channels, data.classes, data.image_size, data.train_images) == (1, 3, 16, 18)
    assert data.images["train"].dtype == torch.uint8
    stream = TrainStream(seed=0, steps=1, batch_size=8, augmentation=Augmentation(shift=1, flip=True))
    images, labels = next(data.train_batches(stream))
    assert images.shape == (8, 1, 16, 16)
    assert images.dtype == torch.float32
    assert images.min() == -1  # background, also where a shifted image was padded
    assert images.max() <= 1
    assert labels.dtype == torch.int64
    (validation, _), *more = data.evaluation_batches("validation", CPU)
    assert not more
    assert validation.shape == (12, 1, 16, 16)
    assert validation.dtype == torch.float32


BAD = [
    ("classes", 1, r"data\.fractals\.classes: 1: Input should be greater than or equal to 2"),
    ("variation", 1.0, r"data\.fractals\.variation: 1\.0: Input should be less than 1"),
    ("instance", 5, r"data\.fractals\.instance: 'instance': unknown key; did you mean 'instances'"),
    ("instances", 10**9, r"data\.fractals: '[0-9]+ GiB': images are kept in memory; must be at most 16 GiB"),
]


@pytest.mark.parametrize(("key", "value", "message"), BAD)
def test_bad_input_is_one_line(tmp_path, space_file, key, value, message):
    content = yaml.safe_load(space_file.read_text())
    content["data"] = {"name": "fractals", "image_size": 8, "fractals": {key: value}}
    file = tmp_path / "space.yaml"
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(InvalidInput, match=message) as caught:
        check_space(SearchSpace.load(file))
    assert "\n" not in str(caught.value)
