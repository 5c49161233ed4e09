"""The files for clusters are what their tools take, as far as that can be seen without a cluster."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import jsonschema
import pytest
import ray
import yaml

from explorer import SearchSpace

CLUSTER = Path("examples/cluster")


def test_rays_launcher_takes_the_cluster_file():
    schema = json.loads(Path(ray.__file__).with_name("autoscaler").joinpath("ray-schema.json").read_text())
    jsonschema.validate(yaml.safe_load((CLUSTER / "ray-cluster.yaml").read_text()), schema)


def test_the_ray_job_retries_with_tokens_on_a_shared_volume():
    spec = yaml.safe_load((CLUSTER / "rayjob.yaml").read_text())["spec"]
    assert spec["backoffLimit"] >= 1
    cluster = spec["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    storage = shlex.split(spec["entrypoint"])[shlex.split(spec["entrypoint"]).index("--storage") + 1]
    for group in groups:
        pod = group["template"]["spec"]
        claims = {v["name"] for v in pod["volumes"] if "persistentVolumeClaim" in v}
        mounted = {m["name"]: m["mountPath"] for m in pod["containers"][0]["volumeMounts"]}
        assert any(storage.startswith(mounted[claim]) for claim in claims)


def test_the_slurm_script_starts_what_it_should(tmp_path):
    """Run with stand-ins for Slurm's own commands, which print how they were called."""
    for name, body in {
        "scontrol": "echo node1",
        "getent": 'echo "192.0.2.7 STREAM node1"',
        "srun": 'printf "%s\\n" "$@"',
    }.items():
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
    activate = tmp_path / "venv" / "bin" / "activate"
    activate.parent.mkdir(parents=True)
    activate.write_text("")
    environment = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "EXPLORER_VENV": str(tmp_path / "venv"),
        "SLURM_JOB_NODELIST": "node[1-4]",
        "SLURM_JOB_NUM_NODES": "4",
        "SLURM_JOB_ID": "12345",
        "SLURM_CPUS_PER_TASK": "32",
        "SLURM_GPUS_ON_NODE": "4",
    }
    done = subprocess.run(["bash", CLUSTER / "slurm.sh"], capture_output=True, text=True, check=True, env=environment)
    arguments = done.stdout.split("\n")
    assert arguments[:5] == ["ray", "symmetric-run", "--address", "192.0.2.7:6724", "--min-nodes"]
    assert arguments[arguments.index("--") + 1 :][:2] == ["explorer", "sweep"]


@pytest.mark.parametrize("name", ["rayjob.yaml", "ray-cluster.yaml", "slurm.sh"])
def test_every_command_has_options_that_exist(name):
    text = (CLUSTER / name).read_text().replace("\\\n", " ")
    used = set(re.findall(r"explorer sweep [^\n]*", text)[0].split()) & {"--storage", "--address"}
    assert used == {"--storage", "--address"}
    for space in re.findall(r"search_spaces/\w+\.yaml", text):
        assert SearchSpace.load(space)
