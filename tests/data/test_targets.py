"""Targets that are rows of numbers: how they are checked, divided, counted and described."""

import numpy as np
import pytest
import torch
from PIL import Image

from explorer import InvalidInput
from explorer.cli.data import _class_table
from explorer.data import ResidentData, StreamedData
from explorer.data.contact_sheet import contact_sheet
from explorer.data.holding_out import divide
from explorer.data.labels import GivenSplit
from explorer.data.targets import read_targets, strata_of
from explorer.spec import DataSpec, Inventory
from explorer.spec.recipe import Augmentation

SPEC = DataSpec(name="any", image_size=8)


class Images:
    """Images of one color each, with the targets of a list."""

    def __init__(self, targets, kind, first=0, names=None):
        self.targets, self.target_kind, self.first = targets, kind, first
        self.classes = names

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, number):
        return Image.new("RGB", (8, 8), (self.first + number, 0, 0)), self.targets[number]


def read(targets, kind):
    return read_targets(GivenSplit(field="data.train_split", split="train", data=Images(targets, kind)), kind)


def test_targets_are_read_from_lists_tensors_and_arrays():
    assert read([[0, 1], torch.tensor([1, 1]), np.array([True, False])], "labels").tolist() == [[0, 1], [1, 1], [1, 0]]
    assert read([0.5, 2, np.float64(-1)], "values").tolist() == [[0.5], [2], [-1]]


@pytest.mark.parametrize(
    ("targets", "kind", "message"),
    [
        ([[0, 1], [0, 2]], "labels", r"the target of image 1 is \[0, 2\]; it must be 0 or 1 for each class"),
        ([[0, 1], [0]], "labels", "the target of image 1 is .*it has 1 numbers, and those before have 2"),
        ([0.5, None], "values", "the target of image 1 is None; it must be finite"),
        ([0.5, "high"], "values", "the target of image 1 is 'high'; it must be a number for each value"),
        ([0.5, float("nan")], "values", "the target of image 1 is nan; it must be finite"),
        ([[[1.0]]], "values", "it must be a number for each value"),
        ([], "values", "has no images"),
    ],
)
def test_targets_that_are_not_of_their_kind_are_refused(targets, kind, message):
    with pytest.raises(InvalidInput, match=message):
        read(targets, kind)


def test_images_are_divided_by_the_rarest_of_their_classes():
    """The rarest class is 0 for 3 images, 1 for 4, 2 for 1: that one, and the image without a class, are with those of 1."""
    rows = np.array([[1, 0, 0]] * 3 + [[1, 1, 0]] * 3 + [[0, 1, 0], [1, 0, 1], [0, 0, 0]], np.float32)
    strata, names = strata_of(rows, "labels", ("a", "b", "c"))
    assert (list(strata), names) == ([0, 0, 0, 1, 1, 1, 1, 1, 1], ("a", "b"))
    without = np.concatenate([rows, np.zeros((2, 3), np.float32)])
    assert strata_of(without, "labels", ("a", "b", "c"))[1] == ("no class", "a", "b")
    division = divide(strata, names, validation=True, test=True)
    assert [len(part) for part in (division.train, division.validation, division.test)] == [5, 2, 2]
    for part in (division.validation, division.test):
        assert sorted(strata[number] for number in part) == [0, 1]


def test_a_source_of_values_sets_a_tenth_aside_and_says_what_it_has():
    targets = [[number / 10, -number] for number in range(40)]
    source = StreamedData(SPEC, Images(targets, "values", names=("height", "depth")), None)
    assert (source.target_kind, source.classes, source.train_images) == ("values", 2, 32)
    inventory = source.inventory
    assert Inventory.model_validate_json(inventory.model_dump_json()) == inventory
    assert inventory.summary[0] == "data: any, 2 values: height, depth"
    drawn = sorted(source.splits["train"].labels[:, 0].tolist())
    assert inventory.train.values[0].min == drawn[0]
    assert inventory.train.values[0].mean == pytest.approx(sum(drawn) / 32)
    half = source.with_train_fraction(0.5)
    assert half.train_images == 16
    assert {tuple(row) for row in half.splits["train"].labels.tolist()} < {
        tuple(r) for r in source.splits["train"].labels.tolist()
    }


def test_the_command_prints_the_range_of_each_value():
    targets = {"train": [[0.5, 2], [1.5, 4]] * 10, "test": [[1, 1]] * 4}
    data = [Images(rows, "values", first=100 * place, names=("x", "y")) for place, rows in enumerate(targets.values())]
    table = _class_table(StreamedData(SPEC, data[0], data[1]).inventory)
    cells = [list(column.cells) for column in table.columns]
    assert cells[:2] == [["0", "1"], ["x", "y"]]
    assert cells[4] == ["1 to 1, mean 1", "1 to 1, mean 1"]


def test_images_of_each_class_are_counted_for_each_of_their_classes():
    targets = [[1, number % 2, 0] for number in range(30)]
    test = Images([[1, 1, 0]] * 2, "labels", first=100)
    source = StreamedData(SPEC, Images(targets, "labels"), test)
    assert source.inventory.train.per_class == (27, 13 if sum(source.splits["validation"].labels[:, 1]) == 2 else 14, 0)
    assert source.inventory.test.per_class == (2, 2, 0)
    assert "train: no images of 1 of 3 classes, for example '2'" in source.inventory.warnings
    with pytest.raises(InvalidInput, match=r"data\.test_split: .* has classes that no training image has: 2"):
        StreamedData(SPEC, Images(targets, "labels"), Images([[1, 1, 1]] * 2, "labels", first=100))
    with pytest.raises(InvalidInput, match=r"has targets of 2 numbers \(0, 1, 2\), and the training images 3"):
        StreamedData(SPEC, Images(targets, "labels"), Images([[1, 1]] * 2, "labels", first=100))


def test_inventories_of_classes_are_written_as_before():
    written = StreamedData(SPEC, Images([0, 1] * 20, "class"), None).inventory.model_dump()
    assert "target_kind" not in written
    assert "values" not in written["train"]


@pytest.mark.parametrize("kind", ["labels", "values"])
def test_the_contact_sheet_shows_any_targets(kind):
    source = StreamedData(SPEC, Images([[1, number % 2] for number in range(30)], kind), None)
    sheet = contact_sheet(source, Augmentation(), source.class_names)
    assert sheet.size == (968, 4 * 138 + 8 if source.train_images > 24 else 3 * 138 + 8)


@pytest.mark.parametrize(
    ("targets", "kind", "message"),
    [
        (torch.zeros(6, 3), "labels", r"must be float32 \(6, 2\)"),
        (torch.zeros(6, 2, dtype=torch.int64), "labels", r"must be float32 \(6, 2\)"),
        (torch.full((6, 2), 0.5), "labels", "must be 0 or 1"),
        (torch.full((6, 2), torch.inf), "values", "must be finite"),
    ],
)
def test_tensors_of_other_targets_are_refused(targets, kind, message):
    images = {split: torch.rand(6, 1, 8, 8) for split in ("train", "validation", "test")}
    with pytest.raises(InvalidInput, match=message):
        ResidentData(images, dict.fromkeys(images, targets), 2, target_kind=kind)
