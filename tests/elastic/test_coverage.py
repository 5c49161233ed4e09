"""Counting what can be done with timm's models, checked against published sizes."""

import sys
import warnings
from dataclasses import replace

import pytest
import timm
import torch
from timm.models import register_model

from explorer import InvalidInput, cli
from explorer.elastic import coverage as counting
from explorer.elastic.coverage import coverage, registered_outside_timm, transformer_names
from explorer.elastic.coverage_table import read_table
from explorer.spec.rates import Rates


@register_model
def homemade_tiny_vit(pretrained=False, **kwargs):
    """A model that timm does not have, registered in its registry."""
    return timm.models.VisionTransformer(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=4, num_classes=5)


def test_deit_small_as_published():
    row = coverage("deit_small_patch16_224")
    assert (row.family, row.axes, row.reason) == ("deit", ("heads", "mlp", "tokens", "depth"), None)
    assert row.token_policies == ("drop", "center", "resize")
    # 6 heads, 4 * 384 hidden channels, (224 / 16)^2 patches
    assert row.smallest_rates == Rates(heads=1 / 6, mlp=1 / 1536, tokens=1 / 196, depth=1 / 12)
    # 4.6 GMACs forward (DeiT, table 5), two FLOPs each; forward and backward cost three times that
    assert row.full_flops == pytest.approx(3 * 2 * 4.6e9, rel=0.05)
    assert row.half_fraction == pytest.approx(0.25, abs=0.02)  # half of each layer for half of the tokens


def test_pyramid_stages_with_a_single_head_keep_it():
    row = coverage("pvt_v2_b0", count=False)
    assert row.axes == ("heads", "mlp", "tokens")
    assert row.token_policies == ("center", "resize")
    assert row.smallest_rates.tokens == 1 / 49  # images of 32 instead of 224 pixels: one token in the last stage
    # Stages of 1, 2, 5, 8 heads, two blocks each: at .51/2 of the heads they keep 1, 1, 1, 2.
    assert row.smallest_rates.heads == 5 / 16
    assert (row.full_flops, row.half_flops, row.half_fraction) == (None, None, None)


def test_a_model_that_cannot_be_resized_has_a_reason():
    assert "it has no attention or MLP" in coverage("resnet18").reason
    assert coverage("resnet18").axes == ()


def test_an_error_in_the_forward_pass_becomes_the_reason(monkeypatch):
    def fail(*_):
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(counting, "count_step_flops", fail)
    row = coverage("vit_tiny_patch16_224")
    assert (row.axes, row.reason) == ((), "RuntimeError: two lines")


def test_patterns_match_as_in_timm():
    assert transformer_names("deit_tiny_*") == ["deit_tiny_distilled_patch16_224", "deit_tiny_patch16_224"]
    with pytest.raises(InvalidInput, match=r"deit_smal_patch16_224.*similar names: deit_small_patch16_224"):
        transformer_names("deit_smal_patch16_224")
    with pytest.raises(InvalidInput, match=r"matches none of the \d+ transformers of timm"):
        transformer_names("resnet18")


def test_models_registered_by_others_are_counted():
    assert registered_outside_timm("homemade_tiny*") == ["homemade_tiny_vit"]
    assert transformer_names("homemade_tiny*") == ["homemade_tiny_vit"]
    row = coverage("homemade_tiny_vit", count=False)
    assert (row.family, row.axes) == ("test_coverage", ("heads", "mlp", "tokens", "depth"))


@pytest.mark.nightly
def test_several_processes_give_the_rows_of_one(monkeypatch):
    names = transformer_names("vit_tiny_patch16_*")[:2]
    one = list(counting.coverages(names, count=False))
    monkeypatch.setattr(counting, "MIN_MODELS_PER_PROCESS", 1)
    monkeypatch.setattr(counting.os, "cpu_count", lambda: 2)
    threads = torch.get_num_threads()
    assert list(counting.coverages(names, count=False)) == one
    assert torch.get_num_threads() == threads


def test_the_module_writes_the_table_of_the_installed_timm(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["coverage", "--folder", str(tmp_path), "--pattern", "vit_tiny_patch16_22*"])
    counting.main()
    (file,) = tmp_path.iterdir()
    assert file.name == f"timm-{timm.__version__}.json"
    assert '"name": "vit_tiny_patch16_224"' in file.read_text()
    assert str(file) in capsys.readouterr().err


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["explorer", "models", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0), *capsys.readouterr()


def test_the_command_counts_models_of_a_given_module_and_says_so(monkeypatch, capsys):
    code, out, err = run(monkeypatch, capsys, "tests.elastic.test_coverage:homemade_*")
    assert code == 0
    line = next(line for line in out.splitlines() if line.startswith("homemade_tiny_vit"))
    # 4 heads; 4 * 48 channels; (32 / 8)^2 patches; 2 blocks
    assert line.split()[1:9] == ["heads", "mlp", "tokens", "depth", "1/4", "1/192", "1/16", "1/2"]
    assert err == (
        "explorer: counting 1 model on this machine: tests.elastic.test_coverage:homemade_* "
        "is not in the table of timm's models\n"
    )


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("no.such.module:vit", "no.such.module cannot be imported"),
        ("tests.elastic.test_coverage:other", "registers no such model"),
    ],
)
def test_the_command_refuses_modules_without_the_model_in_one_line(monkeypatch, capsys, pattern, message):
    code, _, err = run(monkeypatch, capsys, pattern)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert message in err


def test_the_command_counts_all_models_of_a_timm_without_table(monkeypatch, capsys):
    monkeypatch.setattr("explorer.cli.models.read_table", lambda version: None)
    code, out, err = run(monkeypatch, capsys, "vit_tiny_patch16_224", "--summary")
    assert code == 0
    assert out.splitlines()[-1] == "| any | 1 of 1 | |"
    assert f"there is no table for timm {timm.__version__} in this release" in err


SAMPLE = "coat_lite_mini deit_tiny_distilled_patch16_224 hiera_tiny_224 pvt_v2_b0"


@pytest.mark.parametrize("name", SAMPLE.split())
def test_the_table_agrees_with_a_fresh_count(name):
    table = read_table(timm.__version__)
    if table is None:
        pytest.skip(f"this release has no table for timm {timm.__version__}")
    (row,) = table.matching(name)
    assert coverage(name) == row


@pytest.mark.nightly
def test_the_table_agrees_with_a_fresh_look_in_every_family():
    """The cheapest model of each family, without counting its step, which takes most of the time."""
    table = read_table(timm.__version__)
    if table is None:
        pytest.skip(f"this release has no table for timm {timm.__version__}")
    cheapest = {}
    for row in sorted(table.rows, key=lambda row: row.full_flops or 0, reverse=True):
        if row.reason is None:
            cheapest[row.family] = replace(row, full_flops=None, half_flops=None)
    assert len(cheapest) == len({row.family for row in table.rows})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert [coverage(row.name, count=False) for row in cheapest.values()] == list(cheapest.values())
