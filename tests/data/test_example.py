"""The example of docs/howto/own-data.md; test_contract.py runs it through the contract."""

import runpy

import pytest

from explorer import InvalidInput
from explorer.data import open_data
from explorer.spec import DataSpec
from tests.data.conftest import EXTENDING


def test_the_example_trains(extending, capsys):
    runpy.run_path(str(EXTENDING / "data_source.py"), run_name="__main__")
    # 320 images in batches of 16 for 4 epochs are 80 full steps; half of their cost, partly in cheaper steps, is 40 to 80.
    steps, _, rest = capsys.readouterr().out.partition(" steps, test accuracy ")
    assert 40 < int(steps) < 80
    assert float(rest.rstrip("%\n")) > 60  # two classes: 50 % by chance


def test_options_are_checked_in_one_line(extending):
    with pytest.raises(InvalidInput, match=r"data\.options: nose: 'nose': unknown key; did you mean 'noise'\?"):
        open_data(DataSpec(name="data_source:stripes", options={"nose": 1}))
