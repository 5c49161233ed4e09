import pytest

from explorer.spec.augmentation_strength import FULL_STRENGTH, AugmentationStrength, policy_magnitude, scaled_policy
from explorer.spec.recipe import Augmentation


@pytest.mark.parametrize(
    ("policy", "share", "scaled"),
    [
        ("rand-m9-mstd0.5-inc1", 1 / 3, "rand-m3-mstd0.5-inc1"),
        ("rand-m9-mstd0.5-inc1", 0.5, "rand-m5-mstd0.5-inc1"),  # 4.5, halves up
        ("rand-m9-mstd0.5-inc1", 0.0, "rand-m0-mstd0.5-inc1"),
        ("rand-mstd0.5", 0.5, "rand-m5-mstd0.5"),  # timm's magnitude is 10 where none is given
        ("augmix-m4-w2", 0.5, "augmix-m2-w2"),
    ],
)
def test_a_policy_at_a_share_of_its_magnitude(policy, share, scaled):
    assert scaled_policy(policy, share) == scaled


@pytest.mark.parametrize("policy", ["v0", "originalr", "3a", None])
def test_policies_without_a_magnitude(policy):
    assert policy_magnitude(policy) is None
    augmentation = Augmentation(transform={"auto_augment": policy})
    assert AugmentationStrength(magnitude=0.1).applied_to(augmentation) == augmentation


def test_the_augmentation_of_a_stage():
    recipe = Augmentation(transform={"auto_augment": "rand-m9", "re_prob": 0.25}, mixup=0.8, cutmix=1.0)
    stage = AugmentationStrength(magnitude=2 / 3, mixup=0.25).applied_to(recipe)
    assert stage == Augmentation(transform={"auto_augment": "rand-m6", "re_prob": 0.25}, mixup=0.2, cutmix=0.25)
    assert not AugmentationStrength(mixup=0).applied_to(recipe).mixes
    assert FULL_STRENGTH.applied_to(recipe) == recipe
