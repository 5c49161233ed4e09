"""Hugging Face data sets: which columns, splits and classes."""

import io

import pytest
from PIL import Image

from explorer import InvalidInput
from explorer.data import open_data
from explorer.spec import DataSpec

datasets = pytest.importorskip("datasets", reason="pip install 'vit-budget-explorer[hfds]'")


def png(number) -> dict:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 0, 0)).save(file, "png")
    return {"bytes": file.getvalue(), "path": None}


def split(count=20, first=0, images=("image",), **columns):
    """Rows of images, with columns given as (feature, values)."""
    content = {name: [png(first + number) for number in range(count)] for name in images}
    content |= {name: values for name, (_, values) in columns.items()}
    features = dict.fromkeys(images, datasets.Image()) | {name: feature for name, (feature, _) in columns.items()}
    return datasets.Dataset.from_dict(content, features=datasets.Features(features))


ANIMALS = datasets.ClassLabel(names=["cat", "dog", "eel"])
LABELS = (ANIMALS, [0, 1] * 10)
NUMBERS = (datasets.Value("int64"), [0, 1] * 10)


def saved(tmp_path, train, test=None, **changes) -> DataSpec:
    """The settings of a data set on disk."""
    datasets.DatasetDict({"train": train, "validation": test or train}).save_to_disk(tmp_path / "set")
    return DataSpec(name=f"hfds/{tmp_path / 'set'}", image_size=8, **changes)


def test_a_saved_set_keeps_the_names_of_its_classes(tmp_path):
    data = open_data(saved(tmp_path, split(img=LABELS, images=("picture",)), split(20, 20, images=("picture",), img=LABELS)))
    assert data.class_names == ("cat", "dog", "eel")
    assert "train: no images of 1 of 3 classes, for example 'eel'" in data.inventory.warnings
    rows = data.splits["test"].data
    assert (rows.names[0], rows[3][0].getpixel((0, 0)), rows[3][1]) == ("validation/0", (23, 0, 0), 1)
    assert rows.read(3) == png(23)["bytes"]
    for wrong in ("nosuch", "train[:50%]", "Train"):
        with pytest.raises(InvalidInput, match=r"data\.test_split: .*the data set on disk has the splits train, validation"):
            open_data(DataSpec(name=f"hfds/{tmp_path / 'set'}", image_size=8, test_split=wrong))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"images": ("image", "mask"), "label": LABELS}, r"several columns of images: image, mask; name one as .*input_key"),
        ({"fine": LABELS, "coarse": LABELS}, r"several columns of class labels: fine, coarse; name one as .*target_key"),
        ({"kind": LABELS, "label": NUMBERS}, r"several columns of class labels: kind, label"),
        (
            {"kind": NUMBERS},
            r"no column of class labels; it has the columns image, kind; name one as data\.options\.target_key",
        ),
        ({"images": (), "label": LABELS}, r"no column of images"),
        ({"label": (ANIMALS, [0, -1] * 10)}, r"10 of 20 images have no label \(None or negative\), for example train/1"),
        ({"label": (ANIMALS, [0, None] * 10)}, r"10 of 20 images have no label"),
    ],
)
def test_columns_that_are_not_clear_and_hidden_labels_are_refused(tmp_path, rows, message):
    with pytest.raises(InvalidInput, match=message):
        open_data(saved(tmp_path, split(**rows)))


def test_columns_may_be_chosen(tmp_path):
    rows = {"images": ("image", "mask"), "fine": LABELS, "coarse": (datasets.ClassLabel(names=["a", "b"]), [0] * 20)}
    options = {"input_key": "mask", "target_key": "fine"}
    spec = saved(tmp_path, split(**rows), split(**rows), options=options)
    assert open_data(spec).class_names == ("cat", "dog", "eel")
    for wrong, message in (({"input_key": "masks"}, "has the columns image, mask"), ({"column": "mask"}, "unknown key")):
        with pytest.raises(InvalidInput, match=message):
            open_data(spec.model_copy(update={"options": wrong}))
    words = split(label=(datasets.Value("string"), ["cat", "dog"] * 10))
    with pytest.raises(InvalidInput, match=r"the label of train/0 is 'cat'; labels must be integers"):
        open_data(saved(tmp_path / "words", words, options={"target_key": "label"}))


def test_slices_that_overlap_are_refused(hugging_face):
    """Rows of 60 training images: 54 are in the first slice, 12 in the second."""
    spec = hugging_face.model_copy(update={"train_split": "train[:90%]", "validation_split": "train[80%:]"})
    message = r"data\.validation_split: 'train\[80%:\]': has 6 images of data\.train_split \('train\[:90%\]'\), .*train/48"
    with pytest.raises(InvalidInput, match=message):
        open_data(spec)


def test_any_number_of_classes_and_values(tmp_path):
    """Row 3 is a dog and an eel, row 0 nothing; classes have the order of the feature, not that of their names."""
    animals = datasets.ClassLabel(names=["eel", "dog", "cat"])
    lists = (datasets.Sequence(animals), [[], [2], [1], [0, 1]] * 5)
    rows = split(marks=lists, x=(datasets.Value("float32"), [number / 4 for number in range(20)]))
    options = {"target_key": "marks", "target_kind": "labels"}
    data = open_data(saved(tmp_path, rows, test_split=None, options=options))
    assert (data.target_kind, data.class_names) == ("labels", ("eel", "dog", "cat"))
    by_name = dict(zip(data.splits["train"].image_names, data.splits["train"].labels.tolist(), strict=True))
    assert all(
        row == [[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 1, 0]][int(name.split("/")[1]) % 4] for name, row in by_name.items()
    )
    options = {"target_key": ["x"], "target_kind": "values"}
    values = open_data(
        saved(
            tmp_path / "values",
            rows,
            split(4, 20, marks=(lists[0], [[2]] * 4), x=(rows.features["x"], [1.5] * 4)),
            options=options,
        )
    )
    assert values.inventory.test.values[0].mean == 1.5
    for wrong, message in (
        ({"target_kind": "values"}, r"data\.options\.target_key: None: must name the columns of the targets"),
        ({"target_kind": "values", "target_key": "y"}, r"data\.options\.target_key: 'y': .* has the columns image, marks, x"),
        ({"target_key": ["x", "marks"]}, r"must be one column for target_kind: class"),
    ):
        with pytest.raises(InvalidInput, match=message):
            open_data(DataSpec(name=f"hfds/{tmp_path / 'set'}", image_size=8, options=wrong))


@pytest.mark.parametrize("hidden", [-1, None])
def test_hidden_labels_in_lists_are_refused(tmp_path, hidden):
    """-1 would be the last class, by Python's negative index."""
    rows, test = (
        split(4, first, marks=(datasets.Sequence(ANIMALS), [[0], [1], last, last])) for first, last in ((0, [2]), (4, [hidden]))
    )
    spec = saved(tmp_path, rows, test, test_split="validation", options={"target_key": "marks", "target_kind": "labels"})
    message = (
        rf"data\.test_split: 'validation': validation/2 \(one of 2\) has \[{hidden}\] as marks; must be numbers from 0 to 2"
    )
    with pytest.raises(InvalidInput, match=message):
        open_data(spec)


def test_a_folder_of_parquet_files_is_read_without_the_network(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    folder = tmp_path / "parquet"
    folder.mkdir()
    split(label=LABELS).to_parquet(folder / "train-00000-of-00001.parquet")
    split(4, 20, label=(ANIMALS, [0, 1, 1, 0])).to_parquet(folder / "test-00000-of-00001.parquet")
    data = open_data(DataSpec(name=f"hfds/{folder}", root=str(tmp_path / "cache"), image_size=8, test_split="test"))
    assert data.class_names == ("cat", "dog", "eel")
    assert (data.inventory.test.images, data.splits["test"].data.read(1)) == (4, png(21)["bytes"])
