"""Tables of images: CSV and Parquet files, with one class, any number of classes, or values for each image."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from explorer import InvalidInput
from explorer.data import check_data, open_data
from explorer.data.contract import DataSourceContract
from explorer.spec import DataSpec

ROWS = 40


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """40 images of noise, in a folder and its subfolder."""
    root = tmp_path_factory.mktemp("pictures")
    (root / "more").mkdir()
    generator = np.random.default_rng(0)
    for number in range(ROWS):
        Image.fromarray(generator.integers(0, 256, (10, 12, 3), dtype=np.uint8)).save(root / path_of(number))
    return root


def path_of(number) -> str:
    return f"more/{number}.png" if number % 2 else f"{number}.png"


def table(**columns) -> pd.DataFrame:
    """A row for each image: 24 for training, 8 for each of the others."""
    splits = ["train"] * 24 + ["val"] * 8 + ["test"] * 8
    return pd.DataFrame({"image": [path_of(number) for number in range(ROWS)], "split": splits, **columns})


def written(root, content, file="labels.csv", **changes) -> DataSpec:
    """The settings of a table; `changes` of `options` and of the others."""
    path = root / file
    content.to_parquet(path) if file.endswith(".parquet") else content.to_csv(path, index=False)
    options = {"file": file, "split_key": "split", **changes.pop("options", {})}
    splits = {"validation_split": "val", "test_split": "test"}
    return DataSpec(**{"name": "table", "root": str(root), "image_size": 8, "options": options, **splits, **changes})


ANIMALS = [("cat", "dog", "class 10", "class 2")[number % 4] for number in range(ROWS)]
SETS = [("cat;dog", "dog", "", " dog ;eel")[number % 4] for number in range(ROWS)]
MARKS = {"cat": [1, 0, 0, 0] * 10, "dog": [1, 1, 0, 1] * 10, "eel": [0, 0, 0, 1] * 10}
X, Y = [number / 4 for number in range(ROWS)], [-1000 + number for number in range(ROWS)]


class TestClasses(DataSourceContract):
    num_workers = (0,)  # the others start processes

    @pytest.fixture
    def spec(self, pictures):
        return written(pictures, table(label=ANIMALS), "classes.csv")


class TestLabels(DataSourceContract):
    @pytest.fixture
    def spec(self, pictures):
        options = {"target_kind": "labels", "separator": ";"}
        return written(pictures, table(label=SETS), "sets.csv", options=options, validation_split=None)


class TestValues(DataSourceContract):
    num_workers = (0,)  # the others start processes

    @pytest.fixture
    def spec(self, pictures):
        options = {"target_kind": "values", "target_key": ["x", "y"]}
        return written(pictures, table(x=X, y=Y), "values.parquet", options=options)


def targets(spec, split="test"):
    """Targets of a split by the names of its images."""
    found = torch.cat([each for _, each in open_data(spec).evaluation_batches(split, torch.device("cpu"))])
    return dict(zip(open_data(spec).splits[split].image_names, found.tolist(), strict=True))


def test_classes_are_in_natural_order_and_splits_those_of_the_column(pictures):
    data = open_data(written(pictures, table(label=ANIMALS)))
    assert data.class_names == ("cat", "class 2", "class 10", "dog")
    assert [split.images for split in data.inventory.splits.values()] == [24, 8, 8]
    assert data.inventory.train.per_class == (6, 6, 6, 6)
    assert targets(written(pictures, table(label=ANIMALS)))["more/39.png"] == 1  # 39 is of class 2
    other = table(label=ANIMALS).replace({"split": {"val": "spare"}})
    data = open_data(written(pictures, other, validation_split=None))
    assert "train: 8 rows of other splits, which are not read" in data.inventory.warnings


@pytest.mark.parametrize("file", ["labels.csv", "labels.parquet"])
def test_any_number_of_classes_by_a_separator_by_columns_and_by_lists(pictures, file):
    """32 is a cat and a dog, 33 a dog, 34 nothing, 35 a dog and an eel."""
    expected = {"32.png": [1, 1, 0], "more/33.png": [0, 1, 0], "34.png": [0, 0, 0], "more/35.png": [0, 1, 1]}
    separated = written(pictures, table(label=SETS), file, options={"target_kind": "labels", "separator": ";"})
    columns = written(
        pictures, table(**MARKS), "marks-" + file, options={"target_kind": "labels", "target_key": ["cat", "dog", "eel"]}
    )
    specs = [separated, columns]
    if file.endswith(".parquet"):
        lists = [[part.strip() for part in each.split(";") if part] for each in SETS]
        specs.append(written(pictures, table(label=lists), "lists.parquet", options={"target_kind": "labels"}))
        booleans = table(**{name: [bool(mark) for mark in marks] for name, marks in MARKS.items()})
        specs.append(written(pictures, booleans, "booleans.parquet", options=columns.options))
        specs[-1] = specs[-1].model_copy(update={"options": {**columns.options, "file": "booleans.parquet"}})
    for spec in specs:
        data = open_data(spec)
        assert data.class_names == ("cat", "dog", "eel")
        assert targets(spec).items() >= expected.items()
        assert data.inventory.train.per_class == (6, 18, 6)
        assert "train: 6 images without any class" in data.inventory.warnings


@pytest.mark.parametrize("file", ["values.csv", "values.parquet"])
def test_values_of_one_and_of_two_columns(pictures, file):
    two = written(pictures, table(x=X, y=Y), file, options={"target_kind": "values", "target_key": ["x", "y"]})
    assert targets(two)["more/33.png"] == [8.25, -967]
    train = open_data(two).inventory.train.values
    assert [(value.min, value.mean, value.max) for value in train] == [(0, 2.875, 5.75), (-1000, -988.5, -977)]
    assert train[1].std == pytest.approx(((24**2 - 1) / 12) ** 0.5)  # of 24 numbers in sequence
    one = two.model_copy(update={"options": {**two.options, "target_key": "y"}})
    assert (targets(one)["32.png"], open_data(one).class_names) == ([-968], ("y",))


def test_a_tenth_is_set_aside_and_subsets_are_nested(pictures):
    options = {"target_kind": "labels", "separator": ";", "split_key": None}
    spec = written(pictures, table(label=SETS), options=options, validation_split=None, test_split=None)
    data = open_data(spec)
    assert [split.images for split in data.inventory.splits.values()] == [32, 4, 4]
    for role in ("validation", "test"):
        assert data.inventory.splits[role].per_class == (1, 3, 1)  # one image of each stratum: cat, dog, none, eel
    parts = [open_data(spec.model_copy(update={"train_fraction": share})).splits["train"].image_names for share in (0.25, 0.5)]
    assert [len(part) for part in parts] == [8, 16]
    assert set(parts[0]) < set(parts[1])


def test_a_file_for_each_split(pictures):
    whole = table(label=ANIMALS)
    for split in ("train", "test"):
        whole[whole.split == split].to_csv(pictures / f"{split}.tsv", sep="\t", index=False)
    options = {"file": "{split}.tsv"}
    data = open_data(DataSpec(name="table", root=str(pictures), image_size=8, test_split="test", options=options))
    assert [split.images for split in data.inventory.splits.values()] == [20, 4, 8]  # one of each class is set aside


def test_missing_and_damaged_files_are_those_of_any_source(pictures, tmp_path):
    content = table(label=ANIMALS)
    content.loc[3, "image"] = "none.png"
    (pictures / "text.png").write_text("text")
    content.loc[5, "image"] = "text.png"
    spec = written(pictures, content, "damaged.csv")
    with pytest.raises(InvalidInput, match=r"2 of 40 images cannot be read: none\.png \(there is no such file.*text\.png"):
        check_data(spec)
    checked = check_data(spec.model_copy(update={"unreadable": "skip"}))
    assert (checked.inventory.train.images, checked.inventory.train.unreadable) == (22, ("none.png", "text.png"))
    assert checked.inventory.train.per_class == (6, 5, 6, 5)  # a class 2 and a dog
    cached = written(pictures, table(label=ANIMALS), cache={"folder": str(tmp_path / "cache")})
    uncached = cached.model_copy(update={"cache": None})
    pairs = zip(*(open_data(each).evaluation_batches("test", torch.device("cpu")) for each in (cached, uncached)), strict=True)
    assert all(torch.equal(one, other) for both in pairs for one, other in zip(*both, strict=True))


def changed(row=2, **cells):
    def change(content):
        content = content.astype(object)
        for column, cell in cells.items():
            content.loc[row, column] = cell
        return content

    return change


VALUES = {"target_kind": "values", "target_key": "x"}
LABELS = {"target_kind": "labels", "separator": ";", "target_key": "sets"}


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (changed(image=""), {}, r"data\.train_split: 'train': row 3 has no path \(image\)"),
        (changed(image="../3.png"), {}, r"row 3 has the path '\.\./3\.png', which leads outside data\.root"),
        (changed(image="3\0.png"), {}, r"row 3 has the path '3\\x00\.png', with a zero byte"),
        (changed(image="/etc/3.png"), {}, r"row 3 has the path '/etc/3\.png', which leads outside data\.root"),
        (changed(image="more/../0.png"), {}, r"rows 1 and 3 have the same path: more/\.\./0\.png; an image has one row"),
        (changed(30, image="0.png"), {}, r"data\.validation_split: 'val': has 1 images of data\.train_split .*0\.png"),
        (changed(label=""), {}, r"row 3 of t\.csv has '' as label; every image must have a class"),
        (changed(30, label="yak"), {}, r"data\.validation_split: 'val': has classes that no training image has: yak"),
        (changed(30, sets="cat;yak"), LABELS, r"data\.validation_split: .*no training image has: yak"),
        (changed(x="far"), VALUES, r"row 3 of t\.csv has 'far' as x; must be a number"),
        (changed(x=""), VALUES, r"row 3 of t\.csv has '' as x; must be a number"),
        (changed(x="1_01"), VALUES, r"row 3 of t\.csv has '1_01' as x; must be a number"),
        (changed(x="inf"), VALUES, r"has 'inf' as x; must be a number"),
        (changed(), {"target_kind": "labels"}, r"row 1 of t\.csv \(one of 24\) has 'cat' as label; must be 0 or 1 \(several"),
        (changed(), {"target_key": ["label", "x"]}, r"data\.options\.target_key: 'label, x': must be one column here"),
        (changed(), {"target_key": []}, r"data\.options\.target_key: \[\]: must name at least one column"),
        (changed(), {"input_key": "path"}, r"data\.options\.input_key: 'path': t\.csv has the columns image, split, label"),
        (changed(), {"split_key": "part"}, r"data\.options\.split_key: 'part': t\.csv has the columns"),
        (changed(), {"split_key": None}, r"data\.validation_split: 'val': t\.csv has all rows: name the column of splits as"),
        (changed(), {"file": "none.csv"}, r"data\.options\.file: .*none\.csv': there is no such file"),
        (changed(), {"file": "0.png"}, r"data\.options\.file: .*must end in \.csv, \.tsv or \.parquet"),
        (changed(), {"delimeter": ";"}, r"data\.options: delimeter: .*did you mean 'delimiter'"),
        (
            lambda content: content.rename(columns={"sets": "label"}),
            {},
            r"data\.options\.file: .*t\.csv': has 2 columns named label; columns that are read must have",
        ),
        (
            lambda content: content[content.split != "val"],
            {},
            r"data\.validation_split: 'val': t\.csv has no rows with 'val' as",
        ),
    ],
)
def test_tables_that_cannot_be_read_as_they_are_are_refused_in_one_line(pictures, change, options, message):
    spec = written(pictures, change(table(label=ANIMALS, x=X, sets=SETS)), "t.csv", options=options)
    with pytest.raises(InvalidInput, match=message) as caught:
        open_data(spec)
    assert "\n" not in str(caught.value)


def test_a_row_with_more_cells_than_the_header_is_refused(pictures):
    (pictures / "long.csv").write_text("image,label\n0.png,cat,dog\nmore/1.png,cat,dog\n")
    spec = DataSpec(name="table", root=str(pictures), image_size=8, test_split=None, options={"file": "long.csv"})
    with pytest.raises(InvalidInput, match=r"data\.options\.file: .*long\.csv': cannot be read"):
        open_data(spec)


def test_columns_that_are_not_read_may_repeat(pictures):
    content = table(label=ANIMALS, x=X, sets=SETS).rename(columns={"x": "note", "sets": "note"})
    assert open_data(written(pictures, content, "notes.csv")).classes == 4
