"""The reference page of search spaces, from the classes that read them."""

from __future__ import annotations

import types
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from _reference_commands import cell
from _reference_python import parsed_package
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from explorer.spec.budget import Budget
from explorer.spec.search_space import SearchSpace

ROOT = Path(__file__).parents[1]
NAMES = {int: "whole number", float: "number", str: "text", bool: "`true` or `false`", Budget: "budget"}
LIMITS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


def search_space() -> str:
    """A table for each section of a search space, then one whole file."""
    lines = [
        "# Search spaces",
        "",
        "A sweep is described by one YAML file; `explorer init` writes one. Unknown keys are refused, and everything is "
        "checked before the first trial: the model can be built, every rate is possible for its heads, every budget can be "
        "planned, and the data can be opened. In Python: `SearchSpace.load(path)`. A task file, for `explorer plan` and "
        "`explorer train`, has the sections `model`, `data`, `recipe`, `staging`, `objective`, `import` and `resources` only.",
    ]
    for title, model, prefix in sections(SearchSpace, ""):
        lines += ["", f"## {title or 'The file'}", "", summary(model), "", "| field, value, default | what it is |"]
        lines.append("| --- | --- |")
        texts = docstrings(model)
        for name, field in fields_in_files(model).items():
            path = f"{prefix}{field.alias or name}"
            text = texts.get(name)
            inner = inner_model(field)
            if inner is not None:
                text = f"{text or summary(inner)} See [{path}](#{path.replace('.', '')})."
            kind = "<br>".join(filter(None, (f"`{path}`", cell(value(field)), default(field))))
            lines.append(f"| {kind} | {cell(text or '')} |")
    lines += [
        "",
        "## A complete file",
        "",
        "`search_spaces/digits.yaml`, the sweep of `make demo`:",
        "",
        "```yaml",
        (ROOT / "search_spaces" / "digits.yaml").read_text(encoding="utf-8").rstrip(),
        "```",
        "",
        "`search_spaces/` also contains DeiT-S and Swin-T on ImageNet, a ViT-Ti on CIFAR-10, and "
        "fine-tuning of a pretrained ViT-B on a folder of images; `explorer init --example NAME` copies one. The comment at "
        "the top of each says what it costs. The tests compile their plans; we have not run those on ImageNet, CIFAR-10 and "
        "folders.",
    ]
    return "\n".join(lines) + "\n"


def sections(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, type[BaseModel], str]]:
    """Every pydantic class inside another: its path, the class, and what the paths of its fields begin with."""
    yield prefix.rstrip("."), model, prefix
    for name, field in fields_in_files(model).items():
        inner = inner_model(field)
        if inner is not None:
            yield from sections(inner, f"{prefix}{name}.")


def inner_model(field: FieldInfo) -> type[BaseModel] | None:
    """The pydantic class of a field or of the items of its list, if it is one."""
    found = field.annotation
    if get_origin(found) is tuple:
        found = get_args(found)[0]
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


def fields_in_files(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a class as they are in a file, where those of the task are at the top level, after the scalar ones."""
    flattened = getattr(model, "FLATTENED", None)
    fields = dict(model.model_fields)
    if flattened is None:
        return fields
    task = inner_model(fields.pop(flattened))
    assert task is not None
    return ({"name": fields.pop("name")} if "name" in fields else {}) | task.model_fields | fields


def docstrings(model: type[BaseModel]) -> dict[str, str]:
    """The docstrings below the fields of a class, of those it inherits from, and of those that are flattened into it."""
    found: dict[str, str] = {}
    flattened = getattr(model, "FLATTENED", None)
    task = inner_model(model.model_fields[flattened]) if flattened else None
    for each in (*(task.__mro__[:1] if task else ()), *reversed(model.__mro__)):
        if each is BaseModel or not issubclass(each, BaseModel) or not each.__module__.startswith("explorer"):
            continue
        parsed = parsed_package()[f"{each.__module__}.{each.__name__}".removeprefix("explorer.")]
        found |= {name: one.docstring.value for name, one in parsed.attributes.items() if one.docstring}
    return found


def summary(model: type[BaseModel]) -> str:
    """The first line of the class's docstring."""
    return cleandoc(model.__doc__ or "").splitlines()[0]


def value(field: FieldInfo) -> str:
    """The type in words, and its limits."""
    limits = [
        f"{words} {getattr(one, name)}"
        for one in field.metadata
        for name, words in LIMITS.items()
        if getattr(one, name, None) is not None
    ]
    return ", ".join([type_name(field.annotation), *limits])


def type_name(kind: Any) -> str:
    """A type as people write its values in YAML."""
    origin, inner = get_origin(kind), get_args(kind)
    if hasattr(kind, "__metadata__"):
        return type_name(inner[0])
    if origin is Literal:
        return ", ".join(f"`{one}`" for one in inner)
    if origin in (Union, types.UnionType):
        return " or ".join("`null`" if one is type(None) else type_name(one) for one in inner)
    if origin is tuple:
        items = [one for one in inner if one is not Ellipsis]
        return f"{len(items)} numbers" if len(items) > 1 else f"list of: {type_name(items[0])}"
    if origin is dict:
        return "mapping"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "section"
    return NAMES.get(kind, getattr(kind, "__name__", str(kind)))


def default(field: FieldInfo) -> str:
    """The default, or that there is none."""
    if field.default is PydanticUndefined:
        return "required"
    if isinstance(field.default, BaseModel) or field.default == () or field.default == {}:
        return ""
    shown = list(field.default) if isinstance(field.default, tuple) else field.default
    shown = "null" if shown is None else str(shown).lower() if isinstance(shown, bool) else shown
    return f"`{shown}`"
