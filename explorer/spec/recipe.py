"""The recipe: how a model is trained."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from explorer.spec.base import Settings
from explorer.spec.lr_schedule import LearningRateSchedule

NOT_AUGMENTATION = ("mean", "std", "input_size", "is_training")
"""Arguments of `timm.data.create_transform` that other settings determine."""


class Augmentation(Settings):
    """Augmentation of training images. Images of evaluation are not augmented."""

    shift: int = Field(0, ge=0)
    """For data held in memory: largest random translation, in pixels; shifted images are padded with the darkest value."""
    flip: bool = False
    """For data held in memory: whether images are flipped horizontally with a probability of 1/2."""
    transform: dict[str, Any] = {}
    """For data read from disk: keyword arguments of `timm.data.create_transform` (scale, hflip, color_jitter, auto_augment,
    re_prob, ...). What is not given has timm's value, which is meant for ImageNet: crops of 8 to 100 % of the image, flips with
    a probability of 1/2, and color jitter of 0.4 where there is no `auto_augment`. `no_aug: true` disables augmentation. `mean`
    and `std` are set in `data.preprocessing` for training and evaluation alike."""
    mixup: float = Field(0.0, ge=0)
    """Alpha of mixup's beta distribution (arXiv 1710.09412); 0 disables mixup. If cutmix is enabled too, one of the two is
    chosen at random for each batch."""
    cutmix: float = Field(0.0, ge=0)
    """Alpha of cutmix's beta distribution (arXiv 1905.04899); 0 disables cutmix."""
    backend: Literal["pil", "tensor"] = "pil"
    """For data read from disk: `pil` augments one image after another in the processes that decode them; `tensor` augments
    whole batches on the device that trains, with the same random numbers, and crops to the size of smaller stages at once."""

    @field_validator("transform")
    @classmethod
    def _check_transform(cls, transform: dict[str, Any]) -> dict[str, Any]:
        for name in NOT_AUGMENTATION:
            if name in transform:
                raise ValueError(
                    f"{name} does not belong in augmentation.transform: set it in data (data.preprocessing.mean ...)"
                )
        return transform

    @property
    def mixes(self) -> bool:
        """Whether the images of a batch are mixed; the batch size must then be even."""
        return self.mixup > 0 or self.cutmix > 0


class FrozenParts(Settings):
    """Parts of the model that keep their weights at first, as in fine-tuning."""

    parts: tuple[str, ...] = Field(min_length=1)
    """Names of modules or parameters of the full model: `patch_embed`, `blocks.0`, `pos_embed`. Everything within is frozen."""
    until: float = Field(1.0, gt=0, le=1)
    """Share of every budget after which they are trained, rounded up to a multiple of 1/grid of the schedule. 1 never trains
    them. What is counted as the cost of a step includes all gradients: frozen parts save time that no budget counts."""


ADDED_LATER: dict[str, Any] = {"no_weight_decay": True, "layer_decay": None, "frozen": None, "clip_mode": "norm"}
"""Settings that are left out where they have these values: files and keys stay as they were before there were any."""


class Recipe(Settings):
    """How the model is trained."""

    epochs: float = Field(gt=0)
    """Length of full training: number of passes over the training images with the full model. Its cost is budget 100 %."""
    batch_size: int = Field(ge=1)
    """Number of images in one optimizer step, over all processes and accumulation steps."""
    learning_rate: float = Field(gt=0)
    """Peak learning rate."""
    lr_schedule: LearningRateSchedule = LearningRateSchedule()
    optimizer: str = "adamw"
    """Name of an optimizer in `timm.optim.list_optimizers()`. Refused are those whose state cannot be resized with its
    parameter (kron, lookahead), that need second derivatives (adahessian) or a GPU (bnb..., fused...), and those that are
    schedule-free."""
    weight_decay: float = Field(0.05, ge=0)
    """Weight decay of the optimizer."""
    no_weight_decay: bool = True
    """Whether biases, norms, and the parameters that the model names (position embeddings, class tokens, tables of relative
    positions) are excluded from weight decay, as in timm. `false`: all parameters decay."""
    layer_decay: float | None = Field(None, gt=0, le=1)
    """Factor on the learning rate from each layer to the one before it (timm's `--layer-decay`; arXiv 2106.08254), for
    fine-tuning: with 0.75, the last layer has the whole learning rate, and the layer before it 0.75 of it."""
    frozen: FrozenParts | None = None
    """Parts of the model that keep their weights for a share of the training. `None` trains everything."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Label smoothing of the cross-entropy loss."""
    clip_grad: float | None = Field(None, gt=0)
    """Maximum norm for gradient clipping, or what `clip_mode` makes of this number; `None` disables clipping."""
    clip_mode: Literal["norm", "value", "agc"] = "norm"
    """How gradients are clipped, as in timm: to a maximum `norm` of all together, each to a maximum absolute `value`, or each
    unit's to a multiple of the norm of its weights (`agc`, adaptive gradient clipping, arXiv 2102.06171), without the head."""
    accumulation: int = Field(1, ge=1)
    """Number of parts in which a batch is processed, for batches that do not fit into memory (gradient accumulation)."""
    ema_decay: float | None = Field(None, gt=0, lt=1)
    """Decay of an exponential moving average of the weights, which is then evaluated and saved in place of the weights. The
    decay is smaller early in training (timm's `ModelEmaV3` with `use_warmup=True`). `None` disables averaging."""
    amp: Literal["auto", "bf16", "fp16", "off"] = "auto"
    """Automatic mixed precision: `bf16`, `off`, or `auto`: `bf16` on a GPU and `off` on the CPU. `fp16` is for GPUs without
    bf16: the loss is scaled, and updates with gradients that are not finite are skipped, counted and paid for."""
    compile: bool | Literal["auto", "reduce-overhead"] = False
    """Whether the model is compiled with `torch.compile`, at each size that a stage has. Equal blocks share their code, also
    with later trials in the same process. `auto` measures, before the training or sweep, whether this saves more time than it
    takes. `reduce-overhead` compiles as well, and small stages with CUDA graphs, which need more memory."""
    augmentation: Augmentation = Augmentation()

    @model_validator(mode="after")
    def _check_clipping(self) -> Recipe:
        if self.clip_mode != "norm" and self.clip_grad is None:
            raise ValueError(f"clip_mode: {self.clip_mode} needs clip_grad, which is not set")
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content = handler(self)
        return {name: value for name, value in content.items() if name not in ADDED_LATER or value != ADDED_LATER[name]}
