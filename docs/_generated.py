"""Pages that are made from the code when the site is built: the command line, search spaces, and files kept elsewhere."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator
from functools import lru_cache
from inspect import cleandoc
from os.path import relpath
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from griffe import load
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from explorer.cli import app  # noqa: E402
from explorer.spec.budget import Budget  # noqa: E402
from explorer.spec.search_space import SearchSpace  # noqa: E402

PICTURES = {
    "assets/report.png": "reports/digits/report.png",
    "assets/methods.png": "benchmarks/methods/methods.png",
    "assets/fractals.png": "benchmarks/fractals.png",
}
NAMES = {int: "whole number", float: "number", str: "text", bool: "`true` or `false`", Budget: "budget"}
LIMITS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add pictures that are kept elsewhere."""
    for name, source in PICTURES.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put what is generated in the place of its mark; what stands before it is for people who read the file itself."""
    makers = {"command_line": command_line, "search_space": search_space, "benchmarks": benchmarks}
    mark = re.search(r"<!-- generated: (\w+) -->", markdown)
    text = makers[mark[1]]() if mark else markdown
    for name, source in PICTURES.items():
        text = text.replace(f"../{source}", name)  # one folder less: docs/ is the site's root
    return text


def benchmarks() -> str:
    """The benchmarks' own page, its pictures named as from a page of docs/method."""
    page = ROOT / "benchmarks" / "README.md"
    text = without_links(page.read_text(encoding="utf-8"))
    for source in PICTURES.values():
        text = text.replace(f"]({relpath(ROOT / source, page.parent)})", f"](../../{source})")
    return text


def without_links(text: str) -> str:
    """Markdown without links to files of the repository, which are not part of the site; pictures stay."""
    return re.sub(r"(?<!!)\[([^]]+)\]\((?!https?:|#)[^)]+\)", r"\1", text)


def command_line() -> str:
    """A section for each command: its line, what it does, its options."""
    import typer

    lines = [
        "# Command line",
        "",
        "Generated from the code. `explorer COMMAND --help` prints the same. Bad input ends in one line that names the field, "
        "the value and what is allowed, and exit code 2.",
    ]
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        options = [one for one in command.params if one.param_type_name == "option"]
        required = [f"{one.opts[0]} {one.name.upper()}" for one in options if one.required]
        usage = " ".join(["explorer", name, *(one.name.upper() + "..." * (one.nargs == -1) for one in arguments), *required])
        lines += ["", f"## {name}", "", cleandoc(command.help or ""), "", "```text", f"{usage} [OPTIONS]", "```", ""]
        lines += ["| option | what it does |", "| --- | --- |"]
        for one in (*arguments, *options):
            label = one.name.upper() if one in arguments else ", ".join(one.opts)
            default = "<br>required" if one.required else "" if one.default in (None, False) else f"<br>`{one.default}`"
            lines.append(f"| `{label}`{default} | {cell(one.help or '')} |")
    return "\n".join(lines) + "\n"


def search_space() -> str:
    """A table for each section of a search space, then one whole file."""
    lines = [
        "# Search spaces",
        "",
        "A sweep is one YAML file. Its fields, made from the classes that read it. Unknown keys are refused, and all of it "
        "is validated before the first trial: the model builds, every rate is possible for its head counts, every budget can "
        "be planned, the data opens. In Python: `SearchSpace.load(path)`.",
    ]
    for title, model, prefix in sections(SearchSpace, ""):
        lines += ["", f"## {title or 'The file'}", "", summary(model), "", "| field, value, default | what it is |"]
        lines.append("| --- | --- |")
        texts = docstrings(model)
        for name, field in model.model_fields.items():
            path = f"{prefix}{name}"
            text = texts.get(name)
            inner = inner_model(field)
            if text is None and inner is not None:
                text = f"{summary(inner)} See [{path}](#{path.replace('.', '')})."
            kind = "<br>".join(filter(None, (f"`{path}`", cell(value(field)), default(field))))
            lines.append(f"| {kind} | {cell(text or '')} |")
    lines += [
        "",
        "## A whole file",
        "",
        "`search_spaces/digits.yaml`, the sweep of `make demo`:",
        "",
        "```yaml",
        (ROOT / "search_spaces" / "digits.yaml").read_text(encoding="utf-8").rstrip(),
        "```",
        "",
        "`search_spaces/` also has DeiT-S and Swin-T on ImageNet, a ViT-Ti on CIFAR-10, and fine-tuning of a pretrained ViT-B "
        "on a folder of images. Each says in its head what it costs. All are planned in the tests; none of them was run by us.",
    ]
    return "\n".join(lines) + "\n"


def sections(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, type[BaseModel], str]]:
    """Every pydantic class inside another, with where its fields stand."""
    yield prefix.rstrip("."), model, prefix
    for name, field in model.model_fields.items():
        inner = inner_model(field)
        if inner is not None:
            yield from sections(inner, f"{prefix}{name}.")


def inner_model(field: FieldInfo) -> type[BaseModel] | None:
    """The pydantic class of a field, if it is one."""
    found = field.annotation
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


def docstrings(model: type[BaseModel]) -> dict[str, str]:
    """What stands below each field, of the class and those it inherits from."""
    found: dict[str, str] = {}
    for each in reversed(model.__mro__):
        if each is BaseModel or not issubclass(each, BaseModel) or not each.__module__.startswith("explorer"):
            continue
        parsed = parsed_module(each.__module__)[each.__name__]
        found |= {name: one.docstring.value for name, one in parsed.attributes.items() if one.docstring}
    return found


@lru_cache
def parsed_module(name: str) -> Any:
    """The module as griffe reads it, without importing."""
    return load(name, search_paths=[str(ROOT)])


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


def cell(text: str) -> str:
    """Text of several lines in one cell of a table."""
    words = " ".join(text.split()).replace("|", "\\|")
    return re.sub(r"(`[^`]*`)|<", lambda found: found[1] or "&lt;", words)  # not within code, where it stands for itself
