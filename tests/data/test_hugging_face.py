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
