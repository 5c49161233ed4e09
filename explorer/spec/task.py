"""The task: model, data, recipe, staging and objective; everything about a training run except its schedule."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from explorer.errors import validated
from explorer.spec.base import Settings
from explorer.spec.data import DataSpec
from explorer.spec.imports import MODULES
from explorer.spec.lr_schedule import Decay
from explorer.spec.model import ModelSpec
from explorer.spec.objective import ObjectiveSpec
from explorer.spec.optimizer_choice import OptimizerChoice
from explorer.spec.recipe import Recipe
from explorer.spec.staging import Staging

if TYPE_CHECKING:
    from explorer.spec.provenance import Provenance
    from explorer.spec.schedule import Schedule


IMPORT = "import"
"""The key of `TaskSpec.imports` in files: a word that Python reserves."""


def _module_names(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(f"{name!r} must be the dotted name of a Python module, as in an import statement")
    return names


class TaskSpec(Settings):
    """Everything about a training run except its schedule."""

    model_config = ConfigDict(populate_by_name=True)

    model: ModelSpec
    data: DataSpec
    recipe: Recipe
    staging: Staging = Staging()
    objective: ObjectiveSpec = ObjectiveSpec()
    imports: Annotated[tuple[str, ...], AfterValidator(_module_names), MODULES] = Field((), alias=IMPORT)
    """Python modules of your own that are imported before the model is built, in every process: they register models with timm
    or layouts with `explorer.elastic`. They must be importable on every machine that trains."""

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Imports under their key of files; tasks without them or with the default objective as before there were others."""
        content: dict[str, Any] = handler(self)
        imports = content.pop("imports", None) or content.pop(IMPORT, None)
        content = {name: value for name, value in content.items() if name != "objective" or value}
        return {**content, IMPORT: imports} if imports else content

    def with_settings(
        self,
        learning_rate: float,
        batch_size: int,
        staging: Mapping[str, str] = MappingProxyType({}),
        lr_schedule: Decay | None = None,
        optimizer: OptimizerChoice | None = None,
    ) -> TaskSpec:
        """The same task with other values of the settings that sweeps tune.

        Args:
            learning_rate: peak learning rate.
            batch_size: images in one step.
            staging: the settings of `staging` that are searched; the others keep their values.
            lr_schedule: kind of the learning-rate schedule; `None` keeps the task's.
            optimizer: the optimizer with its weight decay; `None` keeps the task's.

        Raises:
            InvalidInput: when a value is not allowed, or the settings of `staging` exclude each other.
        """
        content = self.recipe.model_dump()
        if lr_schedule is not None:
            content["lr_schedule"] = {**content["lr_schedule"], "kind": lr_schedule}
        if optimizer is not None:
            content |= {"optimizer": optimizer.name, "weight_decay": optimizer.weight_decay}
        recipe = validated(Recipe, {**content, "learning_rate": learning_rate, "batch_size": batch_size}, "recipe")
        chosen = validated(Staging, {**self.staging.model_dump(), **staging}, "staging")
        return self.model_copy(update={"recipe": recipe, "staging": chosen})

    def with_compilation(self, compile: bool | Literal["reduce-overhead"]) -> TaskSpec:
        """The same task with another value of `recipe.compile`."""
        return self.model_copy(update={"recipe": self.recipe.model_copy(update={"compile": compile})})

    def measured_as(self, provenance: Provenance | None) -> TaskSpec:
        """The same task with the tuned settings of a schedule's measurement; unchanged if there is none."""
        if provenance is None:
            return self
        return self.with_settings(
            provenance.learning_rate,
            provenance.batch_size,
            provenance.staging,
            provenance.lr_schedule,
            provenance.optimizer,
        )

    def with_schedule(self, schedule: Schedule) -> TaskSpec:
        """The same task with the settings that a schedule was made for and measured with."""
        recipe = self.recipe
        made_for = self.with_settings(recipe.learning_rate, recipe.batch_size, schedule.staging) if schedule.staging else self
        return made_for.measured_as(schedule.provenance)
