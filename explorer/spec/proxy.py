"""Proxies: cheaper tasks on which a search compares schedules before it trains on its own task, the target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from explorer.spec.base import Settings
from explorer.spec.task import TaskSpec
from explorer.spec.trial_counts import TrialCounts

OF_THE_DATA = ("num_classes", "in_chans", "img_size")
"""Arguments of timm's models that the data determines."""


class Proxy(Settings):
    """What a proxy has less of than the target. Everything else is the target's, and so are the classes."""

    images: float = Field(1.0, gt=0, le=1)
    """Share of the training images: a stratified subset, the same for every seed. Validation and test images are those of the
    target."""
    epochs: float = Field(1.0, gt=0, le=1)
    """Share of `recipe.epochs`."""
    model: dict[str, Any] = {}
    """Options of the model in place of the target's (`model.options`): `{embed_dim: 192, depth: 6}`."""
    image_size: int | None = Field(None, ge=1)
    """Height and width of the images in pixels. `None`: that of the target."""
    trials: TrialCounts | None = None
    """Number of staged trials on the proxy, as `search.trials`: at the cheapest budget, or a list with one number for each
    budget, 0 for none. `None`: as many as on the target. A proxy has no baseline trials and no repeats, and the learning rate
    and batch size of the recipe."""

    @model_validator(mode="after")
    def _check(self) -> Proxy:
        if self.images == self.epochs == 1 and not self.model and self.image_size is None:
            raise ValueError("must make the task cheaper: give images, epochs, model or image_size")
        if given := [name for name in OF_THE_DATA if name in self.model]:
            raise ValueError(
                f"model.{given[0]}: {self.model[given[0]]}: remove this key: a proxy has the classes and channels of its "
                "target, and image_size is set beside model"
            )
        return self

    def task(self, target: TaskSpec) -> TaskSpec:
        """The proxy of a task."""
        data, model, recipe = target.data, target.model, target.recipe
        changes: dict[str, Any] = {} if self.image_size is None else {"image_size": self.image_size}
        parts = {
            "model": model.model_copy(update={"options": {**model.options, **self.model}}),
            "data": data.model_copy(update={**changes, "train_fraction": data.train_fraction * self.images}),
            "recipe": recipe.model_copy(update={"epochs": recipe.epochs * self.epochs}),
        }
        return target.model_copy(update=parts)

    @property
    def has_step_times_of_target(self) -> bool:
        """Whether a training step costs the same as on the target."""
        return not self.model and self.image_size is None

    def __str__(self) -> str:
        shares = {"images": self.images, "epochs": self.epochs}
        parts = [f"{share:.4g} of the {name}" for name, share in shares.items() if share < 1]
        parts += [f"{name} {value}" for name, value in self.model.items()]
        return ", ".join([*parts, *([f"{self.image_size} pixels"] if self.image_size else [])])


def _listed(given: object) -> object:
    return (given,) if isinstance(given, Mapping | Proxy) else given


Proxies = Annotated[tuple[Proxy, ...], BeforeValidator(_listed)]
"""A proxy, or several of them."""
