"""An installed wheel works in an empty folder, without the clone it was built from."""

import json
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

ONE_AFTER_ANOTHER = """
import json, sys
import explorer
from explorer.cli import main

print(explorer.__file__)
for command in json.load(open("commands.json")):
    print("$", *command, flush=True)
    sys.argv = ["explorer", *command]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
"""
"""Commands in one process, which imports torch and Ray only once."""

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

    commands = [
        ["init", "--example", "digits"],
        ["sweep", "digits.yaml", "--dry-run"],
        ["sweep", "tiny.yaml"],
        ["report", "tiny"],
        ["best", "tiny", "--budget", "50%", "--out", "best.json"],
        ["plan", "--schedule", "best.json", "--task", "tiny.yaml", "--budget", "50%"],
        ["models", "vit_tiny_patch16_224"],
        ["--version"],
    ]
    (empty / "commands.json").write_text(json.dumps(commands))
    space = TINY_SPACE.replace("epochs: 2", "epochs: 1").replace("[25%, 50%]", "[50%]").replace("trials: 2", "trials: 1")
    (empty / "tiny.yaml").write_text(space)
    printed = run(sys.executable, "-c", ONE_AFTER_ANOTHER, cwd=empty, environment=environment)
    place, *outputs = printed.split("$ ")
    assert Path(place.strip()).is_relative_to(tmp_path / "site")
    assert [output.partition("\n")[0] for output in outputs] == [" ".join(command) for command in commands]
    assert "full trainings" in outputs[1]
    assert "of full training" in outputs[5]
    assert "vit_tiny_patch16_224" in outputs[6].partition("\n")[2]
    assert outputs[7].partition("\n")[2].strip() == "0.1.0"
    assert (empty / "reports" / "tiny" / "index.html").exists()
    names = {"commands.json", "digits.yaml", "tiny.yaml", "sweeps", "reports", "best.json"}
    assert {path.name for path in empty.iterdir()} == names
