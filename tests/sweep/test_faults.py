"""Faults that a sweep survives, on real Ray: no finished result is lost, trials fail alone, the same command resumes."""

import os
import resource
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import yaml

import explorer.sweep.tuning as tuning
from explorer import InvalidInput, SearchSpace, Sweep
from explorer.ledger import Ledger, Trial
from explorer.search.trial_plan import compile_trial
from explorer.sweep.trial import STORE, run_trial
from explorer.training.stage_store import interrupted_key, prefix_keys
from tests.conftest import RAY_SWEEP_MARKS, RAY_SWEEP_SECONDS, TINY_SPACE, quiet, wait_until

pytestmark = RAY_SWEEP_MARKS
LONG_SPACE = TINY_SPACE.replace("epochs: 2", "epochs: 8").replace("[25%, 50%]", "[50%]")


def with_task(space: SearchSpace, **sections) -> SearchSpace:
    """The space with other settings in some sections of its task."""
    content = space.model_dump()
    return SearchSpace.model_validate({**content, **{name: {**content[name], **new} for name, new in sections.items()}})


def processes_in(folder: Path) -> list[int]:
    """Ids of the processes whose working directory is a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):  # ended meanwhile, or of another user
            if path.readlink() == folder:
                found.append(int(path.parent.name))
    return found


def driver(space: Path, storage: Path) -> list[str]:
    return [sys.executable, "-m", "explorer", "sweep", str(space), "--storage", str(storage)]


def test_trials_fail_alone_each_with_its_reason_and_the_next_run_tries_them_again(local_ray, space_file, tmp_path, monkeypatch):
    def faulty(trial: Trial, space: SearchSpace, ledger: Ledger, **options):
        if trial.id == "25pct-staged-001":
            os.kill(os.getpid(), signal.SIGKILL)
        if trial.id == "25pct-baseline-000":  # a real failure to allocate: the process may grow by 1 GB
            size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            before = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (size + 2**30, before[1]))
            try:
                return run_trial(trial, grown(space), ledger, **options)
            finally:
                resource.setrlimit(resource.RLIMIT_AS, before)
        if trial.id == "50pct-staged-000":
            lost = {"name": "folder", "root": str(tmp_path / "unmounted")}
            return run_trial(trial, with_task(space, data=lost), ledger, **options)
        return run_trial(trial, space, ledger, **options)

    def grown(space):  # two blocks with 2 x 32 x 6.4 million weights: 3.3 GB
        return with_task(space, model={"options": {**space.task.model.options, "mlp_ratio": 200_000}})

    monkeypatch.setattr(tuning, "run_trial", faulty)
    space, storage = SearchSpace.load(space_file), tmp_path / "sweeps"
    sweep = Sweep(space, storage, console=quiet()).run()
    first = {r.trial.id: r for r in sweep.ledger.records()}
    assert len(first) == 6
    expected = {
        "25pct-staged-001": ("lost", "the worker process on 127.0.0.1 ended without a Python error, as after SIGKILL"),
        "25pct-baseline-000": ("memory", "out of memory: "),
        "50pct-staged-000": ("place", "data.root: "),
    }
    for name, record in first.items():
        failure, reason = expected.get(name, (None, ""))
        assert record.failure == failure
        assert (record.reason or "").startswith(reason)
    assert [r.trial.id for r in sweep.ledger.superseded()] == ["25pct-staged-001"] * 2
    assert sweep.lacking == ("25%: no baseline trial succeeded",)

    assert Path(sweep.location, STORE).exists()  # the failed trials may have segments in it

    monkeypatch.undo()
    unchanged = quiet()
    Sweep(space, storage, retry="none", console=unchanged).run()
    assert not Path(sweep.location, STORE).exists()
    assert "all 6 trials are in the ledger" in unchanged.file.getvalue()
    again = quiet()
    assert Sweep(space, storage, parallel_trials=1, console=again).run().lacking == ()
    assert "trying 3 failed trials again" in again.file.getvalue()
    second = {r.trial.id: r for r in sweep.ledger.records()}
    assert second.keys() == first.keys()
    assert all(record.outcome for record in second.values())
    assert all(second[name] == record for name, record in first.items() if name not in expected)
    assert len(sweep.ledger.superseded()) == 2 + 3
    assert not Path(sweep.location, STORE).exists()


@pytest.mark.nightly
def test_trials_of_two_processes_fail_alone_and_are_tried_again(local_ray, tmp_path):
    content = yaml.safe_load(TINY_SPACE)
    faults = tmp_path / "faults"
    faults.mkdir()
    for name in ("1-killed", "2-memory", "3-diverged"):
        (faults / name).touch()
    content |= {"budgets": ["25%"], "resources": {"processes": 2}}
    content["data"] = {"name": "tests.sweep.wrapped_digits:FaultyDigits", "root": str(faults), "image_size": 8}
    content["search"] |= {"trials": 4}
    sweep = Sweep(SearchSpace.model_validate(content), tmp_path, console=quiet()).run()
    (lost,) = sweep.ledger.superseded()
    assert (lost.failure, lost.plan) == ("lost", "")
    records = sweep.ledger.records()
    assert len(records) == 5
    by_failure = {record.failure: record for record in records}
    assert sorted(filter(None, by_failure)) == ["diverged", "memory"]
    assert "diverged: the loss is not finite by step" in by_failure["diverged"].reason
    assert "can't allocate memory" in by_failure["memory"].reason
    completed = [record for record in records if record.outcome]
    assert len(completed) == 3
    assert {record.outcome.processes for record in completed} == {2}
    assert lost.trial.id in {record.trial.id for record in records}
    assert all(record.plan and record.device == "cpu" for record in records)


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.nightly)])
def test_a_driver_killed_in_mid_sweep_loses_no_result_and_trained_segments_are_not_trained_again(tmp_path, processes):
    space_file = tmp_path / "long.yaml"
    space_file.write_text(f"{LONG_SPACE}resources: {{processes: {processes}}}\n")
    command, folder = [*driver(space_file, tmp_path), "--parallel-trials", "1"], tmp_path / "tiny"
    own_folder = tmp_path / "working-directory"
    own_folder.mkdir()
    with (tmp_path / "output").open("w") as output:
        first = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True, cwd=own_folder)
    ledger, space = Ledger(folder), SearchSpace.load(space_file)

    def stored(trial: Trial) -> int:
        """Segments that the trial can start from."""
        task, plan = compile_trial(trial, space)
        keys = prefix_keys(task, plan.segments, trial.seed, torch.device("cpu"), amp=False, processes=processes)
        there = [number for number, key in enumerate(keys, 1) if (folder / STORE / f"{key}.pt").exists()]
        return max(there, default=0)

    def was_told(trial: Trial) -> bool:
        """Whether Ray sent SIGTERM to the trial's worker before it killed it, and it wrote its state in mid-segment."""
        task, plan = compile_trial(trial, space)
        key = interrupted_key(task, plan, trial.seed, torch.device("cpu"), amp=False, processes=processes)
        return (folder / STORE / f"{key}.pt").exists()

    wait_until(lambda: len(list((folder / "ledger").glob("*.json"))) >= 1)
    wait_until(lambda: any(stored(trial) >= 3 for trial in ledger.unfinished(ledger.records())))
    assert len(processes_in(own_folder)) > 1
    first.send_signal(signal.SIGKILL)
    first.wait()
    wait_until(lambda: not processes_in(own_folder))  # its Ray processes follow it
    before = {path.name: path.read_bytes() for path in (folder / "ledger").glob("*.json")}
    running = {trial.id: stored(trial) for trial in ledger.unfinished(ledger.records())}
    told = {trial.id for trial in ledger.unfinished(ledger.records()) if was_told(trial)}
    assert any(count >= 3 for count in running.values())

    second = subprocess.run(command, capture_output=True, text=True, timeout=RAY_SWEEP_SECONDS, check=False)
    assert second.returncode == 0, second.stderr
    assert f"resuming: {len(before)} of 3" in second.stdout
    after = {path.name: path.read_bytes() for path in (folder / "ledger").glob("*.json")}
    assert len(after) == 3
    assert all(after[name] == content for name, content in before.items())
    for record in ledger.records():
        if record.trial.id in running:
            _, plan = compile_trial(record.trial, space)
            redone = sum(segment.flops for segment in plan.segments[running[record.trial.id] :])
            # What was executed up to a state in mid-segment counts as well: no step of it is repeated.
            assert record.outcome.executed_flops <= (plan.flops if record.trial.id in told else redone)
    assert not ledger.unfinished(ledger.records())


@pytest.mark.nightly
def test_a_bad_host_costs_itself_alone_and_a_node_that_is_lost_costs_no_trial(tmp_path):
    """One node loses the folder with the images after all have been probed, and one is killed while it trains.

    The four trials start together, two of them on the first node.
    """
    images, unmounted, training = tmp_path / "images", tmp_path / "unmounted", tmp_path / "training"
    module = tmp_path / "mounted_data.py"
    images.mkdir()
    unmounted.mkdir()
    module.write_text("""
import os
from pathlib import Path
from explorer.data.digits import open_digits

def open_mounted(spec):
    os.listdir(os.environ["IMAGES"])
    if "MARK" in os.environ:
        Path(os.environ["MARK"]).touch()
    return open_digits(spec)
""")
    space_file = tmp_path / "long.yaml"
    longer = LONG_SPACE.replace("epochs: 8", "epochs: 6").replace("trials: 2", "trials: 3")
    space_file.write_text(longer.replace("name: digits", 'name: "mounted_data:open_mounted"'))
    token = tmp_path / "token"
    token.write_text("a" * 64)
    code = f"""
import threading, time
from pathlib import Path
from ray.cluster_utils import Cluster
from explorer import SearchSpace, Sweep

head = {{"num_cpus": 0, "node_ip_address": "127.0.0.2", "include_dashboard": False}}
cluster = Cluster(initialize_head=True, head_node_args=head)
cluster.add_node(num_cpus=2, node_ip_address="127.0.0.3", env_vars={{"IMAGES": {str(unmounted)!r}}})
lost = cluster.add_node(num_cpus=1, node_ip_address="127.0.0.4", env_vars={{"MARK": {str(training)!r}}})
cluster.add_node(num_cpus=1, node_ip_address="127.0.0.5")
space = SearchSpace.load({str(space_file)!r})
sweep = Sweep(space, {str(tmp_path)!r}, address=cluster.address)

def fail():
    while not list(Path(sweep.location, "started").glob("*")):  # the probe is over, and trials start
        time.sleep(0.01)
    Path({str(unmounted)!r}).rmdir()
    Path({str(training)!r}).unlink()
    while not Path({str(training)!r}).exists():
        time.sleep(0.1)
    cluster.remove_node(lost, allow_graceful=False)
    print("node killed", flush=True)

threading.Thread(target=fail).start()
sweep.run()
records = sweep.ledger.records()
print("completed", sum(r.status == "completed" for r in records), "of", len(records))
for record in sweep.ledger.superseded():
    print("attempt:", record.failure, record.reason)
cluster.shutdown()
"""
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "IMAGES": str(images),
        "PYTHONPATH": paths,
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=RAY_SWEEP_SECONDS,
        check=False,
        env=environment,
        cwd=tmp_path,
    )
    told = done.stdout + done.stderr[-3000:]
    assert "node killed" in done.stdout, told
    assert "completed 4 of 4" in done.stdout, told
    missing = f"data.name: 'mounted_data:open_mounted': cannot be opened: FileNotFoundError: [Errno 2] No such file or directory: '{unmounted}'"
    assert done.stdout.count(f"attempt: place {missing}") == 2, told
    assert "attempt: lost the " in done.stdout, told
    assert "(127.0.0.3) gets no more work: 2 trials in a row failed there" in done.stdout, told


@pytest.mark.nightly
def test_storage_that_refuses_records_stops_the_sweep_and_the_same_command_resumes(local_ray, space_file, tmp_path):
    space_file.write_text(space_file.read_text().replace("[25%, 50%]", "[25%]"))
    space = SearchSpace.load(space_file).with_search(trials=4)
    sweep = Sweep(space, tmp_path / "sweeps", console=quiet())
    records, away = Path(sweep.location, "ledger"), Path(sweep.location, "away")

    def refuse():  # a file where the folder was: the system refuses every write
        wait_until(lambda: len(list(records.glob("*.json"))) >= 2)
        records.rename(away)
        records.write_text("in the way")

    thread = threading.Thread(target=refuse)
    thread.start()
    with pytest.raises(InvalidInput, match=r"storage: .* took no more records, so the sweep stopped; \d+ finished"):
        sweep.run()
    thread.join()
    kept = {path.name: path.read_bytes() for path in away.glob("*.json")}
    assert len(kept) >= 2
    records.unlink()
    away.rename(records)
    sweep.run()
    after = {path.name: path.read_bytes() for path in records.glob("*.json")}
    assert len(after) == 4 + 1
    assert all(after[name] == content for name, content in kept.items())
