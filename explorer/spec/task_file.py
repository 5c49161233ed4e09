"""Task files: a task and what a training may use of a machine. A search space is a task file with more in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from explorer.errors import validated
from explorer.spec.base import Frozen, read_mapping
from explorer.spec.task import TaskSpec


class Resources(Frozen):
    """What one training may use."""

    cpus: int = Field(1, ge=1)
    """CPUs, and torch threads."""
    gpus: float = Field(0.0, ge=0, le=1)
    """GPUs; a fraction lets trials share one. A trial trains on one GPU at most."""


class TaskFile(Frozen):
    """A task with the resources of one training. In files the task's sections stand at the top level."""

    FLATTENED: ClassVar[str] = "task"
    """The field whose own fields stand at the top level of a file."""

    task: TaskSpec
    resources: Resources = Resources()

    @model_validator(mode="before")
    @classmethod
    def _nest(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "task" in data:
            return data
        sections = {name: value for name, value in data.items() if name in TaskSpec.model_fields}
        return {"task": sections, **{name: value for name, value in data.items() if name not in sections}}

    @model_serializer(mode="wrap")
    def _flatten(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content = handler(self)
        return {**content.pop("task"), **content}

    @classmethod
    def load_task(cls, path: str | Path) -> TaskFile:
        """Read the task of a YAML (or JSON) file: a task file, or a search space.

        Raises:
            InvalidInput: when a key or value is wrong.
        """
        from explorer.spec.search_space import SearchSpace

        content = read_mapping(path)
        is_space = isinstance(content, dict) and "search" in content
        return validated(SearchSpace if is_space else TaskFile, content, str(path))
