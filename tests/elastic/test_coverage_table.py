"""The table of timm's models that ships with the package, and the command that reads it."""

import json
import sys
from dataclasses import replace

import pytest
import timm

from explorer import cli
from explorer.elastic.coverage import registered_outside_timm, transformer_names
from explorer.elastic.coverage_table import Coverage, CoverageTable, installed_timm_version, read_table, summary
from tests.test_imports import run_without

TABLE = read_table("1.0.31")


def test_the_table_has_every_transformer_of_the_installed_timm():
    table = read_table()
    if table is None:
        pytest.skip(f"this release has no table for timm {timm.__version__}, only for {TABLE.timm_version}")
    assert table.timm_version == timm.__version__ == installed_timm_version()
    names = [row.name for row in table.rows]
    assert names == [name for name in transformer_names() if name not in registered_outside_timm()]


def test_most_transformers_can_be_resized():
    assert sum(row.reason is None for row in TABLE.rows) == 688
    assert len(TABLE.rows) == 690
    assert all(row.half_flops < row.full_flops for row in TABLE.rows if row.reason is None)


def test_a_version_without_table():
    assert read_table("0.0.1") is None


def test_a_table_is_what_was_written():
    data = json.loads(TABLE.to_json())
    assert data["timm"] == "1.0.31"
    assert CoverageTable(data["timm"], tuple(Coverage.from_dict(row) for row in data["models"])) == TABLE


@pytest.mark.parametrize("pattern", ["deit_tiny*", "vit_*_224", "*", "pit_ti_224", "no_such_model"])
def test_patterns_match_as_in_timm(pattern):
    modules = {row.name for row in TABLE.rows}
    assert [row.name for row in TABLE.matching(pattern)] == [name for name in timm.list_models(pattern) if name in modules]


def test_summary_counts_families_by_axes():
    both = Coverage(name="a", family="vit", axes=("heads", "mlp"))
    mlp_only = Coverage(name="c", family="coat", axes=("mlp",))
    rows = [both, replace(both, name="b"), mlp_only, Coverage(name="d", family="vit", reason="no")]
    assert summary(rows)[2:] == [
        "| heads, mlp | 2 | vit 2 |",
        "| mlp | 1 | coat 1 |",
        "| none | 1 | vit 1 |",
        "| any | 3 of 4 | |",
    ]


def command(*arguments, blocked=("torch", "timm", "ray", "pandas")):
    code = f"""
from explorer.cli import main
sys.argv = ["explorer", "models", *{list(arguments)!r}]
try:
    main()
except SystemExit as stop:
    sys.exit(stop.code)
"""
    return run_without(list(blocked), code)


def test_the_command_needs_neither_torch_nor_timm():
    done = command("--json")
    assert done.returncode == 0, done.stderr
    assert [row["name"] for row in json.loads(done.stdout)] == [row.name for row in TABLE.rows]
    assert done.stderr == ""


@pytest.fixture
def run(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["explorer", "models", *arguments])
        monkeypatch.setattr("explorer.cli.models.installed_timm_version", lambda: "1.0.31")
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return int(stop.value.code or 0), *capsys.readouterr()

    return run


def test_the_command_prints_a_table(run):
    code, out, _ = run("deit_tiny_patch16_224")
    assert code == 0
    line = next(line for line in out.splitlines() if line.startswith("deit_tiny"))
    assert line.split()[1:9] == ["heads", "mlp", "tokens", "depth", "1/3", "1/768", "1/196", "1/12"]
    assert line.split()[9:12] == ["drop,", "center,", "resize"]


def test_the_command_prints_json(run):
    code, out, _ = run("deit_tiny_patch16_224", "--json")
    (row,) = json.loads(out)
    assert code == 0
    assert row["smallest_rates"]["heads"] == 1 / 3
    assert row["token_policies"] == ["drop", "center", "resize"]
    assert row["half_flops"] < row["full_flops"]


def test_the_command_prints_a_summary(run):
    code, out, _ = run("deit*", "--summary")
    assert code == 0
    assert out.splitlines()[-2:] == ["| heads, mlp, tokens, depth | 16 | deit 16 |", "| any | 16 of 16 | |"]


def test_json_and_a_summary_are_not_printed_together(run):
    code, out, err = run("deit*", "--json", "--summary")
    assert (code, out, err) == (2, "", "explorer: --json: '--summary': cannot be combined: leave one of the two out\n")


def test_the_command_says_why_a_model_cannot_be_resized(run):
    code, out, _ = run("lowformer*")
    assert code == 0
    assert "cannot be resized: nothing in it can be resized" in out
    assert out.splitlines()[-1].endswith("can be resized")


@pytest.mark.parametrize("pattern", ["deit_smal_patch16_224", "*deit_smal_patch16_224*"])
def test_the_command_refuses_an_unknown_name_in_one_line_with_similar_names(run, pattern):
    code, _, err = run(pattern)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "similar names: deit_small_patch16_224" in err
