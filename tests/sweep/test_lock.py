"""One driver per sweep: file locks, and leases in folders without locks and in object stores, on a real S3 server too."""

import errno
import fcntl
import importlib
import json
import subprocess
import sys
import threading
from contextlib import ExitStack

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from explorer import InvalidInput, file_lock
from explorer.storage import Storage
from explorer.sweep.lease import Lease, LeaseTiming, LockHolder
from explorer.sweep.lock import _locks_hold_on_one_host_only, only_driver
from tests.conftest import wait_until

QUICK = LeaseTiming(renew_seconds=0.05, retry_seconds=0.05, lost_after_seconds=120, dead_after_seconds=120, settle_seconds=0.1)
IMPATIENT = LeaseTiming(
    renew_seconds=0.05, retry_seconds=0.05, lost_after_seconds=120, dead_after_seconds=0.3, settle_seconds=0.1
)
RACE = LeaseTiming(renew_seconds=0.05, retry_seconds=0.05, lost_after_seconds=120, dead_after_seconds=0.3, settle_seconds=2)
REFUSED = "a sweep has one driver at a time"
STORES = ["folder", "memory", "overwriting", "s3"]
stores = pytest.mark.parametrize("location", STORES, indirect=True)


class NotExclusive(MemoryFileSystem):
    """A store that overwrites whatever is there, as file systems that know no exclusive creation do."""

    protocol = "overwriting"
    cachable = False
    store, pseudo_dirs = {}, [""]

    def pipe_file(self, path, value, mode="overwrite", **_):
        super().pipe_file(path, value)


fsspec.register_implementation("overwriting", NotExclusive, clobber=True)


@pytest.fixture
def location(request, tmp_path):
    if request.param == "s3":
        request.getfixturevalue("s3")
        return f"s3://bucket/{tmp_path.name}/sweep"
    return str(tmp_path) if request.param == "folder" else f"{request.param}://{tmp_path.name}/sweep"


def lease(location, timing=QUICK, say=lambda line: None):
    return Lease(location, timing, say)


def notes(location) -> dict[str, LockHolder]:
    storage = Storage(location)
    return {entry.name: LockHolder.parse(storage.read(f"driver/{entry.name}")) for entry in storage.entries("driver")}


def write(location, number=1, **content):
    """A note of another host, or of this one with its `host` and `pid`."""
    note = {"driver": "elsewhere:1", "host": "elsewhere", "pid": 1, "process_started": "1", "token": "other", **content}
    Storage(location).write(f"driver/{number:06d}.json", json.dumps(note).encode())


def held_elsewhere(code, location):
    """Another process that holds a lock; it has printed that it does."""
    lines = f"import time\nfrom explorer.sweep.lock import only_driver\nfrom explorer.sweep.lease import Lease, LeaseTiming\nwith {code}:"
    lines += "\n    print('held', flush=True)\n    time.sleep(10_000)\n"
    process = subprocess.Popen([sys.executable, "-c", lines, location], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_driver_is_refused_and_a_killed_one_leaves_no_lock(tmp_path):
    location = str(tmp_path / "sweep")
    other = held_elsewhere(f"only_driver({location!r})", location)
    with pytest.raises(InvalidInput, match=rf"sweep: .* is being run by .*:{other.pid}; {REFUSED}"), only_driver(location):
        pass
    other.kill()
    other.communicate()
    with only_driver(location) as lock, pytest.raises(InvalidInput, match=REFUSED), only_driver(location):
        pass
    assert lock.lost is None
    assert not (tmp_path / "sweep" / "driver").exists()  # no lease was needed


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL])
def test_where_files_cannot_be_locked_there_is_a_lease(tmp_path, monkeypatch, code):
    def flock(*_):
        raise OSError(code, "as Lustre without the flock option, and NFS without its lock server")

    monkeypatch.setattr(fcntl, "flock", flock)
    with only_driver(str(tmp_path), QUICK) as lock:
        assert list(notes(str(tmp_path))) == ["000001.json"]
        with pytest.raises(InvalidInput, match=REFUSED), only_driver(str(tmp_path), QUICK):
            pass
    assert lock.lost is None


def test_a_platform_without_file_locks_has_a_lease(tmp_path, monkeypatch):
    monkeypatch.setattr(file_lock, "fcntl_module", lambda: None)
    with only_driver(str(tmp_path), QUICK):
        assert list(notes(str(tmp_path))) == ["000001.json"]


def test_the_module_can_be_imported_without_fcntl():
    code = "import sys; sys.modules['fcntl'] = None; import explorer.sweep.lock; from explorer.file_lock import *; assert not fcntl_module()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=1500)


def test_locks_that_other_hosts_do_not_see_are_not_relied_on(tmp_path):
    """Lines as Linux writes them for NFS and Lustre."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "2 1 0:50 / /home rw,relatime - nfs4 server:/home rw,vers=4.2,local_lock=none,addr=10.0.0.1\n"
        "3 1 0:51 / /data rw,relatime - nfs server:/data rw,vers=3,nolock,proto=tcp,local_lock=all\n"
        "4 1 0:52 / /lustre rw - lustre mds:/fs rw,flock\n"
        "5 1 0:53 / /lustre/my\\040scratch rw - lustre mds:/scratch rw,localflock\n"
    )
    there = {
        "/": False,
        "/home/me": False,
        "/data/sweeps": True,
        "/datasets": False,
        "/lustre/a": False,
        "/lustre/my scratch/a": True,
    }
    assert {
        path: _locks_hold_on_one_host_only(importlib.import_module("pathlib").Path(path), mounts) for path in there
    } == there
    assert not _locks_hold_on_one_host_only(tmp_path, tmp_path / "missing")


@stores
def test_a_second_lease_is_refused_and_the_next_driver_has_it_at_once(location):
    for number in (1, 2):
        with lease(location) as lock, pytest.raises(InvalidInput, match=REFUSED), lease(location):
            pass
        assert lock.lost is None
        assert [(name, note.released) for name, note in notes(location).items()] == [(f"{number:06d}.json", True)]


@stores
@pytest.mark.parametrize("dead_note", [False, True])
def test_of_drivers_that_start_at_the_same_time_exactly_one_enters(location, dead_note):
    if dead_note:
        write(location)
    drivers = 5
    together, leave = threading.Barrier(drivers), threading.Event()
    entered, refused = [], []

    def drive():
        together.wait()
        try:
            with lease(location, RACE) as lock:
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


@pytest.mark.parametrize("location", ["folder", "s3"], indirect=True)
def test_a_dead_drivers_lease_on_the_same_host_is_taken_over_at_once(location):
    other = held_elsewhere(f"Lease({location!r}, LeaseTiming(settle_seconds=0.1), print)", location)
    said = []
    with pytest.raises(InvalidInput, match=rf"being run by .*:{other.pid}; {REFUSED}"), lease(location, QUICK, said.append):
        pass
    other.kill()
    other.communicate()
    with lease(location, QUICK, said.append) as lock:  # an older note would be watched for 120 s
        assert lock.lost is None
    assert said == []
    assert list(notes(location)) == ["000002.json"]


def test_a_process_id_that_is_used_again_does_not_keep_a_lease(tmp_path):
    own = LockHolder.of_this_process()
    write(str(tmp_path), host=own.host, pid=own.pid, process_started="1")  # another process had this id
    with lease(str(tmp_path)) as lock:
        assert lock.lost is None


@stores
@pytest.mark.parametrize("content", [None, b"", b"[]", b"{", b'{"driver": 3}'])
def test_a_note_that_does_not_change_is_that_of_a_dead_driver(location, content):
    if content is None:
        write(location)
    else:
        Storage(location).write("driver/000001.json", content)
    said = []
    with lease(location, IMPATIENT, said.append) as lock:
        assert lock.lost is None
    assert len(said) == 1
    assert "was running this sweep: waiting up to 0.3 s for a sign of it" in said[0]


@stores
def test_a_driver_of_another_host_that_renews_its_note_is_alive_whatever_its_clock_says(location):
    write(location)
    refused, patient = [], LeaseTiming(dead_after_seconds=100, settle_seconds=0.1)
    started = threading.Event()

    def drive():
        try:
            lease(location, patient, lambda line: started.set()).__enter__()
        except InvalidInput as error:
            refused.append(error)

    thread = threading.Thread(target=drive)
    thread.start()
    assert started.wait(200)
    write(location, renewals=1)
    thread.join(200)
    assert "being run by elsewhere:1" in str(refused[0])
    assert list(notes(location)) == ["000001.json"]  # it is not ours to remove


@stores
def test_a_driver_whose_lease_is_taken_is_told_and_leaves_the_other_note(location):
    with lease(location) as lock:
        write(location, 2, driver="elsewhere:2")
        wait_until(lambda: lock.lost, 200)
    assert str(lock.lost) == f"sweep: '{location}': stopped: elsewhere:2 has taken over; {REFUSED}"
    assert notes(location)["000002.json"].driver == "elsewhere:2"
    assert not notes(location)["000002.json"].released


def test_a_driver_that_comes_back_after_two_others_ran_does_not_enter(tmp_path):
    """It judged note 1 dead and was suspended; meanwhile the drivers 2 and 3 came, and 2 is not there any more."""
    location = str(tmp_path)
    write(location, 1)
    late = lease(location, IMPATIENT)
    late._is_dead = lambda *_: (
        write(location, 3, driver="elsewhere:3") or Storage(location).remove("driver/000001.json") or True
    )
    with pytest.raises(InvalidInput, match="being run by elsewhere:3"):
        late.__enter__()


def test_renewal_survives_failures_and_a_driver_that_cannot_renew_stops_by_itself(s3, tmp_path):
    location = f"s3://bucket/{tmp_path.name}/renewal"
    try:
        with ExitStack() as stack:
            lock = stack.enter_context(lease(location))
            s3.out_of_order.set()
            seen = len(s3.requests)
            wait_until(lambda: len(s3.requests) > seen + 3, 200)  # renewals fail
            s3.out_of_order.clear()
            before = notes(location)["000001.json"].renewals
            wait_until(lambda: notes(location)["000001.json"].renewals > before, 200)
            assert lock.lost is None
        short = LeaseTiming(renew_seconds=0.05, retry_seconds=0.05, lost_after_seconds=1, settle_seconds=0.1)
        with lease(location, short) as lock:
            s3.out_of_order.set()
            wait_until(lambda: lock.lost, 200)
            assert "its lock could not be renewed (" in str(lock.lost)
        with (
            pytest.raises(InvalidInput, match=r"storage: .*cannot be written: .*(try again|Unavailable)"),
            lease(f"{location}-2"),
        ):
            pass
    finally:
        s3.out_of_order.clear()
