"""One driver per sweep, on folders and on storage without file locks."""

import importlib
import json
import subprocess
import sys
import threading
import time

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from explorer import InvalidInput
from explorer.sweep.lock import LockTiming, only_driver
from tests.conftest import wait_until

QUICK = LockTiming(renew_seconds=0.05, retry_seconds=0.05, dead_after_seconds=120, settle_seconds=0.3)
RACE = LockTiming(renew_seconds=0.05, retry_seconds=0.05, dead_after_seconds=120, settle_seconds=2)
REFUSED = "a sweep has one driver at a time"


class NotExclusive(MemoryFileSystem):
    """A store that overwrites whatever is there, as many object stores do, and that can be out of order."""

    protocol = "overwriting"
    cachable = False
    store, pseudo_dirs = {}, [""]
    out_of_order = threading.Event()

    def pipe_file(self, path, value, mode="overwrite", **_):
        if self.out_of_order.is_set():
            raise OSError("503")
        if mode == "create":
            raise ValueError("mode")
        super().pipe_file(path, value)


fsspec.register_implementation("overwriting", NotExclusive, clobber=True)
STORES = ["memory", "overwriting"]


@pytest.fixture
def location(request, tmp_path):
    return f"{request.param}://{tmp_path.name}/sweep"


stores = pytest.mark.parametrize("location", STORES, indirect=True)


def note(location) -> str:
    fs, path = fsspec.core.url_to_fs(f"{location}/driver.json")
    return path if fs.exists(path) else ""


def write(location, **content):
    fs, path = fsspec.core.url_to_fs(f"{location}/driver.json")
    fs.pipe_file(path, json.dumps(content).encode())


def test_a_second_driver_is_refused_and_a_killed_one_leaves_no_lock(tmp_path):
    location = str(tmp_path / "sweep")
    code = (
        "import time\n"
        "from explorer.sweep.lock import only_driver\n"
        f"with only_driver({location!r}):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(10_000)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    with pytest.raises(InvalidInput, match=rf"sweep: .* is being run by .*:{other.pid}; {REFUSED}"), only_driver(location):
        pass
    other.kill()
    other.communicate()
    with only_driver(location) as lock, pytest.raises(InvalidInput, match=REFUSED), only_driver(location):
        pass
    assert lock.lost is None


def test_a_platform_without_file_locks_is_refused_in_one_line(tmp_path, monkeypatch):
    original = importlib.import_module

    def import_module(name, *rest):
        if name == "fcntl":
            raise ImportError(name)
        return original(name, *rest)

    monkeypatch.setattr(importlib, "import_module", import_module)
    with (
        pytest.raises(InvalidInput, match=r"storage: .*this platform lacks; use Linux, macOS or WSL"),
        only_driver(str(tmp_path)),
    ):
        pass


def test_the_module_can_be_imported_without_fcntl():
    code = "import sys; sys.modules['fcntl'] = None; import explorer.sweep.lock"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=1500)


@stores
def test_on_a_store_the_second_driver_is_refused_and_the_note_is_removed_at_the_end(location):
    with only_driver(location, QUICK) as lock, pytest.raises(InvalidInput, match=REFUSED), only_driver(location, QUICK):
        pass
    assert lock.lost is None
    assert not note(location)
    with only_driver(location, QUICK):
        assert note(location)


@stores
@pytest.mark.parametrize("dead_note", [False, True])
@pytest.mark.parametrize("drivers", [2, 5])
def test_of_drivers_that_start_at_the_same_time_exactly_one_enters(location, dead_note, drivers):
    if dead_note:
        write(location, driver="elsewhere:1", alive=time.time() - 121, token="old")
    together, leave = threading.Barrier(drivers), threading.Event()
    entered, refused = [], []

    def drive():
        together.wait()
        try:
            with only_driver(location, RACE) as lock:
                entered.append(lock)
                leave.wait()
        except InvalidInput as error:
            refused.append(error)

    threads = [threading.Thread(target=drive) for _ in range(drivers)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(entered) + len(refused) == drivers, 200)
    assert len(entered) == 1
    assert all(REFUSED in str(error) for error in refused)
    assert entered[0].lost is None
    leave.set()
    for thread in threads:
        thread.join()
    assert not note(location)


@stores
@pytest.mark.parametrize(("age", "enters"), [(0, False), (100, False), (121, True)])
def test_an_old_note_is_that_of_a_dead_driver(location, age, enters):
    write(location, driver="elsewhere:1", alive=time.time() - age, token="other")
    if enters:
        with only_driver(location, QUICK):
            pass
    else:
        with pytest.raises(InvalidInput, match="being run by elsewhere:1"), only_driver(location, QUICK):
            pass
        assert note(location)  # it is not ours to remove


@stores
@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"alive": "now"}'])
def test_a_damaged_note_is_replaced(location, content):
    fs, path = fsspec.core.url_to_fs(f"{location}/driver.json")
    fs.pipe_file(path, content)
    with only_driver(location, QUICK) as lock:
        assert lock.lost is None


@stores
def test_a_driver_whose_note_is_replaced_is_told_and_leaves_the_other_note(location):
    with only_driver(location, QUICK) as lock:
        write(location, driver="elsewhere:2", alive=time.time(), token="other")
        wait_until(lambda: lock.lost, 200)
    assert str(lock.lost) == f"sweep: '{location}': stopped: elsewhere:2 has taken over; {REFUSED}"
    assert note(location)


def test_renewal_survives_errors_and_a_driver_that_cannot_renew_is_told(tmp_path):
    location = f"overwriting://{tmp_path.name}/renewal"
    patient = LockTiming(renew_seconds=0.05, retry_seconds=0.05, dead_after_seconds=1, settle_seconds=0.1)
    fs, path = fsspec.core.url_to_fs(f"{location}/driver.json")
    try:
        with only_driver(location, QUICK) as lock:
            NotExclusive.out_of_order.set()
            time.sleep(0.3)
            NotExclusive.out_of_order.clear()
            last = fs.cat_file(path)
            wait_until(lambda: fs.cat_file(path) != last, 200)  # renewed again
            assert lock.lost is None
        with only_driver(location, patient) as lock:
            NotExclusive.out_of_order.set()
            wait_until(lambda: lock.lost, 200)
        assert "its lock could not be renewed for 1 s (503)" in str(lock.lost)
        with pytest.raises(InvalidInput, match=r"storage: .*cannot be written: 503"), only_driver(f"{location}-2", QUICK):
            pass
    finally:
        NotExclusive.out_of_order.clear()
