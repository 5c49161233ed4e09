"""Which of timm's models can be resized, checked against published sizes."""

import json
import sys
import warnings
from dataclasses import replace

import pytest

from explorer import InvalidInput, cli
from explorer.elastic.coverage import Coverage, coverage, summary, transformer_names
from explorer.spec.rates import Rates


def test_deit_small_as_published():
    row = coverage("deit_small_patch16_224")
    assert (row.family, row.axes, row.tokens, row.reason) == ("deit", ("heads", "mlp", "tokens", "depth"), "drop+resize", None)
    # 6 heads, 4 * 384 hidden channels, (224 / 16)^2 patches
    assert row.smallest == Rates(heads=1 / 6, mlp=1 / 1536, tokens=1 / 196, depth=1 / 12)
    # 4.6 GMACs forward (DeiT, table 5), two FLOPs each; forward and backward cost three times that
    assert row.full_flops == pytest.approx(3 * 2 * 4.6e9, rel=0.05)
    assert row.half_fraction == pytest.approx(0.25, abs=0.02)  # half of each layer for half of the tokens


def test_heads_of_a_pyramid_where_single_heads_stay():
    row = coverage("pvt_v2_b0", count=False)
    assert row.axes == ("heads", "mlp", "tokens")
    assert row.tokens == "resize"
    assert row.smallest.tokens == 1 / 49  # images of 32 instead of 224 pixels a side: one token in the last stage
    # Stages of 1, 2, 5, 8 heads, two blocks each: at .51/2 of the heads they keep 1, 1, 1, 2.
    assert row.smallest.heads == 5 / 16
    assert (row.full_flops, row.half_flops, row.half_fraction) == (None, None, None)


def test_what_raises_becomes_a_reason():
    assert "it has no attention or MLP" in coverage("resnet18").reason
    assert coverage("resnet18").axes == ()


def test_a_model_that_fails_in_its_forward_pass_is_a_row(monkeypatch):
    def fail(*_):
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("explorer.elastic.coverage.count_step_flops", fail)
    row = coverage("vit_tiny_patch16_224")
    assert (row.axes, row.reason) == ((), "RuntimeError: two lines")


def test_patterns_match_as_in_timm():
    assert transformer_names("deit_tiny_*") == ["deit_tiny_distilled_patch16_224", "deit_tiny_patch16_224"]


@pytest.mark.parametrize(("pattern", "words"), [("deit_smal_patch16_224", "deit_small_patch16_224"), ("resnet18", "resnet18")])
def test_a_pattern_without_match_is_refused_with_near_ones(pattern, words):
    with pytest.raises(InvalidInput, match=f"{pattern}.*{words}"):
        transformer_names(pattern)


def test_summary_has_families_by_axes():
    both = Coverage("a", "vit", axes=("heads", "mlp"))
    rows = [both, replace(both, name="b"), Coverage("c", "coat", axes=("mlp",)), Coverage("d", "vit", reason="no")]
    assert summary(rows)[2:] == [
        "| heads, mlp | 2 | vit 2 |",
        "| mlp | 1 | coat 1 |",
        "| none | 1 | vit 1 |",
        "| any | 3 of 4 | |",
    ]


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["explorer", "models", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0), *capsys.readouterr()


def test_command_prints_a_table_and_json(monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "deit_tiny_patch16_224")
    assert code == 0
    line = next(line for line in out.splitlines() if line.startswith("deit_tiny"))
    assert line.split()[1:10] == ["heads", "mlp", "tokens", "depth", "1/3", "1/768", "1/196", "1/12", "drop+resize"]
    code, out, _ = run(monkeypatch, capsys, "deit_tiny_patch16_224", "--json")
    (row,) = json.loads(out)
    assert row["smallest_rates"]["heads"] == 1 / 3
    assert row["half_flops"] < row["full_flops"]


def test_command_refuses_an_unmatched_pattern_in_one_line(monkeypatch, capsys):
    code, _, err = run(monkeypatch, capsys, "deit_smal_patch16_224")
    assert code == 2
    assert len(err.strip().splitlines()) == 1


@pytest.mark.slow
def test_most_transformers_of_timm_can_be_resized():
    """Every third name, 230 of 690: all of them take four minutes on one core. At least 640 / 690 of them resize."""
    names = transformer_names()[::3]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        refused = {row.name: row.reason for row in (coverage(name, count=False) for name in names) if row.reason}
    for name, reason in refused.items():
        print(f"{name}: {reason}")
    assert len(names) - len(refused) >= 640 / 690 * len(names), refused
