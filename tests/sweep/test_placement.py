"""Where trials run: their bundles, and what is refused before any work. No Ray cluster."""

import re

import pytest

from explorer import InvalidInput, SearchSpace
from explorer.search.checks import check_space
from explorer.search.machines import count_places, wanted_on_a_node, wanted_text
from explorer.spec.task_file import Resources
from explorer.sweep import places
from explorer.sweep.placement import AVOIDED, placement
from explorer.sweep.places import check_room
from tests.conftest import TINY_SPACE

EIGHT = Resources(cpus=4, gpus=8, accelerator="H100")
EACH = {"CPU": 4.0, "GPU": 1.0, "accelerator_type:H100": 0.001}


def test_each_process_has_a_bundle_on_the_same_node_unless_they_may_be_spread():
    avoided = {AVOIDED: ["b", "a"]}
    single = placement(Resources(gpus=0.5))(avoided)
    assert (single.bundles, single.strategy) == ([{"CPU": 1, "GPU": 0.5}], "PACK")
    packed = placement(EIGHT)(avoided)
    assert (packed.bundles, packed.strategy, packed.head_bundle_is_empty) == ([EACH] * 8, "STRICT_PACK", True)
    assert packed._kwargs == {"bundle_label_selector": [{"ray.io/node-id": "!in(a,b)"}] * 8}
    spread = placement(EIGHT.model_copy(update={"spread": True}))({})
    assert (spread.bundles, spread.strategy) == ([EACH] * 8, "PACK")
    on_cpus = placement(Resources(processes=2))({})
    assert (on_cpus.bundles, on_cpus.strategy) == ([{"CPU": 1}] * 2, "STRICT_PACK")


def test_places_are_counted_in_whole_trials_on_a_node_or_over_all_nodes():
    nodes = [{"CPU": 64.0, "GPU": gpus, "accelerator_type:H100": 1.0} for gpus in (8.0, 8.0, 4.0, 4.0)]
    assert count_places(EIGHT, nodes) == 2
    assert count_places(EIGHT.model_copy(update={"spread": True}), nodes) == 3
    assert count_places(Resources(processes=6, cpus=2), nodes) == 4 * 5
    assert wanted_on_a_node(EIGHT)["GPU"] == 8
    assert wanted_text(EIGHT) == "8 processes of 4 CPU and 1 GPU (H100)"


@pytest.mark.parametrize(
    ("resources", "reason"),
    [
        ({"gpus": 1.5}, "gpus: 1.5 must be a whole number, or a fraction of one GPU"),
        ({"gpus": 4, "processes": 2}, "processes: 2 must be 4, one for each GPU (gpus: 4)"),
        ({"gpus": 0.5, "processes": 2}, "processes: 2 must be 1, one for each GPU (gpus: 0.5)"),
        ({"spread": True}, "spread: true is for several processes"),
    ],
)
def test_resources_that_do_not_go_together_are_refused(resources, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
        Resources(**resources)


def test_more_than_a_node_has_is_refused_with_the_way_out(monkeypatch):
    nodes = {name: {"CPU": 16.0, "GPU": 2.0} for name in "ab"}
    monkeypatch.setattr(places, "alive_nodes", lambda: nodes)
    with pytest.raises(InvalidInput) as refused:
        check_room(Resources(gpus=4))
    assert str(refused.value) == (
        "resources.gpus: 4.0: the 4 processes of a trial need 4 GPUs, more than any node has: at most 2; resources.spread: true "
        "lets its processes train on several nodes; where nodes are added on demand, use --wait-for-nodes"
    )
    check_room(Resources(gpus=4, spread=True))
    with pytest.raises(InvalidInput, match="need 6 GPUs, more than all nodes together have: at most 4; where nodes"):
        check_room(Resources(gpus=6, spread=True))
    with pytest.raises(InvalidInput, match=r"resources\.cpus: 9: the 2 processes of a trial need 18 CPUs, more than any node"):
        check_room(Resources(processes=2, cpus=9))


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"batch_size: [16, 32]": "batch_size: [255, 256]"}, "search.batch_size: 256: must be a multiple of the 3 processes"),
        ({"batch_size: 32,": "batch_size: 256,", "[16, 32]": "[255]"}, "recipe.batch_size: 256: must be a multiple of the 3"),
        (
            {"batch_size: 32,": "batch_size: 255, accumulation: 3,", "[16, 32]": "[255]"},
            "recipe.accumulation: 3: must divide a process's 85 images equally",
        ),
    ],
)
def test_a_batch_that_the_gpus_of_a_trial_cannot_divide_is_refused_before_any_work(tmp_path, changes, refusal):
    text = TINY_SPACE + "resources: {gpus: 3}\n"
    for before, after in changes.items():
        assert before in text
        text = text.replace(before, after)
    path = tmp_path / "space.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInput) as refused:
        check_space(SearchSpace.load(path))
    assert str(refused.value).startswith(refusal)
