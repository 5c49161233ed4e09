"""The recipe: how a model is trained."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from explorer.spec.base import Frozen
from explorer.spec.lr_schedule import LearningRateSchedule

NOT_AUGMENTATION = ("mean", "std", "input_size", "is_training")
"""Arguments of `timm.data.create_transform` that other settings determine."""


class Augmentation(Frozen):
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


class Recipe(Frozen):
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
    parameter (kron, lookahead), that need second derivatives (adahessian) or a GPU (bnb..., fused...), and schedule-free ones."""
    weight_decay: float = Field(0.05, ge=0)
    """Weight decay of the optimizer."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Label smoothing of the cross-entropy loss."""
    clip_grad: float | None = Field(None, gt=0)
    """Maximum norm for gradient clipping; `None` disables clipping."""
    accumulation: int = Field(1, ge=1)
    """Number of parts in which a batch is processed, for batches that do not fit into memory (gradient accumulation)."""
    ema_decay: float | None = Field(None, gt=0, lt=1)
    """Decay of an exponential moving average of the weights, which is then evaluated and saved in place of the weights. The
    decay is smaller early in training (timm's `ModelEmaV3` with `use_warmup=True`). `None` disables averaging."""
    amp: Literal["auto", "bf16", "off"] = "auto"
    """Automatic mixed precision: `bf16`, `off`, or `auto`: `bf16` on a GPU and `off` on the CPU."""
    compile: bool | Literal["auto", "reduce-overhead"] = False
    """Whether the model is compiled with `torch.compile`, at each size that a stage has. Equal blocks share their code, also
    with later trials in the same process. `auto` measures, before the training or sweep, whether this saves more time than it
    takes. `reduce-overhead` compiles as well, and small stages with CUDA graphs, which need more memory."""
    augmentation: Augmentation = Augmentation()
