"""The reference page of the Python package, from its docstrings."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from _reference_commands import cell
from griffe import Class, DocstringSectionKind, Function, Module, load

ROOT = Path(__file__).parents[1]
SECTIONS: dict[str, dict[str, tuple[str, ...] | None]] = {
    "Sweeps": {
        "explorer.SearchSpace": ("load", "trials_at"),
        "explorer.search.checks.check_space": None,
        "explorer.Sweep": None,
    },
    "Schedules and budgets": {
        "explorer.Schedule": None,
        "explorer.Stage": None,
        "explorer.Rates": None,
        "explorer.spec.provenance.Provenance": None,
        "explorer.Budget": None,
        "explorer.spec.lr_schedule.LearningRateSchedule": None,
    },
    "Plans": {
        "explorer.compile_plan": None,
        "explorer.Plan": None,
        "explorer.Segment": None,
        "explorer.StepCost": None,
    },
    "Training with a schedule": {
        "explorer.StagedTraining": None,
        "explorer.production.export": None,
        "explorer.production.check_export": None,
        "explorer.production.ExportedModel": None,
        "explorer.production.lightning_callback.StagedTrainingCallback": (),
        "explorer.production.transformers_callback.StagedTrainingCallback": ("steps_for",),
    },
    "Reading a finished sweep": {
        "explorer.ledger.Ledger": ("exists", "header", "records"),
        "explorer.ledger.Record": None,
        "explorer.ledger.Trial": None,
        "explorer.ledger.OtherTrial": None,
        "explorer.ledger.Outcome": None,
        "explorer.frontier.trials_frame": None,
        "explorer.frontier.candidates": None,
        "explorer.frontier.best_by_budget": None,
        "explorer.frontier.best_schedule": None,
        "explorer.frontier.MetricCurve": None,
        "explorer.frontier.PredictedCurve": ("through", "reach", "weights", "at"),
        "explorer.spec.provenance.PredictedAccuracy": None,
        "explorer.frontier.non_dominated": None,
        "explorer.frontier.hypervolume": None,
        "explorer.frontier.knee": None,
        "explorer.report.page.write_report": None,
    },
    "Errors": {"explorer.InvalidInput": ()},
}
"""For each section of the page the objects, by the path to import them from, and their members to show: `None` shows all."""
MAX_SIGNATURE = 100


@cache
def parsed_package() -> Any:
    """The package as griffe reads it, without importing."""
    return load("explorer", search_paths=[str(ROOT)], docstring_parser="google", resolve_aliases=True)


def python_package() -> str:
    """A section for each group of objects."""
    package = parsed_package()
    lines = [
        "# Python",
        "",
        "Schedules, budgets, plans and search spaces need no torch; `explorer.frontier` and `explorer.report` need neither "
        "torch nor ray.",
    ]
    for title, objects in SECTIONS.items():
        lines += ["", f"## {title}"]
        for path, members in objects.items():
            lines += documented(package, path, members)
    return "\n".join(lines) + "\n"


def documented(package: Module, path: str, members: tuple[str, ...] | None) -> Iterator[str]:
    """An object, and its public members."""
    target: Any = package[path.removeprefix("explorer.")]
    found = target.final_target if target.is_alias else target
    module, _, name = path.rpartition(".")
    yield from ("", f"### {name}", "", "```text", f"from {module} import {name}")
    if isinstance(found, Function):
        yield from (*signature(found, name), "```", *docstring(found))
        return
    constructor = found.members.get("__init__")
    if isinstance(constructor, Function) and constructor.parameters and takes_arguments(found):
        yield from signature(constructor, name)
    yield from ("```", *docstring(found))
    public = {key: one for key, one in found.members.items() if not key.startswith("_") and key != "model_config"}
    shown = {key: one for key, one in public.items() if members is None or key in members}
    attributes = {key: one for key, one in shown.items() if one.is_attribute and (one.docstring or one.annotation)}
    if attributes:
        yield from ("", "| attribute | what it is |", "| --- | --- |")
        for key, one in attributes.items():
            kind = cell(str(one.annotation)) if one.annotation else ""
            yield f"| `{key}`{f'<br>`{kind}`' if kind else ''} | {cell(one.docstring.value) if one.docstring else ''} |"
    for key, one in shown.items():
        if isinstance(one, Function) and one.docstring:
            yield from ("", f"#### {name}.{key}", "", "```text", *signature(one, f"{name}.{key}"), "```", *docstring(one))


def takes_arguments(found: Class) -> bool:
    """Whether the docstring of a class explains arguments; otherwise its attributes are what there is to know."""
    sections = found.docstring.parsed if found.docstring else []
    return any(section.kind is DocstringSectionKind.parameters for section in sections)


def signature(function: Function, name: str) -> list[str]:
    """The call with types and defaults, on one line or with a line for each parameter."""
    parts = []
    star = False
    for parameter in function.parameters:
        if parameter.name in ("self", "cls"):
            continue
        kind = parameter.kind.value if parameter.kind else ""
        if kind == "keyword-only" and not star:
            parts.append("*")
        star = star or kind in ("keyword-only", "variadic positional")
        prefix = {"variadic positional": "*", "variadic keyword": "**"}.get(kind, "")
        text = prefix + parameter.name + (f": {parameter.annotation}" if parameter.annotation else "")
        parts.append(text + (f" = {parameter.default}" if parameter.default is not None and not prefix else ""))
    returned = f" -> {function.returns}" if function.returns and function.name != "__init__" else ""
    line = f"{name}({', '.join(parts)}){returned}"
    return [line] if len(line) <= MAX_SIGNATURE else [f"{name}(", *(f"    {part}," for part in parts), f"){returned}"]


def docstring(found: Any) -> Iterator[str]:
    """The text, arguments, results and errors of an object."""
    titles = {DocstringSectionKind.parameters: "Arguments", DocstringSectionKind.raises: "Raises"}
    for section in found.docstring.parsed if found.docstring else ():
        if section.kind is DocstringSectionKind.text:
            yield from ("", section.value)
        elif section.kind in titles:
            yield from ("", f"{titles[section.kind]}:", "")
            for one in section.value:
                label = one.name if section.kind is DocstringSectionKind.parameters else str(one.annotation)
                yield f"- `{label}`: {' '.join(one.description.split())}"
        elif section.kind is DocstringSectionKind.returns:
            text = " ".join(" ".join(one.description.split()) for one in section.value)
            yield from ("", f"Returns: {text}")
        elif section.kind is DocstringSectionKind.examples:
            yield from ("", *(str(value) for _, value in section.value))
