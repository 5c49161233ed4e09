"""The folder that any training with `StagedTraining` hands over: written, opened again with timm, and measured."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from torch import nn

from explorer.data.source import TargetKind
from explorer.errors import InvalidInput
from explorer.files import write_file
from explorer.production.export_card import PLAN, export_card
from explorer.production.exported_model import HandedOver, handed_over
from explorer.production.loader_measurement import check_loader, measured_with
from explorer.production.measured import MeasuredMetric
from explorer.production.model_folder import CARD, CONFIG, ModelFolder, without_shared_storage, write_weights_and_config
from explorer.production.staged_training import StagedTraining
from explorer.spec.data import Preprocessing
from explorer.spec.metric import ACCURACY
from explorer.training.distributed import Processes
from explorer.training.metrics import Measure


@dataclass(frozen=True, kw_only=True)
class ExportedModel:
    """A model that was handed over."""

    folder: Path
    """What `timm.create_model("local-dir:FOLDER", pretrained=True)` opens."""
    measured: MeasuredMetric | None
    """What was measured on the folder: `measured.value` on `measured.images` images. `None` without a loader."""


def check_export(
    model: nn.Module,
    staged: StagedTraining | None,
    folder: str | Path,
    *,
    class_names: Sequence[str],
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
) -> None:
    """Check before training that `export` will be able to hand the model over; the arguments are its own.

    Raises:
        InvalidInput: as `export`, for all that is known without a trained model.
    """
    over = handed_over(model, staged, class_names, preprocessing)
    assert staged is not None
    with staged.at_full_size(), tempfile.TemporaryDirectory() as temporary, _timm_messages(over, Path(temporary)):
        write_file(Path(temporary) / CONFIG, json.dumps(over.config))
        shapes = {name: tuple(tensor.shape) for name, tensor in over.model.state_dict().items()}
        ModelFolder(Path(temporary)).check_tensors(shapes, "tensor")
    if _is_main():
        _check_folder(Path(folder), staged.plan.digest())


def export(
    model: nn.Module,
    staged: StagedTraining | None,
    folder: str | Path,
    *,
    class_names: Sequence[str],
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    loader: Iterable[Any] | None = None,
    split: str = "test",
    data: str | None = None,
    targets: TargetKind = "class",
    metric: str = ACCURACY.name,
) -> ExportedModel | None:
    """Hand the trained model over, as `explorer train` does: a folder that plain timm opens, with a model card.

        exported = export(model, staged, "runs/flowers", class_names=images.classes, loader=test_loader)
        print(exported.measured.value)

    The folder holds the full model, whatever the stage, and training does not see that it was written. It is opened again with
    timm and must return the outputs of the model; what is measured is measured on it, in float32. Only then does the folder
    appear under its name, complete, and in place of an earlier export of the same plan. An export that fails leaves nothing.

    With several processes, all of them or the main one alone may call this: the main process (rank 0) writes and measures, and
    the others return at once.

    Args:
        model: the model of the staged training, or its average (`ema`); each may be wrapped (DistributedDataParallel,
            `torch.compile`, a LightningModule, a model of transformers, a module of your own around it, ModelEmaV3).
        staged: the training; that of a callback is `callback.training`.
        folder: where; a new or empty folder, or one that an export of this plan wrote.
        class_names: names of the classes in the order of the model's outputs.
        preprocessing: `mean`, `std`, `interpolation`, `crop_pct` and `crop_mode` that images are evaluated with, as
            `timm.data.resolve_model_data_config` returns them. What is missing is taken from the model's `pretrained_cfg`; a
            warning and the card say that this was assumed.
        loader: all test images, as your pipeline prepares them: batches of images (B, C, H, W) and targets, as pairs or as
            mappings with `pixel_values` and `labels`. `None` measures nothing, and the card says so.
        split: what the card calls these images, such as `validation`.
        data: name of the data set for the card; `None` if it is not to be named.
        targets: what each image is given: one class (B,), any number of classes (B, K), or values (B, K).
        metric: as `objective.metric` of a task.

    Returns:
        The folder and what was measured; `None` in other processes than the main one.

    Raises:
        InvalidInput: when timm cannot open the model from a folder, or what it opens has other outputs; when the model is not
            that of the training; for names or images that do not fit; and for a folder with anything else in it.
    """
    over = handed_over(model, staged, class_names, preprocessing)
    assert staged is not None
    measure = None
    if loader is not None:
        measure = Measure(metric, {}, targets, len(class_names), None, "metric")
        check_loader(loader)
    if not _is_main():
        return None
    folder = Path(folder)
    _check_folder(folder, staged.plan.digest())
    with staged.at_full_size(), _new_folder(folder) as temporary:
        tensors = without_shared_storage({name: tensor.detach() for name, tensor in over.model.state_dict().items()})
        with _writing(folder):
            write_weights_and_config(temporary, over.config, tensors)
        with _timm_messages(over, temporary):
            opened = ModelFolder(temporary).load_model()
        measured = measured_with(opened, over, measure, targets, loader)
        name = measure.metric if measure is not None else None
        card = export_card(over, staged, measured=measured, metric=name, split=split, data=data, kind=targets)
        with _writing(folder):
            write_file(temporary / CARD, card)
    _warn(over, staged)
    return ExportedModel(folder=folder, measured=measured)


def _is_main() -> bool:
    """Whether this process writes. Where the process group has ended already, torchrun's variable says so."""
    processes = Processes.here()
    return processes.is_main and (processes.count > 1 or os.environ.get("RANK", "0") == "0")


def _check_folder(folder: Path, plan: str) -> None:
    """Check that nothing in a folder would be lost, or handed over by mistake."""
    if folder.exists() and not folder.is_dir():
        raise InvalidInput("folder", str(folder), "must be a folder")
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / CARD).is_file() or _plan_in_card(folder / CARD) != plan:
        other = "holds another model" if (folder / CONFIG).is_file() else "holds other files"
        reason = f"{other}: give a new or empty folder, or one that an export of this plan wrote"
        raise InvalidInput("folder", str(folder), reason)


def _plan_in_card(path: Path) -> object:
    """The digest of the plan that a card names, if it is a card that names one."""
    try:
        return ModelCard(path.read_text(encoding="utf-8")).data.to_dict().get(PLAN)
    except Exception:  # of the file system, the encoding, YAML, or the hub's check of its metadata: not one of ours
        return None


def _warn(over: HandedOver, staged: StagedTraining) -> None:
    """Say what was assumed and left out, and that training ended early."""
    name = over.config["architecture"]
    if over.assumed:
        values = over.inputs.preprocessing.model_dump() if over.inputs.preprocessing else {}
        shown = ", ".join(f"{field} {values[field]}" for field in over.assumed)
        text = f"preprocessing of {name} was assumed to be that of its pretrained_cfg: {shown}; give export(preprocessing=...)"
        warnings.warn(text, stacklevel=3)
    if over.left_out:
        first, count = over.left_out[0], len(over.left_out)
        text = f"{count} parameters outside of the timm model are not handed over, for example {first}"
        warnings.warn(text, stacklevel=3)
    if not staged.done:
        text = f"the model that is handed over has {staged.begun} of the {staged.plan.steps} steps of its schedule"
        warnings.warn(text, stacklevel=3)


@contextmanager
def _timm_messages(over: HandedOver, temporary: Path) -> Iterator[None]:
    """Let what is refused of the written folder name the model, which the user has, and not the folder."""
    try:
        yield
    except InvalidInput as error:
        problem = str(error).replace(f"{temporary}{os.sep}", "")
        reason = f"timm cannot open it from a folder, as timm.create_model built it: {problem}"
        raise InvalidInput("model", over.config["architecture"], reason) from None


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A new folder beside another, which takes its place when the context ends without an exception."""
    target = folder.resolve()  # of a link
    temporary = target.with_name(f"{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        with _writing(folder):
            temporary.mkdir(parents=True)
        yield temporary
        with _writing(folder):
            _replace(target, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace(target: Path, complete: Path) -> None:
    """Let a complete folder take the place of another. Files of the user's beside an earlier export stay."""
    if target.is_dir() and any(target.iterdir()):
        (target / CARD).unlink()  # a folder without a card is not complete
        for path in sorted(complete.iterdir(), key=lambda path: path.name == CARD):  # the card last
            path.replace(target / path.name)
        return
    if target.is_dir():
        target.rmdir()
    complete.rename(target)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn errors of the file system into one line."""
    try:
        yield
    except OSError as error:
        raise InvalidInput("folder", str(folder), f"cannot be written: {error}") from None
