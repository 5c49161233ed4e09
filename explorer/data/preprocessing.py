"""timm's preprocessing for a model: the size and range of pixels that it was trained on."""

from __future__ import annotations

from typing import Any

from timm.data import resolve_data_config
from timm.models import resolve_model_input_args

from explorer.errors import InvalidInput
from explorer.paths import expanded
from explorer.references import is_reference
from explorer.spec.data import Preprocessing
from explorer.spec.model import ModelSpec

LOCAL = "local-dir:"
"""Prefix of model names that are folders with a `config.json`."""
CONFIGURATIONS = ("pretrained_cfg", "pretrained_cfg_overlay")
"""Keyword arguments of `timm.create_model` that replace the model's configuration or parts of it."""


def timm_name(model: ModelSpec) -> str:
    """The model's name as timm takes it: `~` and variables in the folder of a `local-dir:` name are replaced.

    Raises:
        InvalidInput: when a variable is not set.
    """
    if model.name.startswith(LOCAL):
        return LOCAL + expanded(model.name.removeprefix(LOCAL), "model.name")
    return model.name


def timm_options(model: ModelSpec) -> dict[str, Any]:
    """The model's options as timm takes them: `~` and variables in the file of pretrained weights are replaced.

    They are those of the task's JSON form, in which lists stand for tuples: `result.json` and other processes build the model
    from it.

    Raises:
        InvalidInput: when a variable is not set.
    """
    options: dict[str, Any] = model.model_dump(mode="json")["options"]
    for name in CONFIGURATIONS:
        if isinstance(configuration := options.get(name), dict) and isinstance(configuration.get("file"), str):
            configuration["file"] = expanded(configuration["file"], f"model.options.{name}.file")
    return options


def model_configuration(model: ModelSpec) -> dict[str, Any]:
    """What the model's own configuration (timm's `pretrained_cfg`) says, as `timm.create_model` will find it.

    It may come from the name, with or without a tag, from a folder or the Hugging Face hub (`local-dir:`, `hf-hub:`), and from
    the options `pretrained_cfg` and `pretrained_cfg_overlay`.

    Raises:
        InvalidInput: when there is no such configuration.
    """
    if is_reference(model.name):  # it is not timm's, and has none
        return {}
    options = timm_options(model)
    given = {name: options[name] for name in CONFIGURATIONS if name in options}
    try:
        configuration: dict[str, Any] = resolve_model_input_args(timm_name(model), **given)["pretrained_cfg"]
    except InvalidInput:
        raise
    except Exception as error:  # of timm, its configuration class, the file system or the network
        field, value = ("model.options", given) if given else ("model.name", model.name)
        raise InvalidInput(field, value, f"timm finds no configuration: {error}") from None
    return configuration


def preprocessing_for(preprocessing: Preprocessing, model: ModelSpec) -> Preprocessing:
    """Replace values that are `None` by those of the model's own configuration, or timm's defaults where it has none.

    Raises:
        InvalidInput: when there is no such configuration, or it cannot be used.
    """
    configuration = model_configuration(model)
    given = preprocessing.model_dump(exclude_none=True, exclude={"mean", "std"}) | {"in_chans": 3}
    try:
        resolved = resolve_data_config(given, configuration)
        for name in ("mean", "std"):  # one value, of models of grayscale images, is that of each channel
            own = tuple(resolved[name]) * (3 if len(resolved[name]) == 1 else 1)
            resolved[name] = getattr(preprocessing, name) or own  # as many as the images have channels
        return Preprocessing(**{field: resolved[field] for field in Preprocessing.model_fields})
    except (AssertionError, TypeError, ValueError) as error:
        reason = f"its configuration in timm cannot be used for RGB images: {error}; set data.preprocessing"
        raise InvalidInput("model.name", model.name, reason) from None
