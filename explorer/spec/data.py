"""Where images come from, and how they become what the model sees."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from explorer.errors import InvalidInput
from explorer.spec.base import Settings
from explorer.spec.imports import Reference

TargetKind = Literal["class", "labels", "values"]
"""What a model learns to predict for an image, with K classes or values:

- `class`: one of K classes
- `labels`: any number of K classes
- `values`: K real numbers
"""
IN_MEMORY = ("digits", "fractals")
"""Data sets of this package, which have no files."""
DIGITS_SIZE = 8
"""Height and width in pixels of scikit-learn's digits."""


class FractalSpec(Settings):
    """Number and difficulty of the fractals."""

    classes: int = Field(20, ge=2)
    """Number of classes."""
    instances: int = Field(200, ge=1)
    """Number of training images per class."""
    held_out: int = Field(60, ge=1)
    """Number of validation images per class, and of test images per class."""
    variation: float = Field(0.15, ge=0, lt=1)
    """Largest relative change of a coefficient between an instance and its class: each coefficient is multiplied by a random
    factor between 1 - `variation` and 1 + `variation`. Larger values make classification harder."""
    flips: bool = True
    """Whether instances are flipped at random along both axes, as in FractalDB."""
    seed: int = Field(0, ge=0)
    """Seed of classes and instances; independent of the seed of training."""


class Preprocessing(Settings):
    """How images read from disk are resized, cropped and normalized. `None` takes timm's value for the model
    (its `pretrained_cfg`)."""

    mean: Annotated[tuple[float, ...], Field(min_length=1)] | None = None
    """Mean of each channel (red, green and blue, or as many as the images have), for pixel values from 0 to 1, or in the units
    of images that are floats; it is subtracted from the image."""
    std: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] | None = None
    """Standard deviation of each channel; the image is divided by it."""
    interpolation: Literal["bilinear", "bicubic", "nearest", "lanczos"] | None = None
    """Interpolation used to resize images; `augmentation.transform` may set another one for training (`random`)."""
    crop_pct: float | None = Field(None, gt=0, le=1)
    """Evaluation: side of the central crop as a fraction of the shorter side of the image; 1 crops nothing from a square
    image."""
    crop_mode: Literal["center", "squash", "border"] | None = None
    """Evaluation of images that are not square: `center` crops the longer side, `squash` resizes both sides to the same length,
    and `border` pads the shorter side with the mean color."""


class CacheSpec(Settings):
    """A file of decoded images, which training reads in place of the originals."""

    folder: str | None = None
    """Folder of the file, which should be on a local disk; `~` and variables are replaced. `None` chooses one in
    `$XDG_CACHE_HOME/vit-budget-explorer` or `~/.cache/vit-budget-explorer`."""
    short_side: int | None = Field(None, ge=1)
    """Larger images are reduced until their shorter side has this length in pixels, with bicubic interpolation, which saves
    space; `None` keeps their size, so that training sees the same pixels as without a cache."""


class DataSpec(Settings):
    """Where the images come from."""

    name: Reference
    """`digits` (scikit-learn's 1,797 handwritten digits) and `fractals` (drawn by formulas) need no download. `folder` reads
    one folder per class under root/split; `table` reads the images that a CSV or Parquet file lists; `wds` reads tar files in
    the WebDataset format; `torch/cifar10` and others are torchvision's data sets, `hfds/...` Hugging Face's.
    `package.module:name` is a data set of your own: a data source, or a map-style data set for each split. In Python,
    the class or function itself may be given, if it is in a module that other processes can import."""
    root: str | None = None
    """Folder of the data set; `~`, `$NAME` and `${NAME}` are replaced where the data is opened."""
    image_size: int | None = Field(None, ge=1)
    """Height and width of the images that the model sees, in pixels. Required for all data sets but `digits`, which has 8."""
    train_split: str = "train"
    """Split to train on: the subfolder for `folder`; for `wds` the tar files, by their common prefix or a range such as
    `train-{000..146}.tar`."""
    validation_split: str | None = None
    """Split on which schedules are chosen. `None` sets a tenth of the training images aside, the same for every seed."""
    test_split: str | None = "validation"
    """Split on which results are reported; nothing is chosen on it. `None` sets a tenth of the training images aside, the same
    for every seed; it differs from the tenth that `validation_split` may set aside."""
    train_fraction: float = Field(1.0, gt=0, le=1)
    """Fraction of the training images to train on: a stratified subset, the same for every seed. Smaller subsets are contained
    in larger ones. Validation and test images are not reduced."""
    class_folder: Literal["top", "leaf"] | None = None
    """For `folder`, which folder gives an image its class where folders are nested: `top` is the one directly under the split,
    `leaf` the one that contains the image. `None` refuses nested folders."""
    unreadable: Literal["error", "skip"] = "error"
    """What to do with images that cannot be decoded: `error` refuses the data set, `skip` leaves them out of all counts."""
    skip_files: tuple[str, ...] = ()
    """Images to leave out, relative to `root`. With `unreadable: skip`, those that the check found are added."""
    exif_orientation: Literal["ignore", "apply"] = "ignore"
    """What to do with the orientation that cameras note in EXIF: `ignore` it, as timm and torchvision do, or `apply` it, which
    turns the images upright."""
    num_workers: int = Field(0, ge=0)
    """Number of processes that decode images; 0 decodes in the training process."""
    cache: CacheSpec | None = None
    """For data read from disk: the images are decoded once, into a file that all processes of a machine map into memory. It is
    written by `explorer cache`, or when the data set is first read. `null` disables it."""
    resident: Literal["auto", "cpu", "device", "off"] = "auto"
    """For data read from disk: whether all decoded images are kept in memory. `cpu`: one copy for all processes of a machine, a
    cache at `cache.short_side`; `device`: a copy in the memory of each training's GPU; `off`: neither. `auto`, which acts with
    `augmentation.backend: tensor` only: on the GPU if they take at most a quarter of its free memory, else on the CPU if they
    take at most half of it and of the free space of the cache's disk, else `off`. No pixel depends on it."""
    preprocessing: Preprocessing = Preprocessing()
    fractals: FractalSpec = FractalSpec()
    options: dict[str, Any] = {}
    """Settings of `table` and `hfds/...`, and of data sets outside this package: keyword arguments of map-style data sets,
    besides `input_key`, `target_key` and `target_kind`; data sources read them as `spec.options`."""

    @model_validator(mode="before")
    @classmethod
    def _size_of_digits(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("name") == "digits" and data.get("image_size") is None:
            return {**data, "image_size": DIGITS_SIZE}
        return data

    @model_serializer(mode="wrap")
    def _without_whole_fraction(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Data sets that are trained on as a whole are written as they were before subsets of them could be."""
        content: dict[str, Any] = handler(self)
        return {name: value for name, value in content.items() if name != "train_fraction" or value != 1}

    @property
    def side(self) -> int:
        """`image_size` where it must be given: an open data source always has it.

        Raises:
            InvalidInput: when it is missing.
        """
        if self.image_size is None:
            reason = f"this key is required for {self.name!r}: height and width in pixels of the images that the model sees"
            raise InvalidInput("data.image_size", None, reason)
        return self.image_size
