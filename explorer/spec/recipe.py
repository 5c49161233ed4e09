"""How a model is trained."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from explorer.spec.base import Frozen
from explorer.spec.lr_schedule import LearningRateSchedule


class Augmentation(Frozen):
    """What is done to training images; evaluation sees them as they are."""

    shift: int = Field(0, ge=0)
    """Resident data: random translation by up to this many pixels, zero-padded."""
    flip: bool = False
    """Resident data: random horizontal flip."""
    transform: dict[str, Any] = {}
    """Data read from disk: keyword arguments of `timm.data.create_transform` (auto_augment, re_prob, ...), but for mean and
    std, which `data.preprocessing` has for evaluation too."""
    mixup: float = Field(0.0, ge=0)
    """Alpha of mixup's beta distribution (arXiv 1710.09412); 0: none. With cutmix too, each batch gets one of the two."""
    cutmix: float = Field(0.0, ge=0)
    """Alpha of cutmix's beta distribution (arXiv 1905.04899); 0: none."""

    @field_validator("transform")
    @classmethod
    def _known(cls, transform: dict[str, Any]) -> dict[str, Any]:
        for name in ("mean", "std", "input_size", "is_training"):
            if name in transform:
                raise ValueError(f"{name} is not of the augmentation: mean and std belong into data.preprocessing")
        return transform

    @property
    def mixes(self) -> bool:
        """Whether images of a batch are mixed: batches must be even then."""
        return self.mixup > 0 or self.cutmix > 0


class Recipe(Frozen):
    """How to train."""

    epochs: float = Field(gt=0)
    """Length of full training: passes over the training images at rates 1. Its cost is budget 100 %."""
    batch_size: int = Field(ge=1)
    """Images in one optimizer step, those of all workers and accumulated parts together."""
    learning_rate: float = Field(gt=0)
    """Peak learning rate."""
    lr_schedule: LearningRateSchedule = LearningRateSchedule()
    optimizer: str = "adamw"
    """Any name of `timm.optim.list_optimizers()` that keeps per-parameter state in the parameter's shape."""
    weight_decay: float = Field(0.05, ge=0)
    """Of the optimizer."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Of the cross entropy."""
    clip_grad: float | None = Field(None, gt=0)
    """Largest gradient norm; none: no clipping."""
    accumulation: int = Field(1, ge=1)
    """Parts that a batch is computed in, one after another, where it does not fit into memory."""
    ema_decay: float | None = Field(None, gt=0, lt=1)
    """Decay of an exponential moving average of the weights, which is then what is evaluated and kept; early in training the
    decay is smaller (`ModelEmaV3(use_warmup=True)` of timm). None: no average."""
    amp: Literal["auto", "bf16", "off"] = "auto"
    """Mixed precision; auto: bf16 on a GPU, off on the CPU."""
    compile: bool = False
    """torch.compile, renewed at every stage change."""
    augmentation: Augmentation = Augmentation()
