"""Ray Train runs the workers, and starts them again when one dies."""

import os
import signal
import threading

import pytest

from explorer import InvalidInput
from explorer.production.ray_workers import train_on_ray
from explorer.production.run import train_to_folder
from tests.conftest import processes, quiet
from tests.production.test_workers import assert_same_up_to_rounding, run_of_one, wait_for_segments

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.filterwarnings("default")]


def test_two_workers_of_ray_end_where_one_ends_though_one_is_killed(local_ray, tmp_path):
    train_to_folder(run_of_one(tmp_path / "alone"), quiet())
    killed = []

    def kill() -> None:
        wait_for_segments(tmp_path / "together", 3)
        killed.append(processes("RayTrainWorker")[0])
        os.kill(killed[0], signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    console = quiet()
    result = train_on_ray(run_of_one(tmp_path / "together"), 2, None, console)
    assert killed
    assert result["workers"] == 2
    assert "of the budget" in console.file.getvalue()
    assert_same_up_to_rounding(tmp_path / "alone", tmp_path / "together")
    with pytest.raises(InvalidInput, match="'plan': the checkpoint belongs to a run with another one"):
        train_on_ray(run_of_one(tmp_path / "together", budget="40%"), 2, None, quiet())


def test_more_workers_than_the_cluster_has_room_for_are_refused(local_ray, tmp_path):
    with pytest.raises(InvalidInput, match="workers: 64: 64 CPUs are needed, the cluster has"):
        train_on_ray(run_of_one(tmp_path / "run"), 64, None, quiet())
