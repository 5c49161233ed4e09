"""A picture of training images as the model sees them: cropped, augmented, mixed, and normalized back to pixels.

Shapes: N images, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from explorer.data.augmentation import mix_batches
from explorer.data.source import DataSource, TargetKind, TrainStream, target_kind
from explorer.data.streamed import StreamedData
from explorer.spec.recipe import Augmentation

SHEET_IMAGES = 48
COLUMNS = 8
SIDE = 112
"""Smallest height and width in pixels at which an image is drawn; small images are enlarged by a whole number."""
LABEL_HEIGHT = 18
MARGIN = 8
LABEL_CHARACTERS = 17


def contact_sheet(source: DataSource, augmentation: Augmentation, class_names: Sequence[str]) -> Image.Image:
    """The first images of the training stream of seed 0, each above the name of its class.

    Args:
        source: the data set.
        augmentation: the augmentation of the recipe, mixup and cutmix included.
        class_names: K names in the order of the labels.
    """
    count = min(SHEET_IMAGES, source.train_images)
    count -= count % 2 if augmentation.mixes else 0
    stream = TrainStream(seed=0, steps=1, batch_size=count, augmentation=augmentation)
    images_NCHW, labels = next(iter(mix_batches(source.train_batches(stream), stream, source.classes)))
    pixels_NCHW = _pixels(source, images_NCHW)
    scale = max(1, -(-SIDE // source.image_size))
    side = source.image_size * scale
    rows = -(-count // COLUMNS)
    sheet = Image.new("RGB", (MARGIN + COLUMNS * (side + MARGIN), MARGIN + rows * (side + LABEL_HEIGHT + MARGIN)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    for place, (pixels_CHW, label) in enumerate(zip(pixels_NCHW, labels, strict=True)):
        row, column = divmod(place, COLUMNS)
        corner = MARGIN + column * (side + MARGIN), MARGIN + row * (side + LABEL_HEIGHT + MARGIN)
        array = pixels_CHW.permute(1, 2, 0).contiguous().numpy()
        image = Image.fromarray(array.squeeze(-1) if array.shape[-1] == 1 else array).convert("RGB")
        sheet.paste(image.resize((side, side), Image.Resampling.NEAREST), corner)
        draw.text((corner[0], corner[1] + side + 2), _label(label, class_names, target_kind(source)), fill="black", font=font)
    return sheet


def _pixels(source: DataSource, images_NCHW: Tensor) -> Tensor:
    """Values from 0 to 255, uint8, of normalized images of 1 or 3 channels."""
    channels = images_NCHW.shape[1]
    if isinstance(source, StreamedData):
        mean, std = (torch.tensor(values)[:, None, None] for values in source.normalization)
    else:  # in memory: normalized from -1 to 1
        mean = std = torch.full((channels, 1, 1), 0.5)
    values = (images_NCHW.float().cpu() * std + mean).clamp(0, 1) * 255
    shown = values[:, :3] if channels >= 3 else values[:, :1]
    return shown.round().to(torch.uint8)


def _label(label: Tensor, class_names: Sequence[str], kind: TargetKind) -> str:
    """Name of the class, or the two classes of a mixed image with their shares; the classes of an image with any number, or its
    values."""
    if label.ndim == 0:
        return _short(class_names[int(label)], LABEL_CHARACTERS)
    if kind == "values":
        return _short(", ".join(f"{value:.4g}" for value in label.tolist()), LABEL_CHARACTERS)
    if kind == "labels":
        return _short(", ".join(class_names[number] for number in label.nonzero()[:, 0].tolist()) or "none", LABEL_CHARACTERS)
    shares, classes = label.topk(min(2, len(label)))
    parts = [(class_names[int(number)], float(share)) for number, share in zip(classes, shares, strict=True) if share > 0]
    if len(parts) == 1:
        return _short(parts[0][0], LABEL_CHARACTERS)
    return ", ".join(f"{_short(name, 4)} {share:.0%}" for name, share in parts)


def _short(name: str, length: int) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"
