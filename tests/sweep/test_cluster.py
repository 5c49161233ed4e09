"""Clusters: starting and joining Ray, nodes that come late or lack something, and places for trials. On real Ray."""

import json
import os
import re
import socketserver
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
import torch

from explorer.search.machines import count_places
from explorer.spec.task_file import Resources
from explorer.sweep.places import AHEAD, Places
from tests.conftest import RAY_SWEEP_MARKS, RAY_SWEEP_SECONDS, TINY_SPACE

pytestmark = RAY_SWEEP_MARKS


def run(code: str, folder: Path, **environment: str) -> str:
    """Run a script in a folder, and return what it printed."""
    (folder / "script.py").write_text(textwrap.dedent(code))
    done = subprocess.run(
        [sys.executable, "script.py"],
        capture_output=True,
        text=True,
        timeout=RAY_SWEEP_SECONDS,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path.cwd()), **environment},
        cwd=folder,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout


def test_a_trial_needs_room_on_a_single_node():
    nodes = [{"CPU": 8.0, "GPU": 1.0}, {"CPU": 3.0, "GPU": 4.0}, {"CPU": 64.0}]
    assert count_places(Resources(cpus=4), nodes) == 2 + 0 + 16
    assert count_places(Resources(cpus=4, gpus=1), nodes) == 1
    assert count_places(Resources(cpus=1, gpus=0.1), nodes) == 8 + 3  # 10 and 40 by their GPUs


def test_no_more_trials_are_handed_out_than_may_run(local_ray):
    cpus = Places(Resources()).at_once
    assert Places(Resources()).handed_out == cpus + AHEAD
    assert Places(Resources(), parallel_trials=1).handed_out == 1
    assert Places(Resources(), parallel_trials=cpus + 5).handed_out == cpus + AHEAD


def test_ray_that_cannot_be_started_or_joined_is_one_line_that_says_what_to_do(tmp_path):
    deep = tmp_path / ("deep" * 25)
    deep.mkdir()
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as server:  # not Ray
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        code = f"""
            import os
            from explorer import InvalidInput
            from explorer.sweep.cluster import start_ray

            for address in ("127.0.0.1:1", "no.such.host:6379", "127.0.0.1:{port}", "nonsense", "auto", None, "local"):
                try:
                    start_ray(address)
                except InvalidInput as error:
                    print(error)
            """
        printed = run(code, tmp_path, RAY_TMPDIR=str(deep), RAY_ADDRESS="127.0.0.1:2")
        server.shutdown()
    lines = printed.splitlines()
    assert len(lines) == 7, printed
    assert lines[0].startswith("address: '127.0.0.1:1': no Ray cluster answers: [Errno 111] Connection refused")
    assert lines[1].startswith("address: 'no.such.host:6379': no Ray cluster answers: ")
    assert lines[2].startswith(
        f"address: '127.0.0.1:{port}': no Ray cluster answers: what listens there is not Ray's head node; "
    )
    assert lines[3].startswith("address: 'nonsense': no Ray cluster answers: ")
    assert lines[4].startswith("address: 'auto': no Ray cluster answers at 127.0.0.1:2: [Errno 111] Connection refused")
    assert lines[5].startswith("address: None: RAY_ADDRESS=127.0.0.1:2 is set: give auto to join that cluster, or local")
    assert lines[6].startswith("address: 'local': Ray cannot be started here: ")
    assert lines[6].endswith("set RAY_TMPDIR=/tmp")


MEETING = '''
"""Digits on machines that have them; the first step of a trial waits until two processes train."""
import os, time
from pathlib import Path
from explorer.data import open_data
from explorer.spec.data import DataSpec

class Meeting:
    def __init__(self, spec):
        Path(os.environ["DATA"], "there").read_text()
        self.data = open_data(DataSpec(name="digits", image_size=8))

    def __getattr__(self, name):
        return getattr(self.data, name)

    def train_batches(self, stream):
        Path(os.environ["DATA"], f"process-{os.getpid()}").touch()
        while len(list(Path(os.environ["DATA"]).glob("process-*"))) < 2:
            time.sleep(0.05)
        return self.data.train_batches(stream)
'''


@pytest.mark.nightly
def test_a_cluster_that_grows_from_nothing_fills_at_once_and_bad_hosts_are_named(tmp_path):
    (tmp_path / "meeting.py").write_text(MEETING)
    space = TINY_SPACE.replace("{name: digits, image_size: 8}", "{name: 'meeting:Meeting', image_size: 8}")
    (tmp_path / "space.yaml").write_text(space.replace("[25%, 50%]", "[50%]"))
    (tmp_path / "token").write_text("a" * 64)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "there").write_text("")
    code = """
        import os, subprocess, sys, threading, time
        import ray
        from ray.autoscaler._private.constants import AUTOSCALER_RESOURCE_REQUEST_CHANNEL
        from ray.cluster_utils import Cluster
        from ray.experimental.internal_kv import _internal_kv_get
        from explorer import InvalidInput, SearchSpace, Sweep
        from explorer.sweep.cluster import start_ray

        common = {"include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "node_ip_address": "127.0.0.2", **common})
        join = f"from explorer.sweep.cluster import start_ray; start_ray({cluster.address!r})"
        stranger = {**os.environ, "RAY_AUTH_TOKEN": "b" * 64, "RAY_NUM_REDIS_GET_RETRIES": "2"}
        refused = subprocess.run([sys.executable, "-c", join], env=stranger, capture_output=True, text=True)
        print(refused.stderr.splitlines()[-1])

        space = SearchSpace.load("space.yaml")
        try:
            Sweep(space, "sweeps", address=cluster.address).run()
        except InvalidInput as error:
            print(error)
        start_ray(cluster.address)

        sweep = Sweep(space, "sweeps", address=cluster.address, wait_for_nodes=1000)
        running = threading.Thread(target=sweep.run)
        running.start()
        while not (request := _internal_kv_get(AUTOSCALER_RESOURCE_REQUEST_CHANNEL)) or request == b"[]":
            time.sleep(0.1)
        print("requested", request.decode(), flush=True)
        spoiled = {"DATA": "/nowhere"}  # nodes can be added in the main thread only
        cluster.add_node(num_cpus=1, node_ip_address="127.0.0.3", **common)
        cluster.add_node(num_cpus=1, node_ip_address="127.0.0.4", env_vars=spoiled, **common)
        cluster.add_node(num_cpus=1, node_ip_address="127.0.0.5", **common)
        running.join()
        print("completed", sum(record.status == "completed" for record in sweep.ledger.records()))
        print("attempts", *(record.reason for record in sweep.ledger.superseded()))
        print("left", _internal_kv_get(AUTOSCALER_RESOURCE_REQUEST_CHANNEL), os.path.exists("sweeps/tiny/probe"))

        cluster.add_node(num_cpus=1, num_gpus=1, node_ip_address="127.0.0.6", **common)
        promised = SearchSpace.model_validate({**space.model_dump(), "resources": {"gpus": 1}})
        try:
            Sweep(promised, "sweeps", name="promised", address=cluster.address).run()
        except InvalidInput as error:
            print(error)
        ray.shutdown()
        cluster.shutdown()
        """
    printed = run(
        code,
        tmp_path,
        RAY_AUTH_MODE="token",
        RAY_AUTH_TOKEN_PATH=str(tmp_path / "token"),
        DATA=str(tmp_path / "data"),
    )
    assert "the cluster refuses this machine's token; copy the cluster's ~/.ray/auth_token here" in printed
    assert "resources.cpus: 1: a trial needs more than any node has: at most 0; " in printed
    (requested,) = re.findall(r"^requested (.*)$", printed, re.MULTILINE)
    assert json.loads(requested) == [{"CPU": 1}] * 3  # two staged trials and a baseline trial
    assert "waiting up to 1000 s for a node with 1 CPU" in printed
    # The probe finds the host without data, or the first trial there does if the host joined after the probe.
    assert "FileNotFoundError: [Errno 2] No such file or directory: '/nowhere/there'" in printed
    assert "completed 3" in printed  # each of the first two waits until the other trains
    assert "left b'[]' False" in printed
    if not torch.cuda.is_available():
        assert "hosts: 'all 1': no host can run trials: " in printed
        assert "(127.0.0.6): resources.gpus: 1.0: the GPU cannot be used: " in printed
