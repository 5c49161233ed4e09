"""Ray Train runs the workers, and starts them again when one dies."""

import os
import signal
import threading
import time

import pytest

from tests.conftest import processes
from tests.production.test_workers import ALONE, assert_close, files, run, weights  # noqa: F401

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.filterwarnings("default")]


def kill_a_worker_in(out, killed):
    """Once three segments are trained, kill -9 one of the processes of Ray Train."""
    while not (out / "metrics.csv").exists() or len((out / "metrics.csv").read_text().splitlines()) < 4:
        time.sleep(0.02)
    worker = processes("RayTrainWorker")[0]
    os.kill(worker, signal.SIGKILL)
    killed.append(worker)


def test_two_workers_of_ray_end_where_one_ends_though_one_is_killed(files, tmp_path):  # noqa: F811
    alone = run(ALONE, *files, "--out", str(tmp_path / "alone"))
    assert alone.returncode == 0, alone.stderr
    killed: list[int] = []
    watcher = threading.Thread(target=kill_a_worker_in, args=(tmp_path / "together", killed), daemon=True)
    watcher.start()
    together = run(ALONE, *files, "--out", str(tmp_path / "together"), "--workers", "2")
    assert together.returncode == 0, together.stderr
    assert killed
    assert "cost:" in together.stdout
    assert_close(weights(tmp_path / "alone"), weights(tmp_path / "together"))


def test_more_workers_than_the_machine_has_cores_are_refused(files, tmp_path):  # noqa: F811
    done = run(ALONE, *files, "--out", str(tmp_path / "run"), "--workers", "64")
    assert done.returncode == 2
    assert "workers: 64: 64 CPUs are needed, the cluster has" in done.stderr


def test_another_runs_checkpoint_is_refused_in_one_line(files, tmp_path):  # noqa: F811
    assert run(ALONE, *files, "--out", str(tmp_path / "run")).returncode == 0
    done = run(ALONE, *files, "--out", str(tmp_path / "run"), "--workers", "2")
    assert done.returncode == 2
    assert "'workers': the checkpoint belongs to a run with another one" in done.stderr.strip().splitlines()[-1]
