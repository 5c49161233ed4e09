"""A transformer of the user's, with rows given from outside: it passes the contract, and trains by its name in a task."""

import pytest

from explorer import Rates
from explorer.elastic import ElasticModel
from explorer.elastic.depth import STACKS
from explorer.elastic.layouts import LAYOUTS
from explorer.elastic.testing import CHECKS, check_model
from explorer.elastic.token_dropping import DROP_LOCATIONS
from explorer.errors import validated
from explorer.spec.task import TaskSpec
from explorer.training.loop import train
from explorer.training.task import Task
from tests.training.runs import planned


@pytest.fixture(scope="module")
def own():
    """The module, whose registrations are removed after the tests."""
    from tests.elastic import own_transformer

    yield own_transformer
    for table in (LAYOUTS, STACKS, DROP_LOCATIONS):
        for kind in [kind for kind in table if kind.__module__ == own_transformer.__name__]:
            del table[kind]


def test_it_passes_the_checks_of_built_in_families(own):
    passed = check_model(lambda: own.build(img_size=8, in_chans=3, num_classes=5), (2, 3, 8, 8))
    assert passed == [check.__name__ for check in CHECKS if "checkpointing" not in check.__name__]
    elastic = ElasticModel(own.build(img_size=8, in_chans=3, num_classes=5), image_size=8)
    assert elastic.axes == ("heads", "mlp", "tokens", "depth")
    elastic.set_rates(Rates(heads=0.5, mlp=0.25))
    first = elastic.model.floors[0]
    assert (first.gossip.speakers, first.gossip.ask.weight.shape, first.digest.chew.weight.shape) == (2, (16, 32), (32, 32))


def test_it_trains_by_its_name(own, tiny_spec, three_stages):
    name = f"{own.__name__}:build"
    task = Task(validated(TaskSpec, {**tiny_spec.model_dump(), "model": {"name": name, "options": {"floors": 3}}}, "task"))
    task.check()
    assert task.warnings == ()
    plan = planned(task, three_stages, "25%")
    assert train(task, plan, seed=0).steps == plan.steps
