"""Task files: a task, and the resources of a training run. A search space is a task file with further sections."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from explorer.errors import validated
from explorer.spec.base import Settings, read_mapping
from explorer.spec.budget import Device
from explorer.spec.task import TaskSpec


class Resources(Settings):
    """The resources of one training run."""

    cpus: int = Field(1, ge=1)
    """Number of CPUs reserved for each process of a training run, and of the process's torch threads."""
    gpus: float = Field(0.0, ge=0)
    """Number of GPUs of a training run. A fraction of one lets several trials share a GPU. A whole number above 1 trains with
    as many processes, one on each GPU, which divide every batch."""
    accelerator: str | None = None
    """Kind of GPU by Ray's name (`H100`, `A100`), on a cluster with several: trials run on this one only. `None` for any."""
    processes: int | None = Field(None, ge=1)
    """Number of processes that train together and divide every batch: a number for training on CPUs, where each has `cpus`
    CPUs. `None`: one for each GPU, and a single one on the CPU."""
    spread: bool = False
    """Whether the processes of a training run may be on several nodes, where none has room for all of them. With `false`, they
    are on one node."""

    @property
    def device_kind(self) -> Device:
        """The kind of device that training runs on."""
        return "GPU" if self.gpus else "CPU"

    @model_validator(mode="after")
    def _check(self) -> Resources:
        if self.accelerator is not None and not self.gpus:
            raise ValueError(f"accelerator: {self.accelerator} is a kind of GPU, and gpus is 0")
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(f"gpus: {self.gpus:g} must be a whole number, or a fraction of one GPU")
        if self.gpus and self.processes not in (None, self._gpu_processes):
            raise ValueError(
                f"processes: {self.processes} must be {self._gpu_processes}, one for each GPU (gpus: {self.gpus:g})"
            )
        if self.spread and self.process_count == 1:
            raise ValueError("spread: true is for several processes (gpus above 1, or processes), and this is a single one")
        return self

    @property
    def _gpu_processes(self) -> int:
        return max(1, int(self.gpus))

    @property
    def process_count(self) -> int:
        """Number of processes that train together."""
        return self.processes or self._gpu_processes

    @property
    def process_gpus(self) -> float:
        """Number of GPUs of each process: one, a fraction of one, or 0 on the CPU."""
        return min(self.gpus, 1.0)


class TaskFile(Settings):
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
        sections = [field.alias or name for name, field in TaskSpec.model_fields.items()]
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
