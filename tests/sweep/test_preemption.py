"""Nodes that are taken away, with notice (Ray drains them, or processes get SIGTERM) or without. Training resumes elsewhere."""

import os
import signal
import sys
import textwrap
from pathlib import Path

import pytest
from ray._private import state

from explorer import SearchSpace
from explorer.ledger import Ledger
from explorer.production.result import RunResult
from explorer.production.run import train_to_folder
from explorer.search.trial_plan import compile_trial
from explorer.sweep.preemption import FUNCTION, PreemptionNotice
from explorer.training.loop import train
from tests.conftest import RAY_SWEEP_SECONDS, TINY_SPACE, quiet
from tests.production.test_processes import assert_same_up_to_rounding, run_of_one
from tests.sweep.test_cluster import run


def test_ray_still_has_the_function_that_is_asked():
    assert callable(getattr(state.state, FUNCTION))


def test_sigterm_is_a_notice_while_a_training_is_watched_and_ends_the_process_otherwise():
    ended, notice = [], PreemptionNotice()
    before = signal.signal(signal.SIGTERM, lambda number, frame: ended.append(number))
    try:
        notice.heed_sigterm()
        with notice.watched():
            signal.raise_signal(signal.SIGTERM)
            assert (ended, notice.came()) == ([], True)
            signal.raise_signal(signal.SIGTERM)
            assert ended == [signal.SIGTERM]
        signal.raise_signal(signal.SIGTERM)
        assert len(ended) == 2
    finally:
        signal.signal(signal.SIGTERM, before)


CLUSTER = """
import os, signal, subprocess, threading, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from explorer.sweep.cluster import start_ray

common = {"include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "node_ip_address": "127.0.0.2", **common})
running = None

def start(function):
    global running
    running = threading.Thread(target=function)
    running.start()

def process_at(address, steps):
    while running.is_alive():
        time.sleep(0.05)
        for path in Path("steps").glob(address + " *"):
            if len(path.read_text().splitlines()) >= steps:
                return int(path.name.split()[1])

def drain(address):
    (node,) = (node["NodeID"] for node in ray.nodes() if node["NodeManagerAddress"] == address)
    command = ["ray", "drain-node", "--address", cluster.address, "--node-id", node, "--reason-message", "spot"]
    command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--deadline-remaining-seconds", "600"]
    subprocess.run(command, check=True)
    return node
"""
"""Start of a script that drains nodes of a cluster whose processes train on `CountingDigits`."""


def run_on_cluster(code: str, folder: Path) -> str:
    """Run a script that begins with `CLUSTER`, and return what it printed."""
    (folder / "token").write_text("a" * 64)
    (folder / "steps").mkdir()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token")}
    return run(CLUSTER + textwrap.dedent(code), folder, PATH=path, **token)


def steps_in(folder: Path) -> int:
    """Number of steps of all processes."""
    return sum(len(path.read_text().splitlines()) for path in (folder / "steps").iterdir())


@pytest.mark.ray
@pytest.mark.nightly
@pytest.mark.timeout(2 * RAY_SWEEP_SECONDS)
def test_a_drained_node_and_sigterm_cost_a_trial_no_step(tmp_path):
    data = f"{{name: 'tests.sweep.wrapped_digits:CountingDigits', root: {tmp_path / 'steps'}, image_size: 8}}"
    space = TINY_SPACE.replace("{name: digits, image_size: 8}", data).replace("[25%, 50%]", "[25%]")
    space = space.replace("trials: 2", "trials: 1").replace("[16, 32]", "[32]").replace("epochs: 2", "epochs: 6")
    (tmp_path / "space.yaml").write_text(space)
    code = """
        from explorer import SearchSpace, Sweep
        from explorer.sweep.places import alive_nodes

        cluster.add_node(num_cpus=1, node_ip_address="127.0.0.3", **common)
        start_ray(cluster.address)
        start(Sweep(SearchSpace.load("space.yaml"), "sweeps", address=cluster.address).run)
        process_at("127.0.0.3", 25)
        cluster.add_node(num_cpus=1, node_ip_address="127.0.0.4", **common)
        print("left", drain("127.0.0.3") in alive_nodes(), flush=True)
        os.kill(process_at("127.0.0.4", 25), signal.SIGTERM)
        running.join()
        ray.shutdown()
        cluster.shutdown()
        """
    printed = run_on_cluster(code, tmp_path)
    assert "left False" in printed
    assert printed.count("its state is kept; it resumes elsewhere") == 2
    ledger, space = Ledger(tmp_path / "sweeps" / "tiny"), SearchSpace.load(tmp_path / "space.yaml")
    attempts = ledger.superseded()
    assert [record.failure for record in attempts] == ["preempted"] * 2
    assert "staged" in {record.trial.kind for record in attempts}  # the one that is compared below
    records = ledger.records()
    assert steps_in(tmp_path) == sum(record.outcome.steps for record in records)
    assert all(record.outcome.executed_flops == record.outcome.planned_flops for record in records)
    (staged,) = (record for record in records if record.trial.kind == "staged")
    digits = SearchSpace.model_validate({**space.model_dump(), "data": {"name": "digits", "image_size": 8}})
    task, plan = compile_trial(staged.trial, digits)
    uninterrupted = train(task, plan, seed=staged.trial.seed)
    assert staged.outcome.losses == tuple(segment.mean_loss for segment in uninterrupted.segments)
    assert staged.outcome.test == uninterrupted.test


@pytest.mark.ray
@pytest.mark.nightly
@pytest.mark.timeout(2 * RAY_SWEEP_SECONDS)
def test_a_drained_node_costs_a_production_run_no_step(tmp_path):
    code = """
        from dataclasses import replace
        from rich.console import Console
        from explorer.production.ray_workers import train_on_ray
        from explorer.spec.data import DataSpec
        from tests.production.test_processes import run_of_one

        run = run_of_one(Path("run"))
        counting = DataSpec(name="tests.sweep.wrapped_digits:CountingDigits", root=os.path.abspath("steps"), image_size=8)
        run = replace(run, task=run.task.model_copy(update={"data": counting}))
        cluster.add_node(num_cpus=2, node_ip_address="127.0.0.3", **common)
        start_ray(cluster.address)
        start(lambda: train_on_ray(run, 2, cluster.address, Console(width=200)))
        process_at("127.0.0.3", 25)
        cluster.add_node(num_cpus=2, node_ip_address="127.0.0.4", **common)
        drain("127.0.0.3")
        running.join()
        ray.shutdown()
        cluster.shutdown()
        """
    printed = run_on_cluster(code, tmp_path)
    assert "a node is about to be taken away: the training was asked to stop after step" in printed
    assert "its state is kept; resuming elsewhere" in printed
    result = RunResult.load(tmp_path / "run")
    assert steps_in(tmp_path) == 2 * sum(stage.steps for stage in result.stage_times)  # of two processes
    assert {path.name.split()[0] for path in (tmp_path / "steps").iterdir()} == {"127.0.0.3", "127.0.0.4"}


@pytest.mark.ray
@pytest.mark.nightly
@pytest.mark.timeout(2 * RAY_SWEEP_SECONDS)
def test_a_production_run_waits_for_the_resources_of_a_lost_node_and_resumes_from_its_checkpoint(tmp_path):
    """One of two nodes is killed without notice. The processes restart when another node has joined."""
    code = """
        from rich.console import Console
        from explorer.production.loggers import read_metrics
        from explorer.production.ray_workers import train_on_ray
        from tests.production.test_processes import run_of_one

        cluster.add_node(num_cpus=1, node_ip_address="127.0.0.3", **common)
        lost = cluster.add_node(num_cpus=1, node_ip_address="127.0.0.4", **common)
        start_ray(cluster.address)
        start(lambda: train_on_ray(run_of_one(Path("run")), 2, cluster.address, Console(width=200)))
        while len(read_metrics(Path("run"))) < 4:
            assert running.is_alive()
            time.sleep(0.02)
        cluster.remove_node(lost, allow_graceful=False)
        left = len(read_metrics(Path("run")))
        time.sleep(20)
        print("waits", running.is_alive(), len(read_metrics(Path("run"))) - left, flush=True)
        cluster.add_node(num_cpus=1, node_ip_address="127.0.0.5", **common)
        running.join()
        ray.shutdown()
        cluster.shutdown()
        """
    printed = run_on_cluster(code, tmp_path)
    assert "waits True" in printed
    assert int(printed.partition("waits True ")[2].split()[0]) <= 1  # the segment that ended when the node was killed
    result = RunResult.load(tmp_path / "run")
    assert (result.processes, result.earlier_processes) == (2, ())
    train_to_folder(run_of_one(tmp_path / "single"), quiet())
    assert_same_up_to_rounding(tmp_path / "single", tmp_path / "run")
