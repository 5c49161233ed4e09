"""Transforms of training images: every one that is accepted makes images, and what is applied can be read."""

import inspect
from contextlib import suppress

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import auto_augment, create_transform
from torch.utils.data import default_collate

from explorer import InvalidInput
from explorer.data.augmentation import NOT_FOR_TRAINING, check_transform, policy_operations, posterize, training_transform
from explorer.data.seeding import seeded
from explorer.spec.applied_augmentation import augmentation_as_applied, defaults_for_large_images
from explorer.spec.recipe import NOT_AUGMENTATION, Augmentation

ACCEPTED = {
    "no_aug": [True, False],
    "train_crop_mode": ["rrc", "rkrc", "rkrr"],
    "scale": [[0.08, 1.0], [1, 1], None],
    "ratio": [[0.75, 1.33]],
    "hflip": [0, 0.5, 1],
    "vflip": [0.5],
    "color_jitter": [None, 0, 0.4, [0.4, 0.4, 0.4], [0.4, 0.4, 0.4, 0.1]],
    "color_jitter_prob": [0.8],
    "grayscale_prob": [0.2],
    "gaussian_blur_prob": [0.2],
    "auto_augment": [
        "rand-m9-mstd0.5-inc1",
        "rand-m9-mstd0.5",
        "rand-m30-mmax30-n3-mstd0.5-inc1",
        "rand-m10-mstd101-p1",
        "rand-m9-tweights-mstd0.5-inc1",
        "rand-m9-t3a-inc1",
        "rand-m9-t3aw-inc1",
        "original",
        "original-mstd0.5",
        "originalr",
        "v0",
        "v0r-mstd0.5",
        "3a",
        "augmix-m5-w4-d2",
        "augmix-m10-b1",
    ],
    "interpolation": ["bilinear", "bicubic", "nearest", "lanczos", "random"],
    "re_prob": [0.25],
    "re_mode": ["const", "rand", "pixel"],
    "re_count": [3],
}
"""Values of each argument of `create_transform` that augments."""
CASES = [{name: value} for name, values in ACCEPTED.items() for value in values]
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 36, 3), dtype=np.uint8))


def test_every_argument_of_timms_transform_is_accepted_or_refused():
    arguments = set(inspect.signature(create_transform).parameters)
    assert arguments == {*ACCEPTED, *NOT_FOR_TRAINING, *NOT_AUGMENTATION}


@pytest.mark.parametrize("transform", CASES, ids=str)
def test_every_accepted_transform_makes_batches(transform):
    check_transform(transform, 32)
    applied = training_transform(32, transform)
    with seeded(1):
        batch = default_collate([applied(NOISE) for _ in range(8)])
    assert batch.shape == (8, 3, 32, 32)
    assert batch.isfinite().all()
    # The policies choose among many operations at random: each of them, at both ends of its range.
    for operation in policy_operations(applied):
        operation.prob, operation.magnitude_std = 1.0, 0
        for magnitude in (0, operation.magnitude_max or 10):
            operation.magnitude = magnitude
            assert operation(NOISE).size == NOISE.size


@pytest.mark.parametrize("policy", ["rand-m9-mstd0.5-inc1", "augmix-m3", "v0", "original"])
def test_images_are_those_of_timm_unless_timm_cannot_make_them(policy):
    arguments = {"auto_augment": policy, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    ours, timms = training_transform(16, arguments), create_transform(16, is_training=True, **arguments)
    compared = 0
    for seed in range(100):
        with seeded(seed):
            image = ours(NOISE)
        with suppress(ValueError), seeded(seed):  # Pillow refuses 0 bits
            expected = timms(NOISE)
            assert torch.equal(expected, image)
            compared += 1
    assert compared > 80


def test_posterizing_keeps_at_least_one_bit():
    image = Image.new("RGB", (1, 1), (255, 127, 128))
    assert [posterize(image, bits).getpixel((0, 0)) for bits in (-2, 0, 1, 2, 8)] == [
        (128, 0, 128),
        (128, 0, 128),
        (128, 0, 128),
        (192, 64, 128),
        (255, 127, 128),
    ]
    assert auto_augment.NAME_TO_OP["Posterize"] is auto_augment.posterize  # timm itself is unchanged


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        *(({name: True}, rf"transform\.{name}: True: ") for name in NOT_FOR_TRAINING),
        ({"foo": 1}, "create_transform refuses it: .*foo"),
        ({"auto_augment": "nonsense"}, "create_transform refuses it"),
        ({"auto_augment": "rand-m9-tweights-n99"}, "create_transform refuses it"),
        ({"auto_augment": "rand-m9-inc"}, r"transform\.auto_augment: 'rand-m9-inc': timm would ignore 'inc'"),
        ({"auto_augment": "rand-tweight-m9"}, "timm would ignore 'tweight'"),
        ({"hflip": 50}, r"transform\.hflip: 50: must be a probability from 0 to 1"),
        ({"hflip": None}, "create_transform refuses it"),
        ({"scale": 0.5}, r"transform\.scale: 0\.5: must be two numbers above 0"),
        ({"scale": [1, 0.5]}, r"transform\.scale: \[1, 0\.5\]: must be two numbers above 0, the lower one first"),
        ({"re_prob": 0.5, "re_mode": "noise"}, "create_transform refuses it"),
        ({"no_aug": True, "re_prob": 0.5}, r"transform\.no_aug: True: disables all augmentation: re_prob would have no effect"),
    ],
    ids=str,
)
def test_a_transform_that_cannot_train_is_refused(transform, message):
    with pytest.raises(InvalidInput, match=message):
        check_transform(transform, 32)


def test_a_blur_that_is_larger_than_the_image_is_refused():
    """timm's kernel has 23 pixels, which are reflected at the edges of 8."""
    with pytest.raises(InvalidInput, match="create_transform refuses it"):
        check_transform({"gaussian_blur_prob": 0.01}, 8)


@pytest.mark.parametrize(
    ("augmentation", "text"),
    [
        (
            {},
            "random crops of 8 to 100 % of the image; horizontal flips with probability 0.5; color jitter of 0.4",
        ),
        (
            {
                "transform": {"auto_augment": "rand-m9", "scale": [0.6, 1], "hflip": 0, "re_prob": 0.25},
                "mixup": 0.8,
                "cutmix": 1,
            },
            "random crops of 60 to 100 % of the image; auto_augment rand-m9; random erasing with probability 0.25; "
            "mixup (0.8) or cutmix (1)",
        ),
        ({"transform": {"no_aug": True}}, "none"),
        (
            {"transform": {"auto_augment": "3a", "train_crop_mode": "rkrc", "color_jitter": [0.1, 0.2, 0.3], "vflip": 0.1}},
            "random crops of 80 to 100 % of the image; horizontal flips with probability 0.5; vertical flips with probability 0.1; "
            "auto_augment 3a; color jitter of 0.1/0.2/0.3",
        ),
    ],
)
def test_augmentation_as_applied(augmentation, text):
    assert augmentation_as_applied(Augmentation(**augmentation), ("transform",)) == text


def test_augmentation_of_images_in_memory():
    shown = augmentation_as_applied(Augmentation(shift=2, flip=True), ("shift", "flip"))
    assert shown == "shifts by up to 2 pixels; horizontal flips with probability 0.5"
    assert augmentation_as_applied(Augmentation(), ("shift", "flip")) == "none"


def test_the_defaults_in_words_are_those_of_timm():
    crop, flip, jitter = create_transform(32, is_training=True).transforms[:3]
    assert (crop.scale, flip.p, jitter.brightness) == ((0.08, 1.0), 0.5, (0.6, 1.4))
    assert len(create_transform(32, is_training=True, auto_augment="rand-m9").transforms) == 5  # policy, no jitter
    assert len(create_transform(32, is_training=True, auto_augment="3a").transforms) == 6  # policy and jitter
    assert create_transform(32, is_training=True, train_crop_mode="rkrc").transforms[0].random_scale_range == (0.8, 1.0)


def test_what_small_images_get_by_default():
    crops, jitter = "random crops of 8 to 100 % of the image", "color jitter of 0.4"
    assert defaults_for_large_images({}) == (crops, jitter)
    assert defaults_for_large_images({"scale": [0.6, 1]}) == (jitter,)
    assert defaults_for_large_images({"auto_augment": "rand-m9", "color_jitter": 0.4}) == (crops,)
    assert defaults_for_large_images({"no_aug": True}) == ()
    assert defaults_for_large_images({"scale": [0.08, 1], "color_jitter": None}) == ()
