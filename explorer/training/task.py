"""The task: model, data and recipe; everything about a training run but its schedule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer

from explorer.data import Batch, DataSource, TrainStream, map_style_data, open_data
from explorer.data.augmentation import check_transform, mix_batches
from explorer.data.drawing import check_drawing
from explorer.data.preprocessing import model_configuration, preprocessing_for
from explorer.data.source import HasSubsets, target_kind
from explorer.data.streamed import StreamedData
from explorer.elastic.step_cost import StepSize, UnsuitableImagesError
from explorer.errors import InvalidInput
from explorer.references import import_user_module
from explorer.segment import StepCost
from explorer.spec.applied_augmentation import SMALL_IMAGES, augmentation_as_applied, defaults_for_large_images
from explorer.spec.augmentation_strength import policy_magnitude
from explorer.spec.data import IN_MEMORY, DataSpec, Preprocessing
from explorer.spec.lr_schedule import LearningRateSchedule
from explorer.spec.model_input import ModelInput
from explorer.spec.rates import Rates
from explorer.spec.schedule import Schedule
from explorer.spec.staging import Growth
from explorer.spec.task import TaskSpec
from explorer.training.architecture import (
    Architecture,
    check_checkpoint,
    check_model_name,
    check_output,
    counted_model,
    create_model,
)
from explorer.training.distributed import SINGLE_PROCESS, Processes
from explorer.training.drop_path import has_drop_path
from explorer.training.frozen_parts import check_frozen_parts
from explorer.training.initial_weights import checkpoint_noted, fitted_weights
from explorer.training.objective import Objective
from explorer.training.optimizer_check import check_optimizer, check_optimizer_name
from explorer.training.parameter_groups import build_optimizer, check_layer_decay
from explorer.training.target_warnings import target_warnings
from explorer.training.teacher import with_digest

FULL_RATES = Rates()


MixedPrecision = Literal["bf16", "fp16"]
"""The lower precision of mixed precision."""


def autocast(device: torch.device, precision: MixedPrecision | None) -> torch.autocast:
    """Context in which a model runs on a device; `None` is float32 alone."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=precision is not None)


class Task:
    """A task with its data opened: what `compile_plan` and `train` take.

    Args:
        spec: the description. Its modules (`import`) are imported.
        data: the data itself, for training in this process, in place of what `spec.data.name` names: a data source, or
            map-style data sets by the names `train`, `validation` and `test`; without the last two, images are set aside.
            Other processes, those of a sweep included, can only open data by its name.

    Raises:
        InvalidInput: when a module cannot be imported, the data cannot be opened or has fewer images than a batch, or the
            recipe does not fit the data.
    """

    def __init__(self, spec: TaskSpec, data: DataSource | Mapping[str, Any] | None = None) -> None:
        self.spec, self._given = with_files_noted(spec), data
        spec = self.spec
        for module in spec.imports:
            import_user_module(module, "import", module)
        _check_names(spec)
        self._preprocessing = preprocessing_for(spec.data.preprocessing, spec.model)
        described = spec.data.model_copy(update={"preprocessing": self._preprocessing})
        opened = open_data(described) if data is None else _given_data(described, data)
        self.data: DataSource = self._with_backend(opened)
        if spec.data.preprocessing != Preprocessing() and "transform" not in self.data.supported_augmentations:
            given = spec.data.preprocessing.model_dump(exclude_none=True)
            raise InvalidInput("data.preprocessing", given, f"does not apply to {spec.data.name!r}; leave it out")
        recipe = spec.recipe
        if recipe.batch_size > self.data.train_images:
            raise InvalidInput(
                "recipe.batch_size", recipe.batch_size, f"must be at most the {self.data.train_images} training images"
            )
        if recipe.batch_size % recipe.accumulation:
            raise InvalidInput(
                "recipe.accumulation", recipe.accumulation, f"must divide the batch of {recipe.batch_size} images equally"
            )
        for name in ("shift", "flip", "transform"):
            given = getattr(recipe.augmentation, name)
            if given and name not in self.data.supported_augmentations:
                supported = ", ".join(self.data.supported_augmentations) or "nothing"
                reason = f"does not apply to {spec.data.name!r}, whose images are changed by {supported}"
                raise InvalidInput(f"recipe.augmentation.{name}", given, reason)
        if recipe.augmentation.mixes and recipe.batch_size % 2:
            raise InvalidInput("recipe.batch_size", recipe.batch_size, "must be even if images are mixed (mixup, cutmix)")
        self.objective = Objective(spec, self.data, self._normalization)
        """Loss and metrics."""
        self._architecture = Architecture(
            model=spec.model,
            channels=self.data.channels,
            classes=self.data.classes,
            image_size=self.data.image_size,
            staging=spec.staging,
        )

    @property
    def _normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Mean and standard deviation with which images are normalized; `None` where they are not of timm's transforms."""
        applied = self.preprocessing
        return None if applied is None or applied.mean is None or applied.std is None else (applied.mean, applied.std)

    def _with_backend(self, data: DataSource) -> DataSource:
        """The data for the recipe's backend, where settings that concern images on disk apply to it."""
        spec, augmentation = self.spec.data, self.spec.recipe.augmentation
        if isinstance(data, StreamedData):
            data.check_augmentation(augmentation)
            if augmentation.backend == "tensor":
                check_drawing(augmentation.transform, data.image_size, self._preprocessing.interpolation)
            return data.with_backend(augmentation.backend)
        given = {"data.cache": spec.cache, "data.resident": spec.resident, "recipe.augmentation.backend": augmentation.backend}
        unset = {"data.cache": None, "data.resident": "auto", "recipe.augmentation.backend": "pil"}
        for field, value in given.items():
            if value != unset[field]:
                shown = value if isinstance(value, str) else spec.model_dump()["cache"]
                raise InvalidInput(field, shown, f"does not apply to {spec.name!r}, which has no image files; leave it out")
        return data

    def with_spec(self, spec: TaskSpec) -> Task:
        """The task of another description, on the data that this one was given, if it was given any."""
        return Task(spec, self._given)

    @property
    def train_images(self) -> int:
        """Images in one epoch."""
        return self.data.train_images

    @property
    def epochs(self) -> float:
        """Length of full training in epochs."""
        return self.spec.recipe.epochs

    @property
    def batch_size(self) -> int:
        """Images per step."""
        return self.spec.recipe.batch_size

    @property
    def lr_schedule(self) -> LearningRateSchedule:
        """Learning-rate schedule over budget time."""
        return self.spec.recipe.lr_schedule

    @property
    def frozen_until(self) -> float:
        """Budget time until which parts of the model are frozen; 0 if none are."""
        frozen = self.spec.recipe.frozen
        return 0.0 if frozen is None else frozen.until

    def amp(self, device: torch.device) -> bool:
        """Whether training on a device is in mixed precision."""
        return self.precision(device) is not None

    def precision(self, device: torch.device) -> MixedPrecision | None:
        """The lower precision of training on a device; `None` without mixed precision."""
        wanted = self.spec.recipe.amp
        if wanted == "auto":
            return "bf16" if device.type == "cuda" else None
        return None if wanted == "off" else wanted

    def autocast(self, device: torch.device) -> torch.autocast:
        """Context in which the model runs on a device."""
        return autocast(device, self.precision(device))

    def train_batches(
        self,
        seed: int,
        first_step: int,
        steps: int,
        device: torch.device,
        processes: Processes = SINGLE_PROCESS,
        rates: Rates = FULL_RATES,
    ) -> Iterator[Batch]:
        """This process's part of some steps' batches at constant rates, augmented by the recipe.

        See `DataSource.train_batches`.
        """
        stream = TrainStream(
            seed=seed,
            first_step=first_step,
            steps=steps,
            batch_size=self.batch_size,
            augmentation=self.spec.recipe.augmentation,
            image_size=self.cropped_size(rates),
            device=device,
            local_slice=processes.local_slice(self.batch_size),
            order=self.objective.order,
        )
        return self.batches_of(stream)

    def cropped_size(self, rates: Rates) -> tuple[int, int] | None:
        """Height and width to which training images are cropped at once at some rates; `None` for full images.

        The `pil` backend always makes full images, which the model then makes smaller.
        """
        if self.spec.recipe.augmentation.backend == "pil":
            return None
        return counted_model(self._architecture).counter.elastic.training_image_size(rates)

    def batches_of(self, stream: TrainStream) -> Iterator[Batch]:
        """The batches of a section of the stream of training images, mixed if its augmentation says so."""
        return mix_batches(self.data.train_batches(stream), stream, self.data.classes)

    @property
    def model_input(self) -> ModelInput:
        """What the trained model must be given, and what its outputs mean."""
        return ModelInput(
            class_names=self.data.inventory.class_names,
            image_size=self.data.image_size,
            channels=self.data.channels,
            preprocessing=getattr(self.data, "preprocessing", None),
        )

    def build_model(self) -> nn.Module:
        """The timm model at full size: from torch's current random state, and the weights that training starts from.

        Raises:
            InvalidInput: when timm does not know the model or its options, or the file of weights does not fit.
        """
        model = create_model(self.spec.model, self.model_arguments(), self.spec.model.pretrained)
        if self.spec.model.checkpoint is not None:
            fitted_weights(model, self.spec.model).load(model)
        if self.objective.teacher is not None and hasattr(model, "set_distilled_training"):
            model.set_distilled_training(True)  # type: ignore[operator] # in training, the head of the distillation token learns of the teacher
        return model

    def model_arguments(self) -> dict[str, Any]:
        """Keyword arguments with which plain `timm.create_model` builds the same architecture."""
        return dict(counted_model(self._architecture).arguments)

    def build_optimizer(self, model: nn.Module) -> Optimizer:
        """timm's optimizer for the recipe, over a model at full size."""
        return build_optimizer(self.spec.recipe, model)

    def step_cost(self, rates: Rates) -> StepCost:
        """Counted FLOPs of one training step at the requested rates, and the realised rates. Cached in the process.

        The forward pass of a teacher is part of it.

        Raises:
            InvalidInput: when the model cannot have these rates, or cannot process images of this size.
        """
        try:
            cost = counted_model(self._architecture).counter.step_cost(rates, self.batch_size)
        except UnsuitableImagesError as error:
            reason = f"{self.spec.model.name} with these options cannot process such images: {error}"
            raise InvalidInput("data.image_size", self.data.image_size, reason) from None
        if self.objective.teacher is None:
            return cost
        of_teacher = self.objective.teacher.cost  # the same at all rates: it always sees full images
        macs = None if cost.forward_macs is None else cost.forward_macs + of_teacher.forward_macs * self.batch_size
        return replace(cost, flops=cost.flops + of_teacher.total * self.batch_size, forward_macs=macs)

    def step_size(self, rates: Rates) -> StepSize:
        """What the time of a training step at the requested rates depends on, per image. Cached in the process."""
        size = counted_model(self._architecture).counter.step_size(rates)
        if self.objective.teacher is None:
            return size
        return replace(size, other_flops=size.other_flops + self.objective.teacher.cost.total)

    @property
    def model_parameters(self) -> int:
        """Number of parameters of the full model."""
        return counted_model(self._architecture).parameters

    @property
    def augmentation_as_applied(self) -> str:
        """What is done to training images, in one line of text: timm's values included where the recipe gives none."""
        return augmentation_as_applied(self.spec.recipe.augmentation, self.data.supported_augmentations)

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How images are resized, cropped and normalized; `None` if the data source does not use timm's transforms."""
        return self._preprocessing if "transform" in self.data.supported_augmentations else None

    @property
    def growth(self) -> Growth:
        """Growth initialization as applied: never `auto`, and `initial` with pretrained weights, which are not overwritten."""
        return "initial" if self.spec.model.starts_from_weights else counted_model(self._architecture).counter.elastic.growth

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to say before a run: modules that are not resized, settings without effect, values for large images, targets."""
        metrics = [measure.metric.name for measure in self.objective.measures]
        said = (
            self._unresized_modules(),
            self._changed_weights(),
            self._growth_of_pretrained(),
            self._large_image_defaults(),
            self._settings_of_files(),
            *target_warnings(self.data.inventory, target_kind(self.data), metrics),
        )
        return tuple(filter(None, said))

    def without_effect(self, schedule: Schedule) -> tuple[str, ...]:
        """What to say before a run with a schedule: shares of an augmentation that this task does not have."""
        strengths = [stage.augmentation for stage in schedule.stages]
        augmentation = self.spec.recipe.augmentation
        policy = augmentation.transform.get("auto_augment")
        reasons = {
            "magnitude": policy_magnitude(policy) is None
            and f"recipe.augmentation.transform.auto_augment is {policy!r}, and only RandAugment and AugMix have a magnitude",
            "mixup": not augmentation.mixes and "recipe.augmentation has neither mixup nor cutmix",
            "drop_path": not has_drop_path(counted_model(self._architecture).counter.elastic.model)
            and "the model has no stochastic depth (model.options.drop_path_rate)",
        }
        return tuple(
            f"stages have a share of augmentation.{name}, which changes nothing: {reason}"
            for name, reason in reasons.items()
            if reason and any(getattr(strength, name) < 1 for strength in strengths)
        )

    def _unresized_modules(self) -> str | None:
        unknown = counted_model(self._architecture).counter.elastic.unknown
        if not unknown:
            return None
        others = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        return f"{unknown[0]}{others} will stay at full size: the table of layouts has no row for them; see CONTRIBUTING.md"

    def _changed_weights(self) -> str | None:
        changes = check_checkpoint(self._architecture)
        return f"model.checkpoint: {'; '.join(changes)}" if changes else None

    def _growth_of_pretrained(self) -> str | None:
        growth = self.spec.staging.growth
        if growth in ("auto", "initial") or not self.spec.model.starts_from_weights:
            return None
        reason = "set to zero" if growth == "zero" else "overwritten by copies"
        return f"staging.growth: {growth} acts as initial: pretrained weights are not {reason}"

    def _settings_of_files(self) -> str | None:
        """Settings of data read from files, where the images come with the package."""
        if self.spec.data.name not in IN_MEMORY:
            return None
        fields = ("root", "class_folder", "unreadable", "skip_files", "exif_orientation")  # a cache is refused before
        given = [name for name in fields if getattr(self.spec.data, name) != DataSpec.model_fields[name].default]
        return f"data.{', data.'.join(given)}: no effect on {self.spec.data.name}, which has no files" if given else None

    def _large_image_defaults(self) -> str | None:
        size, preprocessing = self.data.image_size, self.preprocessing
        if size >= SMALL_IMAGES or preprocessing is None:
            return None
        applied = list(defaults_for_large_images(self.spec.recipe.augmentation.transform))
        crop_pct = preprocessing.crop_pct
        if self.spec.data.preprocessing.crop_pct is None and crop_pct is not None and crop_pct < 1:
            applied.append(f"evaluation crops to {100 * crop_pct:g} % of the side (data.preprocessing.crop_pct)")
        if not applied:
            return None
        return (
            f"images of {size} pixels get values that are meant for large ones, because the task does not set them: "
            f"{', '.join(applied)}; usual for small images are recipe.augmentation.transform: {{scale: [0.6, 1], "
            "color_jitter: null} and data.preprocessing: {crop_pct: 1}"
        )

    def check(self) -> None:
        """Check that the model can be built and classifies, and that loss, metrics and optimizer can be used, without training.

        Raises:
            InvalidInput: naming the wrong setting.
        """
        if target_kind(self.data) == "class" and self.data.classes < 2:
            field, value = ("data.root", self.spec.data.root) if self.spec.data.root else ("data.name", self.spec.data.name)
            raise InvalidInput(field, value, "has images of a single class: there is nothing to learn")
        self.step_cost(Rates())
        check_output(self._architecture)
        check_checkpoint(self._architecture)
        self.objective.check()
        self.check_optimizer()
        recipe = self.spec.recipe
        if recipe.frozen or recipe.layer_decay:
            with torch.device("meta"):
                model = create_model(self.spec.model, self.model_arguments())
            check_frozen_parts(model, recipe.frozen)
            check_layer_decay(recipe, model, self.spec.model.name)

    @property
    def downloads(self) -> bool:
        """Whether training starts from weights, or learns from a teacher, that timm downloads."""
        teacher = self.spec.objective.teacher
        return self.spec.model.pretrained or (teacher is not None and teacher.weights is None)

    def check_downloads(self) -> None:
        """Load what timm downloads, which a machine without a network may lack. It stays on this machine for trainings.

        Raises:
            InvalidInput: when it cannot be loaded.
        """
        if self.spec.model.pretrained:
            with torch.random.fork_rng(devices=[]):
                self.build_model()
        if self.objective.teacher is not None:
            self.objective.teacher.check()

    def check_optimizer(self) -> None:
        """Check that the recipe's optimizer makes a step, and that its state can be resized.

        Raises:
            InvalidInput: when it does not, or cannot.
        """
        recipe = self.spec.recipe.model_copy(update={"layer_decay": None})
        check_optimizer(recipe.optimizer, lambda layer: build_optimizer(recipe, layer))


def _given_data(spec: DataSpec, data: Any) -> DataSource:
    """The data source that was given as an object.

    Raises:
        InvalidInput: when it is none, or settings of the data do not apply to it.
    """
    if isinstance(data, Mapping):
        opened: DataSource = map_style_data(spec, data)
    elif isinstance(data, DataSource):
        opened = data
    else:
        reason = "must be a data source (explorer.data.DataSource), or data sets by the names train, validation and test"
        raise InvalidInput("data", type(data).__name__, reason)
    if opened.image_size != spec.image_size:
        raise InvalidInput("data.image_size", spec.image_size, f"must be {opened.image_size}, as in the data that is given")
    if spec.train_fraction < 1:
        if not isinstance(opened, HasSubsets):
            raise InvalidInput("data.train_fraction", spec.train_fraction, "must be 1: the data has no with_train_fraction")
        return opened.with_train_fraction(spec.train_fraction)
    return opened


def with_files_noted(spec: TaskSpec) -> TaskSpec:
    """The task with the digests of the weights that it starts from and of its teacher's.

    Raises:
        InvalidInput: when a file cannot be read, or its content is not that of a digest that is noted already.
    """
    spec = checkpoint_noted(spec)
    if spec.objective.teacher is None:
        return spec
    objective = spec.objective.model_copy(update={"teacher": with_digest(spec.objective.teacher)})
    return spec.model_copy(update={"objective": objective})


def _check_names(spec: TaskSpec) -> None:
    """Check that timm has the model and the optimizer, and accepts the transform; that an image size is given.

    Raises:
        InvalidInput: naming the first setting that timm does not accept.
    """
    check_model_name(spec.model)
    check_optimizer_name(spec.recipe.optimizer)
    if spec.data.image_size is None:
        published = model_configuration(spec.model).get("input_size")
        hint = f"; {spec.model.name} was published for {published[-1]} pixels" if published else ""
        reason = f"this key is required for {spec.data.name!r}{hint}"
        raise InvalidInput("data.image_size", None, reason)
    check_transform(spec.recipe.augmentation.transform, spec.data.image_size)
