"""Models that timm does not have: `package.module:name` is a class or function that builds one.

The classes of transformers are built from their configuration, and those of torchvision get the names of arguments that they
have. Any other is called as timm calls its functions: `build(img_size=..., in_chans=..., num_classes=..., **options)`.
"""

from __future__ import annotations

import difflib
from typing import Any

from torch import Tensor, nn

from explorer.errors import InvalidInput
from explorer.references import load_reference

RGB = 3


def build_referenced(reference: str, arguments: dict[str, Any]) -> nn.Module:
    """Build a model; its forward pass returns class scores, (B, K).

    Args:
        reference: `package.module:name`.
        arguments: `img_size`, `in_chans`, `num_classes`, and the options of the model.

    Raises:
        InvalidInput: when there is no such object, or it does not build a model.
        TypeError: when it does not have an argument.
    """
    factory = load_reference(reference, "model.name")
    given = {name: value for name, value in arguments.items() if name != "model_name"}
    origin = getattr(factory, "__module__", "").partition(".")[0]
    if isinstance(factory, type) and origin == "transformers" and hasattr(factory, "config_class"):
        return _of_transformers(factory, given)
    if origin == "torchvision":
        return _of_torchvision(reference, factory, given)
    if not callable(factory):
        raise InvalidInput("model.name", reference, "must be a class or function that builds a model")
    model = factory(**given)
    if not isinstance(model, nn.Module):
        raise InvalidInput("model.name", reference, f"must build a torch.nn.Module, and returns {type(model).__name__}")
    return model


def _of_transformers(model_class: Any, given: dict[str, Any]) -> nn.Module:
    """A classifier from the configuration of its class, with random weights; its output is reduced to the scores."""
    names = {"img_size": "image_size", "in_chans": "num_channels", "num_classes": "num_labels"}
    options = {names.get(name, name): value for name, value in given.items()}
    known = model_class.config_class()
    for name in options:  # which its configuration would keep without a word, whatever it is
        if not hasattr(known, name):
            near = difflib.get_close_matches(name, known.to_dict(), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InvalidInput(f"model.options.{name}", options[name], f"{type(known).__name__} has no such value{hint}")
    model: nn.Module = model_class(model_class.config_class(**options))
    model.register_forward_hook(_scores)
    return model


def _of_torchvision(reference: str, factory: Any, given: dict[str, Any]) -> nn.Module:
    options = {name: value for name, value in given.items() if name not in ("img_size", "in_chans")}
    if given["in_chans"] != RGB:
        reason = f"torchvision's models take images of {RGB} channels, and those of this data have {given['in_chans']}"
        raise InvalidInput("model.name", reference, reason)
    takes_size = "vit" in factory.__name__.lower() or factory.__name__ == "VisionTransformer"
    size = {"image_size": given["img_size"]} if takes_size and "img_size" in given else {}
    model: nn.Module = factory(**size, **options)
    return model


def _scores(_: nn.Module, _arguments: tuple[Any, ...], output: Any) -> Tensor:
    """Forward hook: the class scores of an output of transformers."""
    scores: Tensor = output.logits
    return scores
