"""Interrupted sweeps on real Ray, and a whole sweep on a real S3 server: killed, interrupted, resumed, extended, reported."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import ray

from explorer import InvalidInput, SearchSpace, Sweep
from explorer.frontier import best_schedule, trials_frame
from explorer.ledger import find_sweep
from explorer.report.page import write_report
from explorer.spec.budget import Budget
from explorer.storage import Storage
from explorer.sweep.lock import only_driver
from explorer.sweep.trial import STORE
from tests.conftest import RAY_SWEEP_MARKS, RAY_SWEEP_SECONDS, TINY_SPACE, quiet, wait_until
from tests.sweep.test_faults import processes_in

pytestmark = RAY_SWEEP_MARKS
LONG_SPACE = TINY_SPACE.replace("epochs: 2", "epochs: 12").replace("[25%, 50%]", "[50%]")


@pytest.mark.nightly
def test_ctrl_c_and_sigterm_end_a_sweep_and_running_it_again_resumes(local_ray, heeds_ctrl_c, space_file, tmp_path, caplog):
    space_file.write_text(LONG_SPACE)
    console = quiet()
    sweep = Sweep(SearchSpace.load(space_file), tmp_path / "sweeps", console=console)
    states = Storage(f"{sweep.location}/{STORE}")
    kept = {}
    for number, error in ((signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)):
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        seen = len(states.entries())

        def interrupt(number=number, seen=seen):
            wait_until(lambda: len(states.entries()) > seen)
            os.kill(os.getpid(), number)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(error) as caught:
            sweep.run()
        thread.join()
        done = len(sweep.ledger.records())
        line = f"interrupted after {done} of 3 trials; the same command resumes"
        assert caught.value.args == ((line,) if error is KeyboardInterrupt else (143,))
        assert line in console.file.getvalue()
        assert {number: signal.getsignal(number) for number in before} == before
        assert sweep.ledger.unfinished(sweep.ledger.records())  # what ran is not a failed trial,
        names = {entry.name for entry in states.entries()}
        assert names >= kept.keys()  # and its states are there
        kept = dict.fromkeys(names)
        with only_driver(sweep.location):  # the lock is free
            pass
        wait_until(lambda: ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"])  # no trial is left behind
    assert "restore" not in caplog.text
    assert "restore" not in console.file.getvalue()
    sweep.run()
    records = sweep.ledger.records()
    assert len(records) == 3
    assert all(record.status == "completed" for record in records)
    assert sum(record.outcome.executed_flops for record in records) < sum(record.outcome.planned_flops for record in records)


@pytest.mark.nightly
def test_a_whole_sweep_on_an_object_store(s3, tmp_path, request):
    space_file = tmp_path / "long.yaml"
    space_file.write_text(LONG_SPACE)
    command = [sys.executable, "-m", "explorer", "sweep", str(space_file), "--storage", "s3://bucket/sweeps"]
    location = "s3://bucket/sweeps/tiny"
    states = Storage(f"{location}/{STORE}")

    def start(*options: str) -> subprocess.Popen:
        with (tmp_path / "output").open("w") as output:
            process = subprocess.Popen(
                [*command, *options],
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd=tmp_path,
                # Background jobs of a shell ignore SIGINT, and their children inherit that.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )
        request.addfinalizer(process.kill)
        return process

    def printed() -> str:
        return (tmp_path / "output").read_text()

    first = start()
    wait_until(lambda: Storage(location).exists("sweep.json"))
    ledger = find_sweep(location)
    wait_until(lambda: ledger.count() and states.entries())
    with pytest.raises(InvalidInput, match=rf"is being run by .*:{first.pid}; a sweep has one driver"), only_driver(location):
        pass
    first.kill()
    first.wait()
    wait_until(lambda: not processes_in(tmp_path))  # its Ray processes follow it
    known = ledger.records()

    second = start("--trials", "3")  # an extension; the dead driver's lease is taken over at once
    wait_until(lambda: "resuming" in printed())  # and Ray starts
    os.killpg(second.pid, signal.SIGINT)  # as a terminal does: to all processes of the command
    assert second.wait(RAY_SWEEP_SECONDS) == 130
    done = len(ledger.records())
    assert f"resuming: {len(known)} of 4 trials" in printed()
    assert f"interrupted after {done} of 4 trials; the same command resumes" in printed()
    assert "waiting" not in printed()
    assert "Traceback" not in printed()
    assert "restore" not in printed()

    s3.fail_every = 15  # and from now on the storage fails now and then
    try:
        assert start("--trials", "3").wait(RAY_SWEEP_SECONDS) == 0, printed()
    finally:
        s3.fail_every = 0
    records = ledger.records()
    assert len(records) == 4
    assert all(record.status == "completed" and set(record.versions) == {"torch", "timm"} for record in records)
    assert all(record in records for record in known)
    assert sum(record.outcome.executed_flops for record in records) < sum(record.outcome.planned_flops for record in records)
    assert ledger.passed_over == {}
    assert states.entries() == []  # cleared at the end
    assert not any("/tune/" in path for _, path in s3.requests)

    best = best_schedule(trials_frame(records), ledger.header(), Budget.parse("50%"))
    assert best.provenance.validation == max(r.outcome.validation for r in records if r.trial.kind == "staged")
    assert Path(write_report(ledger, tmp_path / "report").page).exists()
