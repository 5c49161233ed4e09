"""A trained model as a folder that plain timm opens offline, in the format of the Hugging Face hub: writing and reading.

`timm.create_model("local-dir:PATH", pretrained=True)` opens one. Whoever reads a folder here may not know who wrote it: only
JSON, YAML and safetensors are read, and only architectures that timm itself has are built.
"""

from __future__ import annotations

import inspect
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import timm
import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from timm.models._hub import save_config_for_hf
from torch import Tensor, nn

from explorer.console import printable
from explorer.errors import InvalidInput, validated
from explorer.files import write_file
from explorer.references import is_reference
from explorer.spec.base import read_mapping
from explorer.spec.data import Preprocessing
from explorer.spec.model_input import ModelInput
from explorer.training.architecture import create_model
from explorer.training.task import Task
from explorer.training.tensor_shapes import early_stage_clause, first_different_tensor

MODEL = "model"
"""Name of the folder within that of a training run. The run's folder has a checkpoint (a pickle) and logs beside it, which are
not handed over."""
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
OTHER_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.npz")
"""Files of weights that are not read: loading some of them can execute code."""
OF_THE_SOURCE = ("tag", "license", "description", "origin_url", "paper_name", "paper_ids", "notes")
"""What timm says about the published weights of an architecture; it does not hold for weights that did not start from them."""
CENTERED = 0.5
"""Mean and standard deviation that take pixel values from [0, 1] to [-1, 1], as sources with rules of their own do."""
NOT_ARGUMENTS = frozenset(inspect.signature(timm.create_model).parameters) | {"features_only", "out_indices"}
"""Arguments of `timm.create_model` that are not those of an architecture; some of them would read other files."""


def write_model_folder(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor], card: str) -> None:
    """Write the configuration, the weights and the model card, each atomically and the card last.

    Args:
        folder: where; it is created if it does not exist.
        config: the content of `config.json`; see `timm_config`.
        tensors: the state of the full model, each with its own storage.
        card: the text of the model card.
    """
    (folder / CARD).unlink(missing_ok=True)  # one of an earlier model: it must not stand beside these weights
    write_weights_and_config(folder, config, tensors)
    write_file(folder / CARD, card)


def write_weights_and_config(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write the files that timm reads; the arguments are those of `write_model_folder`."""
    write_file(folder / WEIGHTS, to_safetensors(tensors, {"format": "pt"}))
    write_file(folder / CONFIG, json.dumps(config, indent=2) + "\n")


def remove_model_folder(folder: Path) -> bool:
    """Remove the files that `write_model_folder` writes, the card first, and the folder if nothing else is in it.

    Returns:
        Whether there was one of these files.
    """
    files = [folder / name for name in (CARD, CONFIG, WEIGHTS) if (folder / name).is_file()]
    for path in files:
        path.unlink()
    if files and not any(folder.iterdir()):
        folder.rmdir()
    return bool(files)


def without_shared_storage(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, each with its own storage, as safetensors requires: some models have one parameter under two names."""
    separate: dict[str, Tensor] = {}
    storages = set()
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage().data_ptr()
        shared = storage in storages
        separate[name] = tensor.clone(memory_format=torch.contiguous_format) if shared else tensor.contiguous()
        storages.add(storage)
    return separate


def timm_config(task: Task) -> dict[str, Any] | None:
    """The content of `config.json` for the model of a task; `None` for a model that timm could not open from it.

    Those are models of other libraries, and of the user's that were not built by timm's `build_model_with_cfg`.
    """
    with torch.device("meta"):  # as timm builds it: stages have resized the trained one
        model = create_model(task.spec.model, task.model_arguments())
    if is_reference(task.spec.model.name) or not hasattr(model, "pretrained_cfg"):
        return None
    # A file of weights (model.checkpoint) may be anybody's: their license is not known.
    return config_of(model, task.model_input, published=task.spec.model.pretrained)


def config_of(model: nn.Module, inputs: ModelInput, *, published: bool) -> dict[str, Any]:
    """The content of `config.json` as timm's own export writes it.

    Args:
        model: a timm model at full size.
        inputs: what the model must be given, and what its outputs mean.
        published: whether training started from the weights that timm has for this model, so that what timm says about them,
            such as their license, holds for the trained ones, too.

    Raises:
        ValueError: when timm cannot describe the model, or it has other channels or another size of images.
    """
    pixels: dict[str, Any] = {"interpolation": "bilinear", "crop_pct": 1.0, "crop_mode": "center"}
    pixels |= dict.fromkeys(("mean", "std"), (CENTERED,) * inputs.channels)
    if inputs.preprocessing:
        pixels |= inputs.preprocessing.model_dump(exclude_none=True)
    pixels["input_size"] = (inputs.channels, inputs.image_size, inputs.image_size)
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / CONFIG
        save_config_for_hf(model, str(path), model_config={"label_names": list(inputs.class_names)}, data_config=pixels)
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if not published:
        for name in OF_THE_SOURCE:
            config["pretrained_cfg"].pop(name, None)
    return config


class _PretrainedConfig(BaseModel):
    """The part of `config.json` that describes the images."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float
    crop_mode: str = "center"


class _Config(BaseModel):
    """What is read of `config.json`."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    architecture: str
    num_classes: int = Field(ge=1)
    label_names: tuple[str, ...]
    model_args: dict[str, Any] = {}
    pretrained_cfg: _PretrainedConfig


class ModelFolder:
    """A folder with a trained model, opened without trusting it.

    Args:
        folder: the folder.

    Raises:
        InvalidInput: when the folder or its `config.json` is missing or damaged, or timm has no such architecture.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, path = folder, folder / CONFIG
        if not folder.is_dir():
            raise InvalidInput("folder", str(folder), "there is no such folder")
        if not path.is_file():
            inner = f"; did you mean {folder / MODEL}?" if (folder / MODEL / CONFIG).is_file() else ""
            raise InvalidInput("folder", str(folder), f"has no {CONFIG}, as `explorer train` writes it into {MODEL}/{inner}")
        config = validated(_Config, read_mapping(path), str(path))
        self.architecture, self.arguments = config.architecture, config.model_args
        if not re.fullmatch(r"\w+", self.architecture) or not timm.is_model(self.architecture):
            reason = f"timm {timm.__version__} has no such model, and nothing else is built"
            raise InvalidInput(f"{path}: architecture", self.architecture, reason)
        for name in self.arguments:
            if name in NOT_ARGUMENTS or not name.isidentifier():
                raise InvalidInput(f"{path}: model_args", name, "is no argument of an architecture")
        self.model_input = _model_input(config, str(path))
        for name, value in (("num_classes", config.num_classes), ("in_chans", self.model_input.channels)):
            if self.arguments.get(name, value) != value:
                reason = f"must be {value}, as in the rest of the file"
                raise InvalidInput(f"{path}: model_args.{name}", self.arguments[name], reason)

    def load_model(self) -> nn.Module:
        """The model with its weights, on the CPU and in evaluation mode.

        Raises:
            InvalidInput: when the model cannot be built, or the weights are missing, damaged, or those of another architecture;
                it names the first tensor that differs.
        """
        self.check_tensors(self._shapes_in_file(), f"{self.folder / WEIGHTS}: tensor")
        model = self._built()
        model.load_state_dict(load_file(self.folder / WEIGHTS))
        return model.eval()

    def _built(self) -> nn.Module:
        given = {"num_classes": len(self.model_input.class_names), "in_chans": self.model_input.channels}
        try:
            return timm.create_model(self.architecture, pretrained=False, **{**self.arguments, **given})
        except Exception as error:  # timm's models fail in any way for arguments that they do not expect
            reason = f"timm refuses to build {self.architecture}: {printable(error)}"
            raise InvalidInput(f"{self.folder / CONFIG}: model_args", self.arguments, reason) from None

    def _shapes_in_file(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor of the file of weights."""
        path = self.folder / WEIGHTS
        if not path.is_file():
            others = sorted(other.name for pattern in OTHER_WEIGHTS for other in self.folder.glob(pattern))
            ignored = f"; {printable(others[0])} is not read: only safetensors cannot contain code" if others else ""
            raise InvalidInput(str(path), "missing", f"there is no such file{ignored}")
        try:
            with safe_open(path, "pt") as weights:
                return {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise InvalidInput(str(path), "damaged", f"must be a safetensors file: {printable(error)}") from None

    def check_tensors(self, shapes: dict[str, tuple[int, ...]], field: str) -> None:
        """Check that the model has the given tensors, and that it returns class scores. No weights are read.

        Args:
            shapes: the shape of each tensor.
            field: where they come from, for the message.

        Raises:
            InvalidInput: when the model cannot be built, its tensors differ, or it returns something else.
        """
        with torch.device("meta"):
            model = self._built().eval()
            expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
            if different := first_different_tensor(shapes, expected):
                where = f"{self.architecture} as {CONFIG} describes it"
                reason = f"{different.in_file} in the file, and {different.in_model} in {where}"
                reason += early_stage_clause(shapes, expected)
                raise InvalidInput(field, different.name, reason)
            size = self.model_input.image_size
            try:
                scores = model(torch.empty(1, self.model_input.channels, size, size))
                shape = tuple(scores.shape)
            except Exception as error:
                reason = f"{self.architecture} cannot process images of {size} pixels: {printable(error)}"
                raise InvalidInput(f"{self.folder / CONFIG}: pretrained_cfg.input_size", size, reason) from None
        if shape != (1, len(self.model_input.class_names)):
            reason = f"{self.architecture} returns {shape} for an image, not one score for each class"
            raise InvalidInput(f"{self.folder / CONFIG}: model_args", self.arguments, reason)


def _model_input(config: _Config, source: str) -> ModelInput:
    """What the model must be given, as the configuration says."""
    pixels = config.pretrained_cfg
    channels, height, width = pixels.input_size
    if min(channels, height) < 1 or height != width:
        raise InvalidInput(
            f"{source}: pretrained_cfg.input_size", pixels.input_size, "must be channels, and a square of pixels"
        )
    if len(config.label_names) != config.num_classes:
        reason = f"must be the names of the {config.num_classes} classes"
        raise InvalidInput(f"{source}: label_names", f"{len(config.label_names)} names", reason)
    preprocessing = None
    if channels == 3 or any(set(values) != {CENTERED} for values in (pixels.mean, pixels.std)):
        content = pixels.model_dump(exclude={"input_size"})
        content |= {name: content[name] * (channels if len(content[name]) == 1 else 1) for name in ("mean", "std")}
        preprocessing = validated(Preprocessing, content, f"{source}: pretrained_cfg")
    return ModelInput(class_names=config.label_names, image_size=height, channels=channels, preprocessing=preprocessing)
