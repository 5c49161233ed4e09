"""Nodes that are taken away with notice: Ray drains them, or processes get SIGTERM. Trials resume elsewhere."""

import os
import signal
import sys
from pathlib import Path

import pytest
from ray._private import state

from explorer import SearchSpace
from explorer.ledger import Ledger
from explorer.search.trial_plan import compile_trial
from explorer.sweep.preemption import FUNCTION, PreemptionNotice
from explorer.training.loop import train
from tests.conftest import RAY_SWEEP_SECONDS, TINY_SPACE
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


COUNTING = '''
"""Digits that count the steps of each process in a file, in the folder `data.root`. A step takes a while."""
import os, time
from pathlib import Path
import ray
from explorer.data import open_data
from explorer.spec.data import DataSpec

class Counting:
    def __init__(self, spec):
        self.folder = Path(spec.root)
        self.data = open_data(DataSpec(name="digits", image_size=8))

    def __getattr__(self, name):
        return getattr(self.data, name)

    def train_batches(self, stream):
        with Path(self.folder, f"{ray.util.get_node_ip_address()} {os.getpid()}").open("a", buffering=1) as steps:
            for batch in self.data.train_batches(stream):
                time.sleep(0.1)
                steps.write("step\\n")
                yield batch
'''


@pytest.mark.ray
@pytest.mark.nightly
@pytest.mark.timeout(2 * RAY_SWEEP_SECONDS)
def test_a_drained_node_and_sigterm_cost_a_trial_no_step(tmp_path):
    (tmp_path / "counting.py").write_text(COUNTING)
    (tmp_path / "token").write_text("a" * 64)
    steps = tmp_path / "steps"
    steps.mkdir()
    data = f"{{name: 'counting:Counting', root: {steps}, image_size: 8}}"
    space = TINY_SPACE.replace("{name: digits, image_size: 8}", data).replace("[25%, 50%]", "[25%]")
    space = space.replace("trials: 2", "trials: 1").replace("[16, 32]", "[32]").replace("epochs: 2", "epochs: 6")
    (tmp_path / "space.yaml").write_text(space)
    code = """
        import os, signal, subprocess, threading, time
        from pathlib import Path
        import ray
        from ray.cluster_utils import Cluster
        from explorer import SearchSpace, Sweep
        from explorer.sweep.cluster import start_ray
        from explorer.sweep.places import alive_nodes

        common = {"include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "node_ip_address": "127.0.0.2", **common})
        cluster.add_node(num_cpus=1, node_ip_address="127.0.0.3", **common)
        start_ray(cluster.address)
        sweep = Sweep(SearchSpace.load("space.yaml"), "sweeps", address=cluster.address)
        running = threading.Thread(target=sweep.run)
        running.start()

        def process_at(address, steps):
            while running.is_alive():
                time.sleep(0.05)
                for path in Path("steps").glob(address + " *"):
                    if len(path.read_text().splitlines()) >= steps:
                        return int(path.name.split()[1])

        process_at("127.0.0.3", 25)
        cluster.add_node(num_cpus=1, node_ip_address="127.0.0.4", **common)
        (node,) = (node["NodeID"] for node in ray.nodes() if node["NodeManagerAddress"] == "127.0.0.3")
        drain = ["ray", "drain-node", "--address", cluster.address, "--node-id", node, "--reason-message", "spot"]
        drain += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--deadline-remaining-seconds", "600"]
        subprocess.run(drain, check=True)
        print("left", node in alive_nodes(), flush=True)
        os.kill(process_at("127.0.0.4", 25), signal.SIGTERM)
        running.join()
        ray.shutdown()
        cluster.shutdown()
        """
    paths = os.pathsep.join([str(tmp_path), os.getcwd()])
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}
    printed = run(code, tmp_path, PYTHONPATH=paths, PATH=path, **token)
    assert "left False" in printed
    assert printed.count("its state is kept; it resumes elsewhere") == 2
    ledger, space = Ledger(tmp_path / "sweeps" / "tiny"), SearchSpace.load(tmp_path / "space.yaml")
    assert [(record.failure, record.trial.kind) for record in ledger.superseded()] == [("preempted", "staged")] * 2
    records = ledger.records()
    assert sum(len(path.read_text().splitlines()) for path in steps.iterdir()) == sum(
        record.outcome.steps for record in records
    )
    assert all(record.outcome.executed_flops == record.outcome.planned_flops for record in records)
    (staged,) = (record for record in records if record.trial.kind == "staged")
    digits = SearchSpace.model_validate({**space.model_dump(), "data": {"name": "digits", "image_size": 8}})
    task, plan = compile_trial(staged.trial, digits)
    uninterrupted = train(task, plan, seed=staged.trial.seed)
    assert staged.outcome.losses == tuple(segment.mean_loss for segment in uninterrupted.segments)
    assert staged.outcome.test_accuracy == uninterrupted.test_accuracy
