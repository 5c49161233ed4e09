"""A metric measured on test images as a model card has it in its metadata, with what is needed to repeat it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from huggingface_hub import ModelCard, ModelCardData
from pydantic import Field, model_validator

from explorer.console import printable
from explorer.errors import InvalidInput, validated
from explorer.spec.base import Frozen
from explorer.spec.metric import ACCURACY, BUILT_IN
from explorer.spec.objective import MetricName

OF_DATA = ("images", "listing")
"""Fields that describe the test images."""


class MeasuredMetric(Frozen):
    """A metric of a model on test images, and how it was measured."""

    metric: MetricName = ACCURACY.name
    """Name of the metric, as in `objective.metric`."""
    value: float = Field(allow_inf_nan=False)
    """Its value; of accuracy, the fraction of the images that are classified correctly."""
    images: int = Field(ge=1)
    """Number of test images."""
    listing: str = ""
    """Digest of the test images; see `SplitInventory.listing`. Empty, and not written, where a data loader gave them."""
    device: str = Field(pattern=r"^[ -~]{1,100}$")
    """The GPU's name, or `cpu`."""
    precision: Literal["float32", "bf16", "fp16"]
    """Precision in which the model ran: float32, or mixed precision with a lower one."""
    backend: Literal["pil", "tensor", "loader"]
    """What prepared the images; see `Augmentation.backend`. `loader`: a data loader of the user's, which does not say which
    images it gave."""
    threads: int = Field(ge=1)
    """Number of CPU threads."""

    @model_validator(mode="after")
    def _is_a_value(self) -> MeasuredMetric:
        if self.metric in BUILT_IN:
            BUILT_IN[self.metric].check(self.value)
        return self

    @property
    def correct(self) -> int:
        """Number of images that are classified correctly, where the metric is accuracy."""
        return round(self.value * self.images)

    def of_data(self) -> dict[str, Any]:
        """What belongs to the data, for the metadata of a card."""
        return self.model_dump(include={name for name in OF_DATA if getattr(self, name)})

    def of_evaluation(self) -> dict[str, Any]:
        """What belongs to the evaluation, for the metadata of a card."""
        return self.model_dump(exclude={"metric", "value", *OF_DATA})

    @classmethod
    def in_card(cls, path: Path) -> MeasuredMetric | None:
        """What a model card states of test images; `None` if there is no card, or it states nothing that can be repeated.

        Raises:
            InvalidInput: when the card is damaged.
        """
        if not path.is_file():
            return None
        try:
            metadata = ModelCard(path.read_text(encoding="utf-8")).data
        except (OSError, ValueError, TypeError, yaml.YAMLError) as error:  # of which the encoding is one
            raise InvalidInput(str(path), "damaged", f"must be a model card with YAML metadata: {printable(error)}") from None
        assert isinstance(metadata, ModelCardData)
        for result in metadata.eval_results or []:
            if result.dataset_split == "test" and result.metric_args:
                content = {
                    "metric": result.metric_type,
                    "value": result.metric_value,
                    **(result.dataset_args or {}),
                    **result.metric_args,
                }
                return validated(cls, content, f"{path}: model-index")
        return None
