"""Files in folders and in a real S3 server, which fails now and then."""

import threading
import time

import pytest

from explorer import InvalidInput
from explorer.ledger import Ledger, find_sweep
from explorer.storage import Storage
from tests.ledger.test_ledger import make_header, make_record


@pytest.fixture(params=["folder", "memory", "s3"])
def storage(request, tmp_path):
    if request.param == "s3":
        request.getfixturevalue("s3")
        return Storage(f"s3://bucket/{tmp_path.name}")
    return Storage(tmp_path / "folder" if request.param == "folder" else f"memory://{tmp_path.name}")


def test_files_are_written_read_listed_and_removed(storage):
    assert not storage.exists("a/one")
    assert storage.entries("a") == []
    storage.clear()  # nothing there
    storage.remove("a/one")
    with pytest.raises(FileNotFoundError):
        storage.read("a/one")
    before = time.time()
    storage.write("a/two", b"")
    storage.write("a/one", b"123")
    storage.write("a/b/three", b"1")
    storage.write("a/one", b"1234")
    assert storage.exists("a/one")
    assert storage.read("a/one") == b"1234"
    entries = storage.entries("a")
    assert [(entry.name, entry.size) for entry in entries] == [("one", 4), ("two", 0)]
    assert all(abs(entry.modified - before) < 1000 for entry in entries)
    storage.remove("a/one")
    assert [entry.name for entry in storage.entries("a")] == ["two"]
    storage.clear()
    assert storage.entries("a") == []


def test_of_many_that_create_a_file_exactly_one_succeeds(storage):
    outcomes, together = [], threading.Barrier(8)

    def create(number):
        together.wait()
        try:
            storage.create("lock", bytes([number]))
            outcomes.append(number)
        except FileExistsError:
            pass

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [bytes([number]) for number in outcomes] == [storage.read("lock")]
    assert [entry.name for entry in storage.entries()] == ["lock"]


def test_a_ledger_on_a_server_that_refuses_every_third_request_is_written_and_read(s3, tmp_path):
    ledger = Ledger(f"s3://bucket/{tmp_path.name}/s")
    s3.fail_every = 3
    try:
        ledger.create(make_header())
        records = [make_record(f"25pct-staged-{number:03d}", finished=number) for number in range(1, 8)]
        for record in records:
            ledger.start(record.trial)
        for record in records[:5]:
            ledger.append(record)
        assert Ledger(ledger.location).records() == records[:5]
        assert ledger.header() == make_header()
        assert ledger.unfinished(records[:5]) == [record.trial for record in records[5:]]
    finally:
        s3.fail_every = 0


def test_an_outage_is_waited_for_and_a_lasting_one_is_one_line(s3, tmp_path):
    ledger = Ledger(f"s3://bucket/{tmp_path.name}/s")
    s3.out_of_order.set()
    try:
        with pytest.raises(InvalidInput, match=r"storage: 's3://.*': cannot be read: .*Service Unavailable"):
            _ = Ledger(ledger.location, patience_seconds=0.1).exists
        seen = len(s3.requests)

        def end_after_two_attempts():
            while len(s3.requests) < seen + 2:
                time.sleep(0.01)
            s3.out_of_order.clear()

        thread = threading.Thread(target=end_after_two_attempts)
        thread.start()
        ledger.create(make_header())
        thread.join()
        assert ledger.header() == make_header()
    finally:
        s3.out_of_order.clear()


def test_what_cannot_pass_is_reported_at_once_in_one_line(s3, monkeypatch):
    with pytest.raises(InvalidInput, match=r"storage: 's3://no-such-bucket/s': cannot be written: .*bucket does not exist"):
        Ledger("s3://no-such-bucket/s").create(make_header())
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    type(Storage("s3://bucket/s")._fs).clear_instance_cache()
    with pytest.raises(InvalidInput, match=r"storage: .*: cannot be read: Could not connect to the endpoint URL"):
        _ = Ledger("s3://bucket/s", patience_seconds=0).exists
    type(Storage("s3://bucket/s")._fs).clear_instance_cache()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(InvalidInput, match=r"storage: 's3://bucket/s': cannot be read: Unable to locate credentials"):
        find_sweep("s3://bucket/s")
    type(Storage("s3://bucket/s")._fs).clear_instance_cache()
