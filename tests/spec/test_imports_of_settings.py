"""What settings import: found by their fields, said in one line, and given as objects."""

import functools

import pytest

from explorer import InvalidInput, SearchSpace
from explorer.errors import validated
from explorer.references import load_reference, reference_to
from explorer.spec import DataSpec
from explorer.spec.imports import imports_line, imports_of
from explorer.spec.model import ModelSpec
from explorer.spec.objective import ObjectiveSpec


class Pictures:
    """A data set in a module that can be imported."""

    @classmethod
    def opened(cls):
        """Not at the top level."""


def replaced():
    """Is not what the module has under this name."""


ORIGINAL = replaced


def replaced():
    """Has the name now."""


def test_a_space_says_what_it_imports(space_file):
    space = SearchSpace.load(space_file)
    assert (imports_of(space), imports_line(space, "this search space")) == ({}, None)
    content = space.model_dump(mode="json")
    content["data"] = {"name": "mine.data:Pictures", "image_size": 8, "options": {"text": "no.reference:Here"}}
    content["search"]["sampler"] = "mine.data:sampler"
    content["model"] = {"name": "mine.models:small"}
    content["import"] = ["mine.layouts", "mine.data"]
    content["objective"] = {"loss": "mine.losses:focal", "metric": "f1", "also": "mine.metrics:worst"}
    space = SearchSpace.model_validate(content)
    assert imports_of(space) == {
        "model.name": "mine.models:small",
        "data.name": "mine.data:Pictures",
        "objective.loss": "mine.losses:focal",
        "objective.also": "mine.metrics:worst",
        "import.0": "mine.layouts",
        "import.1": "mine.data",
        "search.sampler": "mine.data:sampler",
    }
    assert imports_line(space, "this search space") == (
        "this search space imports, and so runs, code from outside of this package: "
        "mine.models (model.name), mine.data (data.name, import.1, search.sampler), mine.losses (objective.loss), "
        "mine.metrics (objective.also), mine.layouts (import.0)"
    )


def test_a_class_may_be_given_as_an_object():
    name = f"{__name__}:Pictures"
    assert DataSpec(name=Pictures, image_size=8).name == name
    assert load_reference(reference_to(Pictures, "field"), "field") is Pictures


def test_losses_metrics_and_models_may_be_given_as_objects():
    name = f"{__name__}:replaced"
    objective = ObjectiveSpec(loss=replaced, metric="f1", also=replaced)
    assert (objective.loss, objective.also) == (name, name)
    assert ModelSpec(name=replaced).name == name
    with pytest.raises(InvalidInput, match=r"loss: .*lambda.*is defined inside of a function or class"):
        validated(ObjectiveSpec, {"loss": lambda outputs, targets: outputs.mean()}, "objective")


def in_the_script():
    """Stands for a function of the script that runs."""


in_the_script.__module__ = "__main__"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            lambda split: None,
            r"<lambda>.*is defined inside of a function or class, where workers cannot find it; put it at the",
        ),
        (Pictures.opened, r"Pictures\.opened.*is defined inside of a function or class"),
        (
            in_the_script,
            r"__main__:in_the_script.*is defined in the script or notebook that runs, which workers do not import",
        ),
        (functools.partial(Pictures), r"an instance of partial.*is an object without a name, which cannot be sent to workers"),
        (ORIGINAL, r"replaced'?: is not what tests\.spec\.test_imports_of_settings has under this name"),
    ],
)
def test_what_workers_cannot_import_is_refused_with_how_to_make_it_importable(given, message):
    with pytest.raises(InvalidInput, match=message) as caught:
        validated(DataSpec, {"name": given, "image_size": 8}, "space.yaml")
    assert "name it as package.module:name" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(InvalidInput, match=r"data\.name: .*name it as package\.module:name"):
        reference_to(given, "data.name")
