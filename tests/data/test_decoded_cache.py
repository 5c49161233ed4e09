"""The file of decoded images: what is in it, how it is resumed, and when it is refused."""

import io
import json
import os
import re
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from explorer import InvalidInput, cli
from explorer.data import open_data
from explorer.data.decoded_cache import DecodedCache, reduced_size
from explorer.data.decoded_file import DecodedWriter
from explorer.errors import UnreadableImageError
from explorer.spec.data import CacheSpec
from tests.data.conftest import folder_spec


@pytest.fixture
def images(tmp_path):
    """Six training and four validation images of 30 x 20 pixels, each of one color."""
    for number in range(10):
        folder = tmp_path / "images" / ("train" if number < 6 else "validation") / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 20), (number, 2 * number, 255)).save(folder / f"{number}.png")
    return tmp_path / "images"


def cache_of(spec, **changes) -> DecodedCache:
    """With other settings of the cache, if there are changes."""
    changed = spec.model_copy(update={"cache": spec.cache.model_copy(update=changes)})
    return DecodedCache(changed, open_data(spec).splits)


@pytest.fixture
def spec(images, tmp_path):
    return folder_spec(
        images, test_split="validation", validation_split="other", cache=CacheSpec(folder=str(tmp_path / "cache"))
    )


@pytest.fixture(autouse=True)
def another_split(images):
    """Two validation images of colors of their own."""
    for number, label in enumerate("ab", start=20):
        folder = images / "other" / label
        folder.mkdir(parents=True)
        Image.new("RGB", (30, 20), (number, 2 * number, 255)).save(folder / f"{number}.png")


def test_all_splits_are_in_one_file(spec):
    cache = cache_of(spec)
    assert not cache.is_complete
    assert cache.needed_bytes() == 12 * 30 * 20 * 3
    file = cache.open_or_write()
    assert cache.first == {"train": 0, "validation": 6, "test": 8}
    reds = [int(file[number][0, 0, 0]) for number in range(12)]
    assert sorted(reds[:6]) == [0, 1, 2, 3, 4, 5]
    assert sorted(reds[6:8]) == [20, 21]
    assert file[0].shape == (20, 30, 3)
    assert (cache.folder / "pixels.bin").stat().st_size == 12 * 30 * 20 * 3


def test_larger_images_are_reduced_and_smaller_ones_kept(spec):
    assert cache_of(spec, short_side=10).open_or_write()[0].shape == (10, 15, 3)
    assert reduced_size(500, 375, 256) == (341, 256)  # 500 x 256 / 375 = 341.3
    assert reduced_size(100, 30, 32) == (100, 30)
    assert reduced_size(375, 500, None) == (375, 500)


def test_a_killed_writer_is_resumed_after_the_last_whole_image(spec):
    """Of four images that were written, the pixels of the last were not all on the disk."""
    cache = cache_of(spec)
    writer = DecodedWriter(cache.folder, cache.header)
    for number in range(4):
        writer.add(cache.decode(cache.image(number)), cache.image(number).stamp)
    writer.close()
    with (cache.folder / "pixels.bin").open("r+b") as pixels:
        pixels.truncate(4 * 1800 - 100)
    with pytest.raises(InvalidInput, match=r"data\.cache: .*is not complete; `explorer cache` resumes it"):
        cache.open()
    console = Console(record=True, width=200)
    file = cache.open_or_write(console)
    assert re.search(r"decoding 9 images into .*, after 3 that are there: about 0\.0162 MB of .* free", console.export_text())
    assert all(np.array_equal(file[number], cache.decode(cache.image(number))) for number in range(12))


def test_a_source_that_changed_is_refused_and_named(spec, images):
    cache_of(spec).open_or_write()
    path = images / "train" / "b" / "3.png"
    Image.new("RGB", (30, 20), (99, 99, 99)).save(path)
    os.utime(path, ns=(1, 1))
    with pytest.raises(
        InvalidInput, match=r"is out of date: train/b/3\.png changed since it was written; `explorer cache --rep"
    ):
        cache_of(spec).open_or_write()


def test_a_changed_file_of_torchvisions_folders_is_refused(spec, images):
    """The image at place 3 is none of the 8 that are compared by their pixels."""
    of_torch = spec.model_copy(update={"name": "torch/image_folder"})
    cache = cache_of(of_torch)
    cache.open_or_write()
    assert image_name(cache, 3) == "train/b/1.png"
    os.utime(images / "train" / "b" / "1.png", ns=(1, 1))
    with pytest.raises(InvalidInput, match=r"is out of date: train/b/1\.png changed since it was written"):
        cache_of(of_torch).open()


def test_a_changed_tar_file_is_refused(tmp_path):
    """Its image at place 1 of 16 is none of the 8 that are compared by their pixels."""

    def write(red):
        for first, file in ((0, "train-000.tar"), (50, "validation-000.tar")):
            with tarfile.open(tmp_path / file, "w") as archive:
                for number in range(first, first + 8):
                    content = io.BytesIO()
                    Image.new("RGB", (8, 8), (red if number == 1 else number, 0, 0)).save(content, "bmp")
                    for name, data in ((f"{number}.bmp", content.getvalue()), (f"{number}.cls", b"%d" % (number % 2))):
                        entry = tarfile.TarInfo(name)
                        entry.size = len(data)
                        archive.addfile(entry, io.BytesIO(data))
            os.utime(tmp_path / file, ns=(red, red))

    write(100)
    of_shards = folder_spec(tmp_path, name="wds", cache=CacheSpec(folder=str(tmp_path / "cache")), num_workers=0)
    cache_of(of_shards).open_or_write()
    cache_of(of_shards).open()
    write(200)
    with pytest.raises(InvalidInput, match=r"is out of date: train-000\.tar/\d\.bmp changed since it was written"):
        cache_of(of_shards.model_copy(update={"num_workers": 1})).open()  # which opens it anew


def image_name(cache, place) -> str:
    image = cache.image(place)
    return image.data.names[image.number]


def test_a_source_that_does_not_tell_is_compared_by_its_pixels(spec):
    class WithoutStamps:
        """The same images, each one level brighter than before."""

        def __init__(self, data, brighter):
            self.data, self.names, self.brighter = data, data.names, brighter

        def __getitem__(self, number):
            image, label = self.data[number]
            return Image.eval(image, lambda value: min(255, value + self.brighter)), label

    def cache(brighter):
        splits = open_data(spec).splits
        return DecodedCache(
            spec, {r: type(s)(**{**vars(s), "data": WithoutStamps(s.data, brighter)}) for r, s in splits.items()}
        )

    cache(0).open_or_write()
    cache(0).open()
    with pytest.raises(InvalidInput, match="is out of date"):
        cache(1).open()


def test_other_images_sizes_versions_and_damage_are_refused(spec, images):
    cache = cache_of(spec)
    cache.open_or_write()
    with pytest.raises(InvalidInput, match=r"has short_side None, not 10; .* or name another folder in data\.cache\.folder"):
        cache_of(spec, short_side=10).open_or_write()
    without = spec.model_copy(update={"skip_files": ("train/a/0.png",)})
    with pytest.raises(InvalidInput, match="holds other images than this data set has"):
        cache_of(without).open_or_write()
    pixels = np.memmap(cache.folder / "pixels.bin", np.uint8, "r+")
    pixels[5] ^= 1
    pixels.flush()
    with pytest.raises(InvalidInput, match=r"is damaged \(image 0\)"):
        cache.open()
    header = json.loads((cache.folder / "header.json").read_text())
    (cache.folder / "header.json").write_text(json.dumps({**header, "version": 99}))
    with pytest.raises(InvalidInput, match="has version 99, and this release reads 1"):
        cache.open()


def test_too_little_space_is_refused_before_anything_is_written(spec, monkeypatch):
    cache = cache_of(spec)
    monkeypatch.setattr(DecodedCache, "free_bytes", lambda _: 20_000)
    with pytest.raises(InvalidInput, match=r"needs about 0\.0216 MB, and 0\.02 MB are free; set data\.cache\.short_side or"):
        cache.open_or_write()
    assert (cache.folder / "pixels.bin").stat().st_size == 0


def test_an_image_that_cannot_be_read_is_named_and_what_was_written_is_kept(spec, images):
    broken = sorted((images / "validation" / "b").iterdir())[-1]
    broken.write_bytes(broken.read_bytes()[:60])
    cache = cache_of(spec)
    with pytest.raises(UnreadableImageError, match=rf"validation/b/{broken.name} cannot be read"):
        cache.open_or_write()
    assert DecodedWriter(cache.folder, cache.header).written == 8


def test_the_command_writes_verifies_and_replaces(spec, images, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    task = tmp_path / "task.yaml"
    data = {**spec.model_dump(mode="json", exclude_defaults=True)}
    recipe = {"epochs": 1, "batch_size": 2, "learning_rate": 1e-3}
    task.write_text(json.dumps({"model": {"name": "vit_tiny_patch16_224"}, "data": data, "recipe": recipe}))

    def cache(*options):
        monkeypatch.setattr(sys, "argv", ["explorer", "cache", str(task), *options])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out + printed.err

    code, printed = cache()
    assert (code, "decoding 12 images" in printed) == (0, True), printed
    assert "verifying 12 images" in cache()[1]
    os.utime(images / "train" / "a" / "0.png", ns=(1, 1))
    code, printed = cache()
    assert code == 2
    assert printed.count("\n") == 1
    assert "train/a/0.png changed" in printed
    assert cache("--replace")[0] == 0


def test_two_writers_write_one_file(spec):
    """The second one waits for the first, and finds the file complete. Locks of open files tell threads apart as processes."""
    caches = [cache_of(spec) for _ in range(2)]
    with ThreadPoolExecutor(2) as threads:
        files = list(threads.map(lambda cache: cache.open_or_write(), caches))
    assert [len(file) for file in files] == [12, 12]
    assert (caches[0].folder / "pixels.bin").stat().st_size == 12 * 1800
