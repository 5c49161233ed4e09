"""The real clients: MLflow with a database, W&B offline, TensorBoard's files. Each is read back."""

import importlib
import time

import pytest

from explorer.errors import InvalidInput
from explorer.loggers import Ending, Point, RunDescription, open_service
from explorer.loggers.tensorboard_files import TensorBoardFiles
from tests.conftest import wait_until
from tests.loggers.event_files import read_events
from tests.loggers.offline_wandb import ended_runs

RUN = RunDescription(
    key="trial-1-abc", name="trial-1", parameters={"learning_rate": 0.001, "kind": "staged"}, tags={"sweep": "s"}
)
FAILED = RunDescription(key="trial-2-abc", name="trial-2")
POINTS = [Point(10, {"cost": 0.1, "train_loss": 2.0}), Point(20, {"cost": 0.2, "train_loss": 1.5})]
LAST = Point(30, {"cost": 0.25, "train_loss": 1.0, "test_accuracy": 0.75})
pytestmark = pytest.mark.filterwarnings("default")  # the clients' own warnings are not ours to fix


def killed_and_resumed(connect):
    """A run that one driver leaves as killed, and that another one finishes."""
    service = connect()
    assert service.start(RUN) == -1
    service.log(RUN, POINTS)
    service.end(RUN, Ending("killed", "interrupted"))
    ended = int(time.time())
    wait_until(lambda: time.time() >= ended + 1)  # W&B names its folders by id and second
    service = connect()
    last = service.start(RUN)
    service.log(RUN, [point for point in [*POINTS, LAST] if point.step > last])
    service.end(RUN, Ending("finished"))
    return service


def test_mlflow_finds_a_run_again_and_shows_how_it_ended(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    vanished = open_service("mlflow", "sweep", None, "loggers")
    vanished.start(FAILED)  # killed: it stays RUNNING until it is continued
    service = killed_and_resumed(lambda: open_service("mlflow", "sweep", None, "loggers"))
    service.start(FAILED)
    service.end(FAILED, Ending("failed", "diverged: the loss is not finite"))

    client = importlib.import_module("mlflow").MlflowClient()
    experiment = client.get_experiment_by_name("sweep").experiment_id
    runs = {run.info.run_name: run for run in client.search_runs([experiment])}
    assert len(client.search_runs([experiment])) == 2
    assert {name: run.info.status for name, run in runs.items()} == {"trial-1": "FINISHED", "trial-2": "FAILED"}
    assert runs["trial-2"].data.tags["explorer.reason"] == "diverged: the loss is not finite"
    assert "explorer.reason" not in runs["trial-1"].data.tags  # that it was killed once is past
    assert runs["trial-1"].data.params == {"learning_rate": "0.001", "kind": "staged"}
    assert runs["trial-1"].data.tags["sweep"] == "s"
    history = client.get_metric_history(runs["trial-1"].info.run_id, "train_loss")
    assert [(metric.step, metric.value) for metric in history] == [(10, 2.0), (20, 1.5), (30, 1.0)]
    assert runs["trial-1"].data.metrics["test_accuracy"] == 0.75


def test_wandb_offline_keeps_one_id_per_run_and_an_exit_code(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    service = killed_and_resumed(lambda: open_service("wandb", "sweep", tmp_path, "loggers"))
    service.start(FAILED)
    service.end(FAILED, Ending("failed", "diverged: the loss is not finite"))

    runs = ended_runs(tmp_path / "wandb")
    first = [run for run in runs if run.id == RUN.key]
    assert [run.exit_code for run in first] == [130, 0]  # `wandb sync` makes one run of one id
    assert first[-1].history == [
        {"cost": 0.1, "train_loss": 2.0, "_step": 10},
        {"cost": 0.2, "train_loss": 1.5, "_step": 20},
        {"cost": 0.25, "train_loss": 1.0, "test_accuracy": 0.75, "_step": 30},
    ]
    assert first[-1].config == {"learning_rate": 0.001, "kind": "staged", "sweep": "s"}
    (second,) = [run for run in runs if run.id == FAILED.key]
    assert second.exit_code == 1
    assert second.summary["reason"] == "diverged: the loss is not finite"


def test_wandb_without_a_key_is_refused_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with pytest.raises(InvalidInput, match=r"loggers: 'wandb': cannot be used: there is no API key: run `wandb login`, or set"):
        open_service("wandb", "sweep", tmp_path, "loggers")


def test_tensorboard_has_one_file_per_run_by_steps_and_by_cost(tmp_path):
    killed_and_resumed(lambda: TensorBoardFiles(tmp_path))
    assert len(list((tmp_path / "trial-1").iterdir())) == 1
    scalars = read_events(tmp_path / "trial-1")
    assert len(scalars) == len(set(scalars))
    assert [(step, value) for tag, step, value in scalars if tag == "train_loss"] == [(10, 2.0), (20, 1.5), (30, 1.0)]
    assert [(step, value) for tag, step, value in scalars if tag == "by_cost/train_loss"] == [
        (1000, 2.0),
        (2000, 1.5),
        (2500, 1.0),
    ]
    assert ("test_accuracy", 30, 0.75) in scalars
