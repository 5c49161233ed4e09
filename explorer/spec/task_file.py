"""Task files: a task, and the resources of a training run. A search space is a task file with further sections."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from explorer.errors import validated
from explorer.spec.base import Frozen, read_mapping
from explorer.spec.task import TaskSpec


class Resources(Frozen):
    """The resources of one training run."""

    cpus: int = Field(1, ge=1)
    """Number of CPUs reserved for a training run, and of torch's threads."""
    gpus: float = Field(0.0, ge=0, le=1)
    """Number of GPUs, at most one; a fraction lets several trials share a GPU."""
    accelerator: str | None = None
    """Kind of GPU by Ray's name (`H100`, `A100`), on a cluster with several: trials run on this one only. `None` for any."""

    @model_validator(mode="after")
    def _check(self) -> Resources:
        if self.accelerator is not None and not self.gpus:
            raise ValueError(f"accelerator: {self.accelerator} is a kind of GPU, and gpus is 0")
        return self


class TaskFile(Frozen):
    """A task with the resources of one training run. In files, the sections of the task are at the top level."""

    FLATTENED: ClassVar[str] = "task"
    """Name of the field whose own fields are at the top level of a file."""

    task: TaskSpec
    resources: Resources = Resources()

    @model_validator(mode="before")
    @classmethod
    def _nest(cls, data: Any) -> Any:
        if not isinstance(data, dict) or isinstance(data.get("task"), TaskSpec):
            return data
        sections = TaskSpec.model_fields
        if "task" in data:
            raise ValueError(f"task: remove this key: its sections ({', '.join(sections)}) are at the top level of the file")
        task = {name: value for name, value in data.items() if name in sections}
        return {"task": task, **{name: value for name, value in data.items() if name not in sections}}

    @model_serializer(mode="wrap")
    def _flatten(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content = handler(self)
        return {**content.pop("task"), **content}

    @classmethod
    def load_task(cls, path: str | Path) -> TaskFile:
        """Read a YAML (or JSON) file that is a task file or a search space.

        Raises:
            InvalidInput: when a key or value is wrong.
        """
        from explorer.spec.search_space import SearchSpace  # a subclass

        content = read_mapping(path)
        search_space_keys = SearchSpace.model_fields.keys() - TaskFile.model_fields.keys()
        is_search_space = isinstance(content, dict) and not search_space_keys.isdisjoint(content)
        return validated(SearchSpace if is_search_space else TaskFile, content, str(path))
