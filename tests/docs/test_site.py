"""The site is built without a warning, loads nothing from the network, and is complete."""

import os
import re
import subprocess
import sys

import pytest

from tests.docs.blocks import ROOT

pytest.importorskip("material", reason="pip install 'vit-budget-explorer[docs]'")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_nothing_is_loaded_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        loaded = re.findall(r'<(?:script|img|source|iframe)[^>]*src="([^"]+)', page.read_text())
        loaded += re.findall(r'<link[^>]*rel="(?:stylesheet|preconnect|icon|preload)"[^>]*href="([^"]+)', page.read_text())
        assert not [address for address in loaded if address.startswith(("http", "//"))], page
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//", style.read_text()), style


def test_pictures_of_the_benchmarks_are_shown(site):
    shown = re.findall(r'<img[^>]*src="([^"]+)"', (site / "method" / "benchmarks.html").read_text())
    assert {name.rsplit("/", 1)[-1] for name in shown} >= {"methods.png", "fractals.png"}
    assert all((site / "method" / name).resolve().is_file() for name in shown)


def test_the_reference_is_that_of_the_code(site):
    commands = (site / "reference" / "command-line.html").read_text()
    assert all(
        f'id="{name}"' in commands for name in ("init", "sweep", "report", "best", "plan", "calibrate", "train", "models")
    )
    assert "--dry-run" in commands
    assert "default: reports/&lt;sweep&gt;." in commands  # a browser would take the word for a tag
    fields = (site / "reference" / "search-space.html").read_text()
    assert "<code>search.learning_rate_grid</code>" in fields
    assert "<code>recipe.augmentation.flip</code>" in fields
    python = (site / "reference" / "python.html").read_text()
    assert "StagedTraining.follow_optimizer(" in python


def test_every_field_of_a_search_space_is_explained(site):
    fields = (site / "reference" / "search-space.html").read_text()
    rows = re.findall(
        r"<tr>\s*<td><code>([\w.]+)</code>.*?</td>\s*<td>([^<]*(?:<(?!/td>)[^<]*)*)</td>\s*</tr>", fields, re.DOTALL
    )
    assert len(rows) > 50
    assert [name for name, text in rows if not text.strip()] == []
