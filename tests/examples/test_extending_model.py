"""The example of a model family outside the package runs, and its family passes every check that the built-in ones pass."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import timm

from explorer.elastic.testing import CHECKS, check_model
from tests.test_cli import explorer  # noqa: F401 (a fixture)

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "extending"


@pytest.fixture(scope="module")
def family():
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("model_family", FOLDER / "model_family.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["model_family"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["model_family"]


def test_the_example_trains_at_half_the_size_and_then_in_full(family, capsys):
    family.main()
    axes, half, full = capsys.readouterr().out.splitlines()
    assert axes == "axes: heads, mlp, depth"
    parameters = [int(line.split(": ")[1].split()[0]) for line in (half, full)]
    losses = [float(line.rpartition(" ")[2]) for line in (half, full)]
    # A block at full size: norms 4 * 48, qkv 144 * 49, proj 48 * 49, 4 temperatures, MLP 192 * 49 + 48 * 193. At half size: qkv
    # 72 * 49, proj 48 * 25, 2 temperatures, MLP 96 * 49 + 48 * 97. Elsewhere: embedding 48 * 193, positions 16 * 48, norm 96,
    # head 10 * 49.
    rest = 48 * 193 + 16 * 48 + 96 + 10 * 49
    full_block = 4 * 48 + 144 * 49 + 48 * 49 + 4 + 192 * 49 + 48 * 193
    half_block = 4 * 48 + 72 * 49 + 48 * 25 + 2 + 96 * 49 + 48 * 97
    assert parameters == [rest + 2 * half_block, rest + 4 * full_block]
    assert losses[1] < losses[0] < 2.3  # log(10) = 2.30 for chance


def test_the_family_passes_all_checks(family):
    passed = check_model(lambda: timm.create_model("cosine_vit_tiny", depth=2), (2, 3, 32, 32))
    # It has no gradient checkpointing.
    assert passed == [check.__name__ for check in CHECKS if "checkpointing" not in check.__name__]


def test_the_command_lists_the_family(explorer, family):  # noqa: F811
    done = explorer("models", "model_family:cosine_*", "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert (row["name"], row["axes"], row["reason"]) == ("cosine_vit_tiny", ["heads", "mlp", "depth"], None)
