"""What tar files hold beside images and labels: each case is refused or decided by a stated rule."""

import io
import os
import shutil
import tarfile

import pytest
from PIL import Image

from explorer import InvalidInput
from explorer.data import open_data
from tests.data.conftest import folder_spec


def image(number) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 0, 0)).save(file, "png")
    return file.getvalue()


def write(path, files):
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def samples(first, count):
    """Images with alternating labels."""
    for number in range(first, first + count):
        yield f"{number:04d}.png", image(number)
        yield f"{number:04d}.cls", str(number % 2).encode()


def opened(root, files, **settings):
    """A data set whose training images include the given files; there are 20 other ones, and 4 test images."""
    write(root / "train-000.tar", [*samples(0, 20), *files])
    write(root / "validation-000.tar", samples(100, 4))
    return open_data(folder_spec(root, name="wds", **settings))


LABEL = ("a.cls", b"1")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([("a.png", image(0)), ("a.jpg", image(1)), LABEL], r"a has several images: a\.png, a\.jpg"),
        ([("a.png", image(0)), ("a.png", image(1)), LABEL], r"it has a\.png twice"),
        ([("a.png", image(0)), LABEL, ("a.CLS", b"0")], r"a has several labels: a\.cls, a\.CLS"),
        ([("a.png", image(0)), LABEL, ("a.fine.cls", b"0")], r"a\.fine\.cls may be a label, but that of a is a\.cls"),
        ([("a.png", image(0)), ("a.json", b'{"label": 1}')], r"a has no label \(a\.cls\); it has a\.json"),
        ([("a.seg.png", image(0)), LABEL], r"a has a label and no image \(a\.jpg or another .*\); it has a\.seg\.png"),
        ([("a.png", image(0)), ("a.cls", b"cat")], r"a\.cls must hold an integer, not b'cat'"),
        ([("a.png", image(0)), ("a.cls", b"1_0")], r"a\.cls must hold an integer, not b'1_0'"),
        ([("a.png", image(0)), ("a.cls", b"1.0")], r"a\.cls must hold an integer, not b'1\.0'"),
        ([("x/a.png", image(0)), ("y/a.cls", b"1")], r"x/a has no label \(x/a\.cls\)"),
        ([("a.png", image(0)), ("a.cls", b"-1")], r"1 of 21 images have no label .* for example train-000\.tar/a\.png"),
    ],
)
def test_a_sample_whose_image_or_label_is_not_clear_is_refused(tmp_path, files, message):
    with pytest.raises(InvalidInput, match=message):
        opened(tmp_path, files)


def test_files_beside_image_and_label_are_counted(tmp_path):
    """A mask is not the image, a text is not the label, and keys in different folders differ."""
    files = [
        ("x/a.seg.png", image(250)),
        ("x/a.png", image(30)),
        ("x/a.cls", b" 1\n"),
        ("x/a.json", b'{"label": 7}'),
        ("y.1/a.cls", b"0"),
        ("y.1/a.PNG", image(31)),
        ("._0001.png", b"left by an archiver"),
        ("LICENSE", b""),
        ("index.json", b"{}"),
    ]
    data = opened(tmp_path, files, train_split="train-{000..000}.tar")
    split = data.inventory.train
    assert split.images + data.inventory.validation.images == 22
    assert split.passed_over == {
        ".seg.png: neither image nor label": 1,
        ".json: neither image nor label": 2,
        "hidden files, links and files without an extension": 2,
    }
    shards = data.splits["train"].data
    masked = shards.names.index("train-000.tar/x/a.png")
    assert (shards[masked][0].getpixel((0, 0)), shards.targets[masked]) == ((30, 0, 0), 1)
    assert shards.read(masked) == image(30)
    upper = shards.names.index("train-000.tar/y.1/a.PNG")
    assert (shards[upper][0].getpixel((0, 0)), shards.targets[upper]) == ((31, 0, 0), 0)


def test_names_that_are_not_utf_8_can_be_read_and_printed(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    data = opened(tmp_path, [(f"{name}.png", image(30)), (f"{name}.cls", b"1"), (f"{name}.\udce9", b"")])
    shards = data.splits["train"].data
    assert shards[shards.names.index("train-000.tar/caf\\xe9.png")][0].getpixel((0, 0)) == (30, 0, 0)
    assert data.inventory.train.passed_over == {".\\xe9: neither image nor label": 1}
    data.inventory.model_dump_json()
    with pytest.raises(InvalidInput, match=r"caf\\xe9 has no label") as error:
        opened(tmp_path, [(f"{name}.png", image(30))], num_workers=1)
    str(error.value).encode()


def test_an_archive_that_is_cut_off_or_followed_by_another_is_refused(tmp_path):
    """Both would lose images in silence: tarfile stops at the end that it finds."""
    opened(tmp_path, [])
    whole = (tmp_path / "train-000.tar").read_bytes()
    end = len(whole.rstrip(b"\0")) + 511 & ~511
    (tmp_path / "train-000.tar").write_bytes(whole[:end])
    with pytest.raises(InvalidInput, match=r"data\.root: 'train-000\.tar': .*: it is cut off"):
        open_data(folder_spec(tmp_path, name="wds", num_workers=1))
    (tmp_path / "train-000.tar").write_bytes(whole + whole)
    with pytest.raises(InvalidInput, match="there is more after the end of the archive"):
        open_data(folder_spec(tmp_path, name="wds", num_workers=1))


def test_a_prefix_is_not_that_of_another_split(tmp_path):
    """`train` is not `training` or `train_extra`'s neighbour `t`; shards in two splits are refused."""
    opened(tmp_path, [])
    shutil.copy(tmp_path / "train-000.tar", tmp_path / "training.tar")
    assert open_data(folder_spec(tmp_path, name="wds")).train_images == 18
    for split in ("t", "", "tr*", "trian"):
        with pytest.raises(InvalidInput, match=rf"data\.train_split: '{split.replace('*', '.')}': there is no "):
            open_data(folder_spec(tmp_path, name="wds", train_split=split))
    with pytest.raises(
        InvalidInput, match=r"data\.test_split: 'train-\{000\.\.000\}\.tar': has 20 images of data\.train_split"
    ):
        open_data(folder_spec(tmp_path, name="wds", test_split="train-{000..000}.tar"))
