"""`~` and variables in the paths that users write."""

import pytest
from typer.testing import CliRunner

from explorer import InvalidInput, Schedule, cli
from explorer.ledger import find_sweep
from explorer.paths import expanded


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("~/a", "/home/me/a"),
        ("$DATA/a", "/data/a"),
        ("${DATA}_old/a", "/data_old/a"),
        ("$MINE/a", "/home/me/mine/a"),
        ("s3://$BUCKET/a~b", "s3://bucket/a~b"),
        ("a/~/$", "a/~/$"),
    ],
)
def test_home_and_variables_are_replaced(path, expected, monkeypatch):
    for name, value in {"HOME": "/home/me", "DATA": "/data", "MINE": "~/mine", "BUCKET": "bucket"}.items():
        monkeypatch.setenv(name, value)
    assert expanded(path, "out") == expected


def test_what_cannot_be_replaced_is_refused(monkeypatch):
    monkeypatch.delenv("NOSUCH", raising=False)
    with pytest.raises(InvalidInput, match=r"out: '\$NOSUCH/a': the environment variable NOSUCH is not set"):
        expanded("$NOSUCH/a", "out")
    with pytest.raises(InvalidInput, match=r"out: '~no-such-user/a': "):
        expanded("~no-such-user/a", "out")


def test_options_and_files_have_them_too(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PLACE", str(tmp_path))
    done = CliRunner().invoke(cli.app, ["init", "--out=~/mine.yaml"])
    assert (done.exit_code, (tmp_path / "mine.yaml").is_file()) == (0, True), done.output
    Schedule.full_model().save("~/schedule.json")
    assert Schedule.load("$PLACE/schedule.json") == Schedule.full_model()
    with pytest.raises(InvalidInput, match=f"nor at {tmp_path}/sweeps/nosuch"):
        find_sweep("nosuch", "~/sweeps")


def test_messages_quote_paths_whole_and_long_values_in_part():
    path = "/" + "/".join(["folder"] * 25)
    assert f"{path!r}: is missing" in str(InvalidInput("root", path, "is missing"))
    assert str(InvalidInput("options", ["one"] * 50, "are too many")) == f"options: {str(['one'] * 50)[:77]}...: are too many"
