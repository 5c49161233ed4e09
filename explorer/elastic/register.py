"""Model families that live outside this package: layouts of their modules, and how their models reduce depth and tokens.

The built-in families are rows of the same tables. `examples/extending/model_family.py` is a complete example, and
`explorer.elastic.testing` has the checks that every family must pass.
"""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from explorer.elastic.depth import OTHER_BRANCHES, STACKS
from explorer.elastic.image_resizing import RESIZING_SUPPORT, ResizingSupport
from explorer.elastic.layout import Layout, Row
from explorer.elastic.layouts import LAYOUTS, WHOLE
from explorer.elastic.pattern import parse
from explorer.elastic.token_dropping import DROP_LOCATIONS, DropLocation
from explorer.errors import InvalidInput

R = TypeVar("R")


def register_layout(module_class: type[nn.Module], layout: Row) -> None:
    """Say how modules of a class are resized. Subclasses of it need a layout of their own.

    Registering the same layout again has no effect.

    Args:
        module_class: an attention or MLP class.
        layout: its layout, or a function that makes the layout from a module.

    Raises:
        InvalidInput: if the class already has another layout or keeps its full size; if a pattern cannot be parsed; if
            `layout.narrow` is not a subclass of `module_class`.
    """
    _check_class("register_layout", module_class)
    if module_class in WHOLE:
        raise InvalidInput("register_layout", _name(module_class), "keeps its full size (register_whole), so it has no layout")
    if isinstance(layout, Layout):
        _check_layout(module_class, layout)
    elif not callable(layout):
        raise InvalidInput("register_layout", layout, "must be a Layout or a function that makes one from a module")
    _add("register_layout", "layout", LAYOUTS, module_class, layout)


def register_whole(module_class: type[nn.Module]) -> None:
    """Say that modules of a class and its subclasses keep their full size, with everything inside them.

    Raises:
        InvalidInput: if the class has a layout.
    """
    _check_class("register_whole", module_class)
    if module_class in LAYOUTS:
        raise InvalidInput("register_whole", _name(module_class), "has a layout (register_layout), so it is resized")
    if module_class not in WHOLE:
        WHOLE.append(module_class)


def register_model(
    model_class: type[nn.Module],
    *,
    blocks: str | None = None,
    other_branches: bool = False,
    token_dropping: DropLocation | None = None,
    image_resizing: ResizingSupport | None = None,
) -> None:
    """Say how models of a class and its subclasses reduce their depth and their number of tokens.

    Registering the same values again has no effect.

    Args:
        model_class: class of a complete model. Subclasses of timm's classes inherit their entries.
        blocks: path of its stack of blocks, if its forward pass runs them in order and all have the same width.
        other_branches: whether a block still adds something to the residual stream when the outputs of its attention and its
            MLP are zero: it has other branches, or norms after these two. Growth that keeps the output of the model is then
            refused for fewer blocks.
        token_dropping: where random tokens can be dropped.
        image_resizing: how it accepts smaller images.

    Raises:
        InvalidInput: if another value is already registered for the class.
    """
    _check_class("register_model", model_class)
    if blocks is not None:
        _add("register_model", "stack of blocks", STACKS, model_class, blocks)
    if other_branches and model_class not in OTHER_BRANCHES:
        OTHER_BRANCHES.append(model_class)
    if token_dropping is not None:
        _add("register_model", "location to drop tokens", DROP_LOCATIONS, model_class, token_dropping)
    if image_resizing is not None:
        _add("register_model", "way to resize images", RESIZING_SUPPORT, model_class, image_resizing)


def _add(function: str, what: str, table: dict[type[nn.Module], R], kind: type[nn.Module], value: R) -> None:
    if kind in table and table[kind] != value:
        raise InvalidInput(function, _name(kind), f"already has another {what}; a class can have only one")
    table[kind] = value


def _check_class(function: str, kind: object) -> None:
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise InvalidInput(function, kind, "must be a subclass of torch.nn.Module")


def _check_layout(module_class: type[nn.Module], layout: Layout) -> None:
    for path, pattern in layout.tensors.items():
        try:
            parse(pattern)
        except ValueError as error:
            raise InvalidInput(f"register_layout: {_name(module_class)}.{path}", pattern, str(error)) from None
    if layout.narrow is not None and not issubclass(layout.narrow, module_class):
        allowed = f"must be a subclass of {_name(module_class)}"
        raise InvalidInput("register_layout: narrow", _name(layout.narrow), allowed)


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
