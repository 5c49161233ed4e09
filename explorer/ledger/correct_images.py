"""Which images of a split a model classified correctly, in a form that fits into a record: one bit for each image."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, ValidationInfo, field_validator

from explorer.spec.base import Frozen

if TYPE_CHECKING:  # reading a ledger does not need numpy
    import numpy as np
    from numpy.typing import NDArray

MAX_IMAGES = 200_000
"""Splits with more images are not recorded: 25 kB for each trial, where the images alone allow an error of 0.1 points."""


class CorrectImages(Frozen):
    """Which of N images were classified correctly."""

    images: Annotated[int, Field(ge=1, le=MAX_IMAGES)]
    """N."""
    packed: str
    """One bit for each image in the order of the split, the highest bit of a byte first; base64."""

    @classmethod
    def of(cls, correct_N: NDArray[np.bool_] | None) -> CorrectImages | None:
        """Pack flags; `None` for none, and for more than `MAX_IMAGES`."""
        import numpy as np

        if correct_N is None or not 0 < len(correct_N) <= MAX_IMAGES:
            return None
        return cls(images=len(correct_N), packed=base64.b64encode(np.packbits(correct_N).tobytes()).decode())

    @field_validator("packed")
    @classmethod
    def _has_all_images(cls, packed: str, info: ValidationInfo) -> str:
        try:
            size = len(base64.b64decode(packed, validate=True))
        except binascii.Error:
            raise ValueError("must be base64") from None
        images = info.data.get("images")
        if images is not None and size != (images + 7) // 8:
            raise ValueError(f"must have {images} bits, but has {size} bytes")
        return packed

    def flags(self) -> NDArray[np.bool_]:
        """Whether each image was classified correctly, (N,)."""
        import numpy as np

        packed = np.frombuffer(base64.b64decode(self.packed), np.uint8)
        return np.unpackbits(packed, count=self.images).astype(bool)
