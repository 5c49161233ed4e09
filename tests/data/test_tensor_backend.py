"""The tensor backend draws the random numbers of the PIL backend, and does the same to the pixels."""

import random
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.auto_augment import AugmentOp
from timm.data.random_erasing import RandomErasing

from explorer import Budget, InvalidInput, Rates, Schedule, Stage, compile_plan
from explorer.data import StreamedData, TrainStream, open_data
from explorer.data import drawing as drawing_module
from explorer.data.augmentation import posterize
from explorer.data.contract import DataSourceContract
from explorer.data.drawing import Erasure
from explorer.data.folder import open_folder
from explorer.data.image_access import decoded_image, rgb_pixels
from explorer.data.tensor_operations import apply_operations
from explorer.spec.data import CacheSpec, DataSpec
from explorer.spec.recipe import Augmentation
from explorer.spec.task import TaskSpec
from explorer.training.batches import plan_batches
from explorer.training.loop import train
from explorer.training.stage_store import prefix_keys
from explorer.training.task import Task
from tests.data.conftest import folder_spec
from tests.training.runs import same_weights

CPU = torch.device("cpu")
GRAY = (124, 116, 104)
DEIT = {"auto_augment": "rand-m9-mstd0.5-inc1", "re_prob": 0.5, "re_mode": "pixel"}
SIMCLR = {"color_jitter": [0.4, 0.4, 0.4, 0.1], "color_jitter_prob": 0.8, "grayscale_prob": 0.2, "gaussian_blur_prob": 0.5}


def smooth(generator, height, width):
    """An image like a photograph: interpolation of noise at some points."""
    noise = Image.fromarray(generator.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    return noise.resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Two classes of 16 training and 4 test images of two shapes, as JPEG and PNG."""
    root = tmp_path_factory.mktemp("photographs")
    generator = np.random.default_rng(0)
    for split, count in (("train", 16), ("validation", 4)):
        for label in ("cat", "dog"):
            folder = root / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                shape = (48, 64) if number % 2 else (60, 40)
                smooth(generator, *shape).save(folder / f"{number}.{'png' if number % 3 else 'jpg'}")
    return root


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def open_tensor_folder(spec: DataSpec) -> StreamedData:
    return open_folder(spec).with_backend("tensor")


class TestFolder(DataSourceContract):
    num_workers = (0, 1)

    @pytest.fixture
    def spec(self, image_folder):
        return folder_spec(image_folder, name=f"{__name__}:open_tensor_folder", resident="off")


class TestCachedFolder(DataSourceContract):
    num_workers = (0, 1)

    @pytest.fixture
    def spec(self, image_folder):
        return folder_spec(image_folder, name=f"{__name__}:open_tensor_folder", cache=CacheSpec(short_side=18))


def batches(spec, backend, transform, steps=2, **changes):
    augmentation = Augmentation(transform=transform, backend=backend)
    stream = TrainStream(seed=3, steps=steps, batch_size=12, augmentation=augmentation)
    return torch.cat([images for images, _ in open_data(spec).train_batches(replace(stream, **changes))])


@pytest.mark.parametrize(
    ("transform", "levels"),
    [
        ({"no_aug": True}, 0.5),
        (DEIT, 0.5),
        ({"auto_augment": "original", "vflip": 0.5, "re_prob": 1, "re_count": 2}, 0.5),
        (SIMCLR, 1.5),  # hues and Pillow's blur are approximated
        ({"auto_augment": "3a", "interpolation": "bicubic"}, 1.5),
    ],
)
def test_both_backends_make_the_same_images(photographs, transform, levels):
    """Mean difference in levels of brightness, of 255; ImageNet's standard deviation is 57 levels."""
    spec = folder_spec(photographs, image_size=32, resident="off")
    one, other = (batches(spec, backend, transform) for backend in ("pil", "tensor"))
    assert (one - other).abs().mean() * 57 < levels


@pytest.mark.parametrize("magnitude", [3, 9])
@pytest.mark.parametrize(
    "name",
    [
        "AutoContrast",
        "Equalize",
        "Invert",
        "Rotate",
        "Posterize",
        "PosterizeIncreasing",
        "Solarize",
        "SolarizeIncreasing",
        "SolarizeAdd",
        "Color",
        "Contrast",
        "BrightnessIncreasing",
        "Sharpness",
        "ShearX",
        "ShearY",
        "TranslateXRel",
        "TranslateYRel",
        "Desaturate",
    ],
)
def test_an_operation_changes_pixels_as_pillow_does(name, magnitude):
    """At equal magnitudes and sign: two levels of brightness at most, where a factor extrapolates, and less than one in the mean."""
    image = smooth(np.random.default_rng(1), 60, 80)
    operation = AugmentOp(
        name, prob=1, magnitude=magnitude, hparams={"img_mean": GRAY, "interpolation": Image.Resampling.BILINEAR}
    )
    if name.startswith("Posterize"):
        operation.aug_fn = posterize
    random.seed(0)
    expected = np.asarray(operation(image)).astype(int)
    random.seed(0)
    operation.aug_fn = partial(drawing_module._recorded, name)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].contiguous()
    apply_operations(pixels, [tuple(operation([]))], GRAY)
    difference = abs(pixels[0].permute(1, 2, 0).numpy() - expected)
    assert difference.max() <= 2
    assert difference.mean() < 1


def test_images_with_different_operations_are_changed_each_by_its_own():
    """Inverted then brightened, brightened, unchanged: 100 becomes 155 x 0.5, 100 x 1.5, 100."""
    images = torch.full((3, 3, 4, 4), 100, dtype=torch.uint8)
    invert, darker, brighter = (
        drawing_module.Operation(*each) for each in (("Invert", ()), ("Brightness", (0.5,)), ("Brightness", (1.5,)))
    )
    apply_operations(images, [(invert, darker), (brighter,), ()], GRAY)
    assert images[:, 0, 0, 0].tolist() == [77, 150, 100]


def test_erased_boxes_are_those_that_timm_erases():
    random.seed(4)
    expected = torch.ones(3, 32, 32)
    RandomErasing(1, device="cpu")(expected)
    random.seed(4)
    boxes: list[Erasure] = []
    RandomErasing(1, device="cpu")(drawing_module._ErasedBoxes((32, 32), boxes))
    (erasure,) = boxes
    erased = torch.ones(3, 32, 32)
    erased[:, erasure.top : erasure.top + erasure.height, erasure.left : erasure.left + erasure.width] = 0
    assert torch.equal(erased, expected)


def test_torchvision_decodes_jpeg_as_pillow_does(photographs):
    data = open_data(folder_spec(photographs)).splits["test"].data
    for number in range(len(data)):
        image = decoded_image(data, number, "validation", "ignore")
        assert np.array_equal(rgb_pixels(data, number, "validation", "ignore"), np.asarray(image))


def test_where_decoded_images_are_kept_changes_no_pixel(photographs):
    spec = folder_spec(photographs, image_size=32, resident="off")
    expected = {backend: batches(spec, backend, DEIT) for backend in ("pil", "tensor")}
    for changes in ({"resident": "cpu"}, {"cache": CacheSpec()}, {"resident": "auto", "num_workers": 1}):
        for backend in ("pil", "tensor"):
            assert torch.equal(batches(spec.model_copy(update=changes), backend, DEIT), expected[backend])


def test_evaluation_sees_what_the_other_backend_sees(photographs):
    for mode in ("center", "squash", "border"):
        spec = folder_spec(photographs, image_size=32, preprocessing={"crop_mode": mode}, resident="off")
        sources = [open_data(spec).with_backend(backend) for backend in ("pil", "tensor")]
        one, other = (torch.cat([images for images, _ in each.evaluation_batches("test", CPU)]) for each in sources)
        assert (one - other).abs().mean() * 57 < 0.5, mode


PYRAMID = {
    "name": "pvt_v2_b0",
    "options": {"embed_dims": [8, 16, 16, 16], "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 4], "mlp_ratios": [2, 2, 2, 2]},
}
TWO_STAGES = Schedule(
    stages=(Stage(rates=Rates(tokens=0.25), duration_ratio=0.5), Stage(rates=Rates(), duration_ratio=0.5)), grid=2
)


def resizing_task(root, **data) -> Task:
    content = {
        "model": PYRAMID,
        "data": {"name": "folder", "root": str(root), "image_size": 64, **data},
        "recipe": {
            "epochs": 4,
            "batch_size": 4,
            "learning_rate": 1e-3,
            "augmentation": {"backend": "tensor", "transform": DEIT},
        },
        "staging": {"token_policy": "resize"},
    }
    return Task(TaskSpec.model_validate(content))


def test_smaller_stages_crop_to_their_size_at_once_and_training_is_the_same_from_any_source(photographs):
    task, elsewhere = resizing_task(photographs, resident="off"), resizing_task(photographs, resident="cpu", num_workers=1)
    plan = compile_plan(TWO_STAGES, task, Budget.parse("25%"), task.step_cost)
    sides = [images.shape[2:] for images, _ in plan_batches(task, plan, 0, 0, CPU)]
    first, second = (row.steps for row in plan.stages())
    assert sides == [(32, 32)] * first + [(64, 64)] * second
    results = [train(each, plan, seed=0) for each in (task, elsewhere)]
    assert same_weights(*(result.model for result in results))


def test_the_stage_store_tells_backends_and_cached_sizes_apart_but_not_places(photographs):
    def keys(**data):
        task = resizing_task(photographs, **data)
        plan = compile_plan(TWO_STAGES, task, Budget.parse("25%"), task.step_cost)
        return prefix_keys(task, plan.segments, 0, CPU, amp=False)

    plain = keys()
    assert keys(resident="cpu") == keys(cache={}) == keys(cache={"folder": "/elsewhere"}) == plain
    assert keys(cache={"short_side": 40}) != plain


@pytest.mark.parametrize(
    ("augmentation", "data", "message"),
    [
        (
            {"transform": {"auto_augment": "augmix-m3"}},
            {},
            r"recipe\.augmentation\.backend: 'tensor': has no AugMixAugment; must be pil",
        ),
        ({"transform": {"train_crop_mode": "rkrc"}}, {}, r"recipe\.augmentation\.backend: 'tensor': has no ResizeKeepRatio"),
        (
            {"transform": {"interpolation": "lanczos"}},
            {},
            r"recipe\.augmentation\.backend: 'tensor': does not interpolate by lanczos",
        ),
        ({}, {"name": "digits"}, r"recipe\.augmentation\.backend: 'tensor': does not apply to 'digits'"),
        ({"backend": "pil"}, {"name": "digits", "resident": "cpu"}, r"data\.resident: 'cpu': does not apply to 'digits'"),
        ({"backend": "pil"}, {"name": "digits", "cache": {}}, r"data\.cache: .*: does not apply to 'digits'"),
    ],
)
def test_what_the_backend_does_not_have_is_refused_before_any_work(photographs, augmentation, data, message):
    content = {
        "model": {"name": "vit_tiny_patch16_224"},
        "data": {"name": "folder", "root": str(photographs), "image_size": 32, **data},
        "recipe": {"epochs": 1, "batch_size": 4, "learning_rate": 1e-3, "augmentation": {"backend": "tensor", **augmentation}},
    }
    if data.get("name") == "digits":
        content["data"] = {"image_size": 8, **data}
        content["model"]["options"] = {"patch_size": 2}
    with pytest.raises(InvalidInput, match=message):
        Task(TaskSpec.model_validate(content))


def test_images_cannot_be_on_a_gpu_that_does_not_train(photographs):
    source = open_data(folder_spec(photographs, resident="device"))
    with pytest.raises(InvalidInput, match=r"data\.resident: 'device': training is on the CPU"):
        list(source.evaluation_batches("test", CPU))
