"""A data set of one's own: half of scikit-learn's digits, as tensors of two channels in dictionaries."""

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.utils.data import Dataset


class Handwriting(Dataset):
    """The digits from `first` to `first + 4`, each image beside its differences from left to right.

    Args:
        split: every fifth image is one of `test`, the others are those of `train`.
        first: the smallest digit, whose label is 0.
    """

    def __init__(self, split: str, first: int = 5) -> None:
        digits = load_digits()
        chosen = [number for number, digit in enumerate(digits.target) if first <= digit < first + 5]
        self.numbers = [number for number in chosen if (number % 5 == 0) == (split == "test")]
        self.images = torch.from_numpy(digits.images).float() / 16
        self.targets = [int(digits.target[number]) - first for number in self.numbers]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> dict[str, Tensor | int]:
        """The image (2, 8, 8) from 0 to 1, and its label."""
        image = self.images[self.numbers[index]]
        differences = image.diff(dim=1, prepend=image[:, :1]).abs()
        return {"image": torch.stack((image, differences)), "label": self.targets[index]}
