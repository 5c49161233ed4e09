"""Data sources outside of the package: those of docs/howto/own-data.md, and the example, which test_contract.py covers too."""

import runpy

import pytest

from explorer import InvalidInput
from explorer.data import open_data, register
from explorer.data.contract import DataSourceContract
from explorer.spec import DataSpec
from tests.data.conftest import EXTENDING
from tests.docs.blocks import blocks

CONTRACT = DataSourceContract()
PAGE = "docs/howto/own-data.md"


@pytest.fixture(scope="module")
def sources():
    """The functions that the page defines."""
    namespace = {"__name__": "__main__"}
    for block in blocks(PAGE):
        if block.language == "python":
            exec(block.code, namespace)
    return namespace


SPECS = {
    "stripes": DataSpec(name="stripes", image_size=8),
    "Satellite": DataSpec(name="Satellite", image_size=8, preprocessing={"mean": [0.5] * 13, "std": [0.3] * 13}),
}


@pytest.mark.parametrize("test", [name for name in dir(CONTRACT) if name.startswith("test_")])
@pytest.mark.parametrize("name", SPECS)
def test_the_sources_of_the_page_pass_the_contract(sources, clean_registry, name, test):
    register(name, sources[name])
    getattr(CONTRACT, test)(SPECS[name])


def test_the_task_of_the_page_has_its_objects(sources):
    assert (sources["task"].data.channels, sources["task"].train_images) == (13, 144)


def test_the_example_trains(extending, capsys):
    runpy.run_path(str(EXTENDING / "data_source.py"), run_name="__main__")
    # 320 images in batches of 16 for 4 epochs are 80 full steps; half of their cost, partly in cheaper steps, is 40 to 80.
    steps, _, rest = capsys.readouterr().out.partition(" steps, test accuracy ")
    assert 40 < int(steps) < 80
    assert float(rest.rstrip("%\n")) > 60  # two classes: 50 % by chance


def test_options_are_checked_in_one_line(extending):
    with pytest.raises(InvalidInput, match=r"data\.options: nose: 'nose': unknown key; did you mean 'noise'\?"):
        open_data(DataSpec(name="data_source:stripes", options={"nose": 1}))
