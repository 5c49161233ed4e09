"""Files that users name are written whole, and nothing but files is replaced."""

import os
import threading

import pytest

from explorer.files import write_file


def test_a_link_is_followed(tmp_path):
    target, link = tmp_path / "kept" / "best.json", tmp_path / "best.json"
    target.parent.mkdir()
    link.symlink_to(target)
    write_file(link, "1")  # a link to what is not there yet
    assert (link.is_symlink(), target.read_text()) == (True, "1")
    write_file(link, "2")
    assert (link.is_symlink(), target.read_text()) == (True, "2")
    assert [each.name for each in target.parent.iterdir()] == ["best.json"]


def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_file(pipe, "content")
    reader.join(timeout=60)
    assert (read, pipe.is_fifo()) == (["content"], True)


@pytest.mark.parametrize("name", [".", "", "folder"])
def test_a_folder_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_file(name, "content")
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]
