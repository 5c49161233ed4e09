"""The task: model, data, recipe and staging; everything about a training run except its schedule."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from explorer.errors import validated
from explorer.spec.base import Frozen
from explorer.spec.data import DataSpec
from explorer.spec.model import ModelSpec
from explorer.spec.recipe import Recipe
from explorer.spec.staging import Staging

if TYPE_CHECKING:
    from explorer.spec.provenance import Provenance


class TaskSpec(Frozen):
    """Everything about a training run except its schedule."""

    model: ModelSpec
    data: DataSpec
    recipe: Recipe
    staging: Staging = Staging()

    def with_settings(
        self, learning_rate: float, batch_size: int, staging: Mapping[str, str] = MappingProxyType({})
    ) -> TaskSpec:
        """The same task with other values of the settings that sweeps tune.

        Args:
            learning_rate: peak learning rate.
            batch_size: images in one step.
            staging: the settings of `staging` that are searched; the others keep their values.

        Raises:
            InvalidInput: when a value is not allowed, or the settings of `staging` exclude each other.
        """
        tuned = {"learning_rate": learning_rate, "batch_size": batch_size}
        recipe = validated(Recipe, {**self.recipe.model_dump(), **tuned}, "recipe")
        chosen = validated(Staging, {**self.staging.model_dump(), **staging}, "staging")
        return TaskSpec(model=self.model, data=self.data, recipe=recipe, staging=chosen)

    def measured_as(self, provenance: Provenance | None) -> TaskSpec:
        """The same task with the tuned settings of a schedule's measurement; unchanged if there is none."""
        if provenance is None:
            return self
        return self.with_settings(provenance.learning_rate, provenance.batch_size, provenance.staging)
