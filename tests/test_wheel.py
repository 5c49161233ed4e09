"""An installed wheel works in an empty folder, without the clone it was built from."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import TINY_SPACE

ROOT = Path(__file__).parents[1]
HANG_SECONDS = 1200
"""Limit for commands that hang; each usually takes less than a tenth of it."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(4 * HANG_SECONDS)]


def run(*command, cwd: Path, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The files of the clone that git knows or would add: building in the clone itself would leave files there."""
    folder = tmp_path_factory.mktemp("source")
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()
    for name in (name for name in listed if (ROOT / name).exists()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            (folder / name).symlink_to((ROOT / name).readlink())
        else:
            (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = ("wheel", "--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", folder, source)
    run(sys.executable, "-m", "pip", *build, cwd=folder)
    (path,) = folder.glob("*.whl")
    return path


def test_it_contains_every_file_of_the_package(source, wheel):
    packaged = {path.relative_to(source).as_posix() for path in (source / "explorer").rglob("*") if path.is_file()}
    packaged = {name for name in packaged if not name.startswith("explorer/search_spaces/")}
    packaged |= {f"explorer/{path.relative_to(source).as_posix()}" for path in (source / "search_spaces").glob("*.yaml")}
    assert {"explorer/py.typed", "explorer/report/templates/page.html", "explorer/search_spaces/digits.yaml"} <= packaged
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
    assert names == packaged


@pytest.mark.ray
def test_it_works_in_an_empty_folder(wheel, tmp_path):
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", tmp_path / "site", wheel, cwd=tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "RAY_USAGE_STATS_ENABLED": "0"}

    def python(*arguments):
        return run(sys.executable, *arguments, cwd=empty, environment=environment)

    def explorer(*arguments):
        return python("-m", "explorer", *arguments)

    assert Path(python("-c", "import explorer; print(explorer.__file__)").strip()).is_relative_to(tmp_path / "site")
    assert explorer("--version").strip() == "0.1.0"
    explorer("init", "--example", "digits")
    assert "full trainings" in explorer("sweep", "digits.yaml", "--dry-run")
    space = TINY_SPACE.replace("epochs: 2", "epochs: 1").replace("[25%, 50%]", "[50%]").replace("trials: 2", "trials: 1")
    (empty / "tiny.yaml").write_text(space)
    explorer("sweep", "tiny.yaml")
    explorer("report", "tiny")
    assert (empty / "reports" / "tiny" / "index.html").exists()
    explorer("best", "tiny", "--budget", "50%", "--out", "best.json")
    assert "of full training" in explorer("plan", "--schedule", "best.json", "--task", "tiny.yaml", "--budget", "50%")
    assert "vit_tiny_patch16_224" in explorer("models", "vit_tiny_patch16_224")
    assert {path.name for path in empty.iterdir()} == {"digits.yaml", "tiny.yaml", "sweeps", "reports", "best.json"}
