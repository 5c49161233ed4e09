"""What a trained model must be given, and what its outputs mean."""

from __future__ import annotations

import json

from explorer.spec.base import Frozen
from explorer.spec.data import Preprocessing


class ModelInput(Frozen):
    """What a trained model must be given, and what its outputs mean.

    `timm.data.create_transform(image_size, **preprocessing)` makes the transform of the evaluation.
    """

    class_names: tuple[str, ...]
    """Names of the classes in the order of the model's outputs."""
    image_size: int
    """Height and width of the images, in pixels."""
    channels: int
    """Channels of an image: 3 for red, green and blue, 1 for brightness."""
    preprocessing: Preprocessing | None = None
    """Mean, standard deviation, interpolation and central crop that the model was trained and evaluated with, without `None`.
    `None` if the data source normalizes images by rules of its own, as `digits` and `fractals` do: to [-1, 1]."""

    def as_metadata(self) -> dict[str, str]:
        """The fields as text, for the metadata of safetensors files; lists are JSON."""
        content = self.model_dump(mode="json", exclude={"preprocessing"})
        content |= self.preprocessing.model_dump(mode="json") if self.preprocessing else {}
        return {name: value if isinstance(value, str) else json.dumps(value) for name, value in content.items()}
