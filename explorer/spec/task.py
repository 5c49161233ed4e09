"""The task: model, data and recipe; everything about a training run but its schedule."""

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
    """A task as read from a file."""

    model: ModelSpec
    data: DataSpec
    recipe: Recipe
    staging: Staging = Staging()

    def with_settings(
        self, learning_rate: float, batch_size: int, staging: Mapping[str, str] = MappingProxyType({})
    ) -> TaskSpec:
        """The same task with the two settings that every sweep tunes, and those of `staging` that it searches.

        Raises:
            InvalidInput: when the settings of `staging` do not go together.
        """
        recipe = self.recipe.model_copy(update={"learning_rate": learning_rate, "batch_size": batch_size})
        chosen = validated(Staging, {**self.staging.model_dump(), **staging}, "staging")
        return self.model_copy(update={"recipe": recipe, "staging": chosen})

    def measured_as(self, provenance: Provenance | None) -> TaskSpec:
        """The same task with the settings that a schedule's accuracy was measured with, where it has any."""
        if provenance is None:
            return self
        return self.with_settings(provenance.learning_rate, provenance.batch_size, provenance.staging)
