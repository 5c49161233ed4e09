"""Where the images come from and what the model sees of them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from explorer.spec.base import Frozen


class FractalSpec(Frozen):
    """Which fractals."""

    classes: int = Field(20, ge=2)
    """Number of classes."""
    instances: int = Field(200, ge=1)
    """Training images of each class."""
    held_out: int = Field(60, ge=1)
    """Validation images of each class, and as many test images."""
    variation: float = Field(0.15, ge=0, lt=1)
    """Each coefficient of an instance is its class's times 1 +- up to this: the larger, the harder."""
    flips: bool = True
    """Instances are flipped along both axes at random, as in FractalDB."""
    seed: int = Field(0, ge=0)
    """Of classes and instances alike; it does not depend on the training seed."""


class Preprocessing(Frozen):
    """How images read from disk become what the model sees, in training and evaluation alike. None: as timm has it for the
    model (its `pretrained_cfg`)."""

    mean: tuple[float, float, float] | None = None
    """Of red, green and blue, from 0 to 1: subtracted."""
    std: tuple[float, float, float] | None = None
    """Of red, green and blue: divided by."""
    interpolation: Literal["bilinear", "bicubic", "nearest", "lanczos"] | None = None
    """Of resizing; for training images `augmentation.transform` may choose another (`random`)."""
    crop_pct: float | None = Field(None, gt=0, le=1)
    """Evaluation: side of the central crop, of the shorter side of the image; 1: nothing of a square image is cut off."""


class DataSpec(Frozen):
    """Where the images come from."""

    name: str
    """`digits` (scikit-learn's 1,797 real images) and `fractals` (drawn by formulas) need no download; or a name for
    `timm.data.create_dataset`: `folder` (one folder a class under root/split), `torch/cifar10`, `hfds/...`; or `wds`: tar files
    in the WebDataset format."""
    root: str | None = None
    """Folder of the data set."""
    image_size: int = Field(8, ge=1)
    """Height and width that the model sees, in pixels."""
    train_split: str = "train"
    """Split to train on: for `folder` the subfolder, for `wds` the tar files: how they begin, or `train-{000..146}.tar`."""
    validation_split: str | None = None
    """None: a tenth of the training images is set aside, the same for every seed."""
    test_split: str = "validation"
    """Split whose accuracy is shown and not chosen by."""
    num_workers: int = Field(0, ge=0)
    """Processes that decode images."""
    preprocessing: Preprocessing = Preprocessing()
    """Images read from disk: size and range of pixels."""
    fractals: FractalSpec = FractalSpec()
    """fractals only: how many, and how hard."""
