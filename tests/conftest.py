"""Small real tasks that the tests share."""

import fcntl
import io
import os
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import ray
import torch
from PIL import Image
from rich.console import Console

from explorer.spec.rates import Rates
from explorer.spec.schedule import Schedule, Stage
from explorer.spec.search_space import SearchSpace
from explorer.spec.task import TaskSpec
from explorer.sweep.cluster import start_ray
from explorer.training.task import Task
from tests.object_store import object_store

# Every Ray instance of the tests is on loopback, counts nobody and stays quiet.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# Rough step times are good enough for tests.
os.environ["EXPLORER_MAX_SCATTER"] = "10"
# One thread for every process: more of them than cores wait for one another, and a step of a tiny model takes 50 times as long.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)
# Other tests run beside them: workers of the usual niceness, 15, would hardly get a turn.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112

# The machine may be busy: no time limit for a single example.
hypothesis.settings.register_profile("explorer", deadline=None)
hypothesis.settings.load_profile("explorer")

RAY_SWEEP_SECONDS = 1500
"""Seconds after which a sweep on Ray counts as hung: ten times what it usually takes."""
RAY_SWEEP_MARKS = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(2 * RAY_SWEEP_SECONDS),
    pytest.mark.filterwarnings("default"),  # warnings of Ray and of loggers' packages are not ours to fix
]
"""Marks of a module with real sweeps on real Ray."""

TINY_MODEL = {"name": "vit_tiny_patch16_224", "options": {"patch_size": 2, "embed_dim": 32, "depth": 2, "num_heads": 4}}
TINY_SPACE = """
name: tiny
model:
  name: vit_tiny_patch16_224
  options: {patch_size: 2, embed_dim: 32, depth: 2, num_heads: 4}
data: {name: digits, image_size: 8}
recipe: {epochs: 2, batch_size: 32, learning_rate: 2.0e-3, lr_schedule: {kind: linear, warmup: 0.1}}
budgets: [25%, 50%]
search:
  trials: 2
  baseline_trials: 1
  stages: 3
  grid: 10
  rates: {heads: [0.25, 0.5, 1], mlp: [0.25, 0.5, 1], tokens: [0.25, 0.5, 1]}
  learning_rate: [1.0e-3, 4.0e-3]
  batch_size: [16, 32]
"""


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_ray_without_its_mark(request):
    """Ray that a test leaves behind would run the sweeps of later tests in this process, whatever address they are given."""
    yield
    if request.node.get_closest_marker("ray") is None:
        assert not ray.is_initialized(), "this test started Ray: mark it with `ray`"


@pytest.fixture(scope="session")
def tiny_spec() -> TaskSpec:
    return TaskSpec.model_validate(
        {
            "model": TINY_MODEL,
            "data": {"name": "digits", "image_size": 8},
            "recipe": {
                "epochs": 2,
                "batch_size": 32,
                "learning_rate": 2e-3,
                "lr_schedule": {"kind": "linear"},
                "label_smoothing": 0.1,
                "clip_grad": 1.0,
            },
        }
    )


@pytest.fixture
def tiny_task(tiny_spec: TaskSpec) -> Task:
    return Task(tiny_spec)


@pytest.fixture
def space_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_SPACE)
    return path


@pytest.fixture(scope="session")
def three_stages() -> Schedule:
    return Schedule(
        stages=(
            Stage(rates=Rates(heads=0.25, mlp=0.25, tokens=0.25), duration_ratio=0.3),
            Stage(rates=Rates(heads=0.5, mlp=0.5, tokens=0.5), duration_ratio=0.3),
            Stage(rates=Rates(), duration_ratio=0.4),
        )
    )


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory):
    """Two classes of real files: bright and dark 20 x 20 images."""
    root = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for split, count in (("train", 30), ("validation", 6)):
        for label, brightness in (("bright", 160), ("dark", 20)):
            folder = root / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(brightness, brightness + 60, (20, 20, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i:03d}.png")
    return root


@pytest.fixture
def heeds_ctrl_c():
    """Ctrl-C raises `KeyboardInterrupt`, even where a shell started the tests in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def local_ray():
    """Ray on this machine, for all tests of a file."""
    start_ray(None)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def s3():
    """A real S3 server, for all tests of a file. Locations are `s3://bucket/...`."""
    with object_store() as store:
        yield store


def made_once(tmp_path_factory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that is made once for all processes of the tests. No test may change it.

    Args:
        make: fills the folder; the other processes wait for it meanwhile.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # of the folders of all workers
    folder, finished = root / name, root / f"{name}.finished"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that failed
            folder.mkdir()
            make(folder)
            finished.touch()
    return folder


def quiet() -> Console:
    """A console that writes to memory: `quiet().file.getvalue()`."""
    return Console(file=io.StringIO(), width=120)


def with_search(space: SearchSpace, **search) -> SearchSpace:
    """The space with other search settings."""
    return space.with_search(**search)


def wait_until(condition: Callable[[], object], limit_seconds: float = 1200.0) -> None:
    """Wait for an event. The limit only stops a test that hangs; give the test a longer timeout."""
    deadline = time.monotonic() + limit_seconds
    while not condition():
        assert time.monotonic() < deadline, "the event did not happen: the test hangs"
        time.sleep(0.05)


def processes(word: str) -> list[int]:
    """Ids of the processes in whose command line a word stands."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # gone meanwhile
            if word in path.read_text(errors="replace"):
                found.append(int(path.parent.name))
    return found
