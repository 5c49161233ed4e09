"""The teacher of a distillation: a frozen timm model, whose outputs are part of the training loss (DeiT, arXiv 2012.12877)."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import timm
import torch
from timm.task import DistillationTeacher
from torch import Tensor, nn
from torch.nn import functional

from explorer.cost import StepFlops, count_forward
from explorer.errors import InvalidInput
from explorer.paths import expanded
from explorer.spec.objective import Teacher

# Shapes: B batch, C channels, H height, W width, K classes

FIELD = "objective.teacher"
COUNTED_IMAGES = 2


def with_digest(teacher: Teacher) -> Teacher:
    """The teacher with the digest of its weights' file, to which keys of trainings and checkpoints are tied.

    Raises:
        InvalidInput: when the file cannot be read, or has another digest than the one given.
    """
    if teacher.weights is None:
        if teacher.sha256 is not None:
            raise InvalidInput(f"{FIELD}.sha256", teacher.sha256, "is the digest of a file, and there is none (weights)")
        return teacher
    path = Path(expanded(teacher.weights, f"{FIELD}.weights"))
    try:
        stat = path.stat()
        digest = _digest(path, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise InvalidInput(f"{FIELD}.weights", teacher.weights, f"cannot be read: {error.strerror or error}") from None
    if teacher.sha256 not in (None, digest):
        raise InvalidInput(f"{FIELD}.sha256", teacher.sha256, f"{teacher.weights} has the digest {digest}")
    return teacher.model_copy(update={"sha256": digest})


@lru_cache(maxsize=8)
def _digest(path: Path, size: int, modified: int) -> str:  # noqa: ARG001 (another file has another size or time)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class TeacherModel:
    """A teacher that is built when it is first asked, once per device and process. It is no part of the training's state.

    Args:
        spec: of the teacher.
        classes: K.
        image_shape_CHW: shape of full images.
        normalization: mean and standard deviation of the images' channels; `None` if they are unknown. Images are then given to
            the teacher as they are, as they are to a teacher with weights from a file.

    Raises:
        InvalidInput: when timm does not build the model for such images and classes.
    """

    def __init__(
        self,
        spec: Teacher,
        classes: int,
        image_shape_CHW: tuple[int, int, int],
        normalization: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
    ) -> None:
        self.spec, self._classes, self._shape = spec, classes, image_shape_CHW
        self._normalization = normalization if spec.weights is None else None
        self.cost = _image_cost(self._key)
        """Cost of its forward pass per image: FLOPs and multiply-adds."""

    def check(self) -> None:
        """Check that its weights can be loaded, and that it gives finite outputs.

        Raises:
            InvalidInput: when they cannot, or it does not.
        """
        if not self(torch.zeros(1, *self._shape)).isfinite().all():
            raise InvalidInput(f"{FIELD}.model", self.spec.model, "has outputs that are not finite")

    @property
    def _key(self) -> _Key:
        return _Key(self.spec, self._classes, self._shape)

    @torch.no_grad()
    def __call__(self, images_BCHW: Tensor) -> Tensor:
        """Its outputs (B, K). It always sees full images: those that a stage has made smaller are enlarged."""
        teacher = _on_device(self._key, images_BCHW.device)
        if images_BCHW.shape[1:] != self._shape:
            images_BCHW = functional.interpolate(images_BCHW, self._shape[1:], mode="bilinear", antialias=True)
        if self._normalization is not None:
            mean, std = (torch.tensor(each, device=images_BCHW.device).view(1, -1, 1, 1) for each in self._normalization)
            images_BCHW = teacher.normalize_input(images_BCHW, mean, std)
        outputs_BK: Tensor = teacher(images_BCHW)
        return outputs_BK


def distillation_loss(outputs_BK: Tensor, of_teacher_BK: Tensor, spec: Teacher) -> Tensor:
    """What is learned of a teacher: cross entropy with its classes (`hard`), or the divergence from its probabilities (`soft`:
    Hinton et al. 2015, as in `timm.task.LogitDistillationTask`)."""
    if spec.kind == "hard":
        return functional.cross_entropy(outputs_BK, of_teacher_BK.argmax(dim=1))
    student_BK = functional.log_softmax(outputs_BK.float() / spec.temperature, dim=1)
    teacher_BK = functional.log_softmax(of_teacher_BK.float() / spec.temperature, dim=1)
    return functional.kl_div(student_BK, teacher_BK, reduction="batchmean", log_target=True) * spec.temperature**2


class _Key:
    """What a teacher is built from; hashable, although options may be lists."""

    def __init__(self, spec: Teacher, classes: int, shape_CHW: tuple[int, int, int]) -> None:
        self.spec, self.classes, self.shape_CHW = spec, classes, shape_CHW
        self._identity = (spec.model_dump_json(include={"model", "weights", "options", "sha256"}), classes, shape_CHW)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)


@lru_cache(maxsize=2)
def _on_device(key: _Key, device: torch.device) -> DistillationTeacher:
    with torch.random.fork_rng(devices=[]):  # a training draws the same numbers whether the teacher was there already or not
        model = _built(key, pretrained=key.spec.weights is None)
    if key.spec.weights is not None:
        path = expanded(key.spec.weights, f"{FIELD}.weights")
        try:
            model.load_state_dict(timm.models.load_state_dict(path, weights_only=True))
        except Exception as error:  # of torch, safetensors, and the model's
            reason = f"is no file of weights of {key.spec.model} with {key.classes} classes: {error}"
            raise InvalidInput(f"{FIELD}.weights", key.spec.weights, reason) from None
    return DistillationTeacher(model.to(device).eval().requires_grad_(False), device=device)


@lru_cache(maxsize=8)
def _image_cost(key: _Key) -> StepFlops:
    """Cost of the forward pass per image, counted on the meta device."""
    with torch.device("meta"):
        model = _built(key, pretrained=False).eval()
    try:
        counted = count_forward(model, (COUNTED_IMAGES, *key.shape_CHW))
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = f"cannot process images of shape {key.shape_CHW}: {error}"
        raise InvalidInput(f"{FIELD}.model", key.spec.model, reason) from None
    return StepFlops(*(count // COUNTED_IMAGES for count in counted))


def _built(key: _Key, *, pretrained: bool) -> nn.Module:
    spec = key.spec
    if not timm.is_model(spec.model):
        raise InvalidInput(f"{FIELD}.model", spec.model, f"timm {timm.__version__} has no such model")
    arguments: dict[str, Any] = {"in_chans": key.shape_CHW[0], "img_size": key.shape_CHW[1], **spec.options}
    if spec.weights is not None:
        arguments["num_classes"] = key.classes  # pretrained weights of another number would lose their classifier
    try:
        try:
            model = timm.create_model(spec.model, pretrained=pretrained, **arguments)
        except TypeError as error:
            if "img_size" not in str(error) or "img_size" in spec.options:
                raise
            del arguments["img_size"]
            model = timm.create_model(spec.model, pretrained=pretrained, **arguments)
    except Exception as error:  # timm checks by assertions and signatures, and downloads
        raise InvalidInput(f"{FIELD}.model", spec.model, f"cannot be built: {type(error).__name__}: {error}") from None
    if model.num_classes != key.classes:
        reason = f"has {model.num_classes} classes, and the data {key.classes}; set {FIELD}.weights to a file of its weights"
        raise InvalidInput(f"{FIELD}.model", spec.model, reason)
    return model
