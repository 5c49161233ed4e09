"""Scheduling of trials with several GPUs, on Ray nodes that declare GPUs that they do not have."""

import os

import pytest

from tests.conftest import RAY_SWEEP_MARKS, TINY_SPACE
from tests.sweep.test_cluster import run

pytestmark = [*RAY_SWEEP_MARKS, pytest.mark.nightly]

WITHOUT_GPUS = '''
"""A hook for Ray's workers: what asks for the device of a run gets the CPU."""

def install():
    import explorer.training.device as device
    device.device_for = lambda gpus: "cpu"
'''


def test_processes_get_a_gpu_each_on_one_node_or_on_several_where_that_is_allowed(tmp_path):
    (tmp_path / "without_gpus.py").write_text(WITHOUT_GPUS)
    (tmp_path / "space.yaml").write_text(TINY_SPACE.replace("[25%, 50%]", "[25%]").replace("trials: 2", "trials: 1"))
    (tmp_path / "token").write_text("a" * 64)
    code = """
        import os
        import ray
        from ray.cluster_utils import Cluster
        from explorer import InvalidInput, SearchSpace, Sweep

        common = {"include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "node_ip_address": "127.0.0.2", **common})
        for address in ("127.0.0.3", "127.0.0.4"):
            cluster.add_node(num_cpus=2, num_gpus=1, node_ip_address=address, **common)
        hook = {"worker_process_setup_hook": "without_gpus.install"}
        ray.init(address=cluster.address, log_to_driver=False, runtime_env=hook)
        content = SearchSpace.load("space.yaml").model_dump()

        def sweep(name, **resources):
            data = {"name": "tests.sweep.wrapped_digits:NotingDigits", "root": os.path.abspath(name), "image_size": 8}
            space = SearchSpace.model_validate({**content, "data": data, "resources": resources})
            try:
                records = Sweep(space, "sweeps", name=name).run().ledger.records()
            except InvalidInput as error:
                print(name, "refused:", error)
            else:
                print(name, *sorted(os.listdir(name)), sep=" | ")
                print(name, "completed", [record.outcome.processes for record in records])

        sweep("one", gpus=2)
        sweep("several", gpus=2, spread=True)
        cluster.add_node(num_cpus=2, num_gpus=2, node_ip_address="127.0.0.5", **common)
        sweep("packed", gpus=2)
        ray.shutdown()
        cluster.shutdown()
        """
    paths = os.pathsep.join([str(tmp_path), os.getcwd()])
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}
    printed = run(code, tmp_path, **token, PYTHONPATH=paths)
    assert (
        "one refused: resources.gpus: 2.0: the 2 processes of a trial need 2 GPUs, more than any node has: at most 1; "
        in printed
    )
    assert "several | 127.0.0.3 GPU 0 | 127.0.0.4 GPU 0\n" in printed
    assert "several completed [2, 2]" in printed
    assert "packed | 127.0.0.5 GPU 0 | 127.0.0.5 GPU 1\n" in printed
    assert "packed completed [2, 2]" in printed
