"""How strongly a stage augments its images: shares of the recipe's augmentation and stochastic depth.

EfficientNetV2 (Tan and Le, arXiv 2104.00298), AutoProg (Li et al., CVPR 2022) and EfficientTrain++ (Wang et al., TPAMI 2024)
start with weak augmentation and strengthen it as the images grow.
"""

from __future__ import annotations

import re

from pydantic import Field

from explorer.spec.base import Settings
from explorer.spec.recipe import Augmentation

DEFAULT_MAGNITUDES = {"rand": 10, "augmix": 3}
"""Policies of `auto_augment` that have a magnitude, and timm's magnitude where a policy gives none."""


class AugmentationStrength(Settings):
    """Augmentation and stochastic depth of a stage, as shares in [0, 1] of those of the recipe."""

    magnitude: float = Field(1.0, ge=0, le=1)
    """Share of the magnitude of RandAugment or AugMix (`rand-m9-...` and `augmix-m3-...` in
    `recipe.augmentation.transform.auto_augment`). timm's magnitudes are whole numbers: the product is rounded to one."""
    mixup: float = Field(1.0, ge=0, le=1)
    """Share of the alphas of mixup and cutmix; 0 disables both."""
    drop_path: float = Field(1.0, ge=0, le=1)
    """Share of the rate of stochastic depth (`model.options.drop_path_rate`)."""

    @property
    def full(self) -> bool:
        """True when every share is 1: the recipe's own augmentation."""
        return self == FULL_STRENGTH

    def applied_to(self, augmentation: Augmentation) -> Augmentation:
        """The augmentation of a stage with this strength; the recipe's own, unchanged, at full strength."""
        changes: dict[str, object] = {}
        if self.mixup < 1:
            changes |= {"mixup": self.mixup * augmentation.mixup, "cutmix": self.mixup * augmentation.cutmix}
        policy = augmentation.transform.get("auto_augment")
        if self.magnitude < 1 and isinstance(policy, str) and policy_magnitude(policy) is not None:
            scaled = scaled_policy(policy, self.magnitude)
            changes["transform"] = {**augmentation.transform, "auto_augment": scaled}
        return augmentation.model_copy(update=changes)

    def __str__(self) -> str:
        shares = {"magnitude": self.magnitude, "mixup": self.mixup, "drop path": self.drop_path}
        return ", ".join(f"{name} x{share:.3g}" for name, share in shares.items() if share < 1) or "full"


FULL_STRENGTH = AugmentationStrength()
"""The recipe's own augmentation."""


def policy_magnitude(policy: object) -> int | None:
    """The magnitude of a policy of `auto_augment`; `None` if it has none, as AutoAugment's policies."""
    if not isinstance(policy, str):
        return None
    name, *sections = policy.split("-")
    given = [int(section[1:]) for section in sections if re.fullmatch(r"m\d+", section)]
    return given[-1] if given and name in DEFAULT_MAGNITUDES else DEFAULT_MAGNITUDES.get(name)


def scaled_policy(policy: str, share: float) -> str:
    """A policy with a share of its magnitude, rounded to a whole number (halves up): `rand-m9-inc1` at .5 is `rand-m5-inc1`.

    Args:
        policy: a policy that has a magnitude; see `policy_magnitude`.
        share: in [0, 1].
    """
    magnitude = policy_magnitude(policy)
    assert magnitude is not None
    scaled = f"m{int(share * magnitude + 0.5)}"
    name, *sections = policy.split("-")
    if not any(re.fullmatch(r"m\d+", section) for section in sections):
        return "-".join([name, scaled, *sections])
    return "-".join([name, *(scaled if re.fullmatch(r"m\d+", section) else section for section in sections)])
