"""The files that the report writes beside the page, and the input that it refuses."""

import shutil
import subprocess
import sys

import pytest
from PIL import Image
from typer.testing import CliRunner

from explorer import InvalidInput
from explorer.cli import app
from explorer.ledger import Ledger
from explorer.report.compare import comparison_page, write_comparison
from explorer.report.loaded_sweep import LoadedSweep
from tests.ledger.test_ledger import make_header, make_record

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian: apt install chromium)")
@pytest.mark.nightly
def test_pictures_of_paper_quality(real_ledger, tmp_path):
    arguments = ["report", real_ledger.location, "--out", str(tmp_path), "--png", "--svg", "--pdf"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.exception
    for name in ("frontier", "timeline"):
        picture = Image.open(tmp_path / f"{name}.png")
        assert picture.width == 2700
        assert len(picture.convert("L").getcolors()) > 20
        drawing = (tmp_path / f"{name}.svg").read_text()
        assert "<path" in drawing
        assert "<text" in drawing
        pdf = (tmp_path / f"{name}.pdf").read_bytes()
        assert pdf.startswith(b"%PDF")
        assert b"/Font" in pdf  # text is text, not pixels


def test_pictures_without_chromium_are_one_clear_line(real_ledger, tmp_path):
    command = [sys.executable, "-m", "explorer", "report", real_ledger.location, "--out", str(tmp_path), "--pdf"]
    environment = {"PATH": "/nowhere", "HOME": str(tmp_path), "BROWSER_PATH": str(tmp_path / "missing")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False, env=environment)
    assert done.returncode == 2
    assert done.stderr.strip().startswith("explorer: --pdf: 'cannot draw': needs the extra pictures")
    assert "\n" not in done.stderr.strip()
    assert (tmp_path / "index.html").exists()  # the page does not need it


def test_a_comparison_names_what_differs(tmp_path):
    sweeps = []
    for name, rate in (("a", 0.1), ("b", 0.2)):
        ledger = Ledger(tmp_path / name)
        header = make_header("same")
        task = header.space.task.with_settings(rate, 16, {})
        ledger.create(header.model_copy(update={"space": header.space.model_copy(update={"task": task})}))
        ledger.append(make_record())
        sweeps.append(LoadedSweep.read(ledger))
    page = comparison_page(sweeps)
    assert "recipe.learning_rate 0.1" in page
    assert "recipe.learning_rate 0.2" in page
    assert "same (1)" in page  # equal names are told apart
    assert 'value="fraction"' in page.split('value="flops"')[0]  # equal costs: shares first


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--price", "0"], "price: 0.0: must be a finite number above 0"),
        (["--watch", "--png"], "--watch: '--png': cannot be combined: pictures are drawn once"),
        (["{again}", "--svg"], "--svg: .*: pictures can be drawn of one sweep only"),
        (["nowhere"], "sweep: 'nowhere': no sweep there"),
        (["--out", "{file}/x"], "out: .*cannot be written"),
    ],
)
def test_bad_input_is_refused(real_ledger, tmp_path, arguments, said):
    (tmp_path / "file").write_text("")
    given = [text.format(again=real_ledger.location, file=tmp_path / "file") for text in arguments]
    done = CliRunner().invoke(app, ["report", real_ledger.location, *given])
    assert isinstance(done.exception, InvalidInput)
    with pytest.raises(InvalidInput, match=said):
        raise done.exception


def test_more_sweeps_than_colors_are_refused(real_ledger, tmp_path):
    with pytest.raises(InvalidInput, match="sweeps: 7: at most 6 can be told apart"):
        write_comparison([real_ledger] * 7, tmp_path)
