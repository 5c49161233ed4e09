import pytest

from explorer import InvalidInput, SearchSpace
from explorer.errors import validated
from explorer.spec.proxy import Proxy


@pytest.fixture
def content(space_file):
    return SearchSpace.load(space_file).model_dump()


def with_proxy(content, proxy, **changes) -> SearchSpace:
    return validated(SearchSpace, {**content, **changes, "proxy": proxy}, "tiny.yaml")


def test_a_proxy_differs_from_its_target_in_what_it_says_and_in_nothing_else(content):
    space = with_proxy(content, {"images": 0.5, "epochs": 0.25, "model": {"embed_dim": 16}, "image_size": 4, "trials": 7})
    proxy, target = space.proxy_space(1), space.task
    assert proxy.task.recipe == target.recipe.model_copy(update={"epochs": 0.5})
    assert proxy.task.data == target.data.model_copy(update={"train_fraction": 0.5, "image_size": 4})
    assert proxy.task.model.options == {**target.model.options, "embed_dim": 16}
    assert proxy.task.staging == target.staging
    assert (proxy.proxy, proxy.search.repeat) == ((), 0)
    assert [proxy.trials_at(budget, "staged") for budget in space.budgets] == [7, 4]  # at equal cost, at least three
    assert str(space.proxy[0]) == "0.5 of the images, 0.25 of the epochs, embed_dim 16, 4 pixels"


def test_one_proxy_or_a_list(content):
    assert with_proxy(content, {"images": 0.5}).proxy == (Proxy(images=0.5),)
    space = with_proxy(content, [{"images": 0.25}, {"images": 0.5, "trials": [4, 2]}])
    # On the target 2 and 2 staged and 1 and 1 baseline trials; on the first proxy as many staged ones.
    assert space.planned_trials == 2 * 3 + 2 * 2 + (4 + 2)
    assert SearchSpace.model_validate(space.model_dump(mode="json")) == space


def test_spaces_without_proxies_are_written_as_before(content):
    dumped = SearchSpace.model_validate(content).model_dump(mode="json")
    assert "proxy" not in dumped
    assert "train_fraction" not in dumped["data"]


@pytest.mark.parametrize(
    ("proxy", "message"),
    [
        ({}, r"proxy\.0: .*must make the task cheaper: give images, epochs, model or image_size"),
        ({"trials": 3}, r"must make the task cheaper"),
        ({"imags": 0.5}, r"proxy\.0\.imags: .*unknown key; did you mean 'images'"),
        ({"images": 0}, r"proxy\.0\.images: 0: .*greater than 0"),
        ({"images": 1.5}, r"proxy\.0\.images: 1\.5: .*less than or equal to 1"),
        ({"epochs": float("nan")}, r"proxy\.0\.epochs"),
        ({"model": {"num_classes": 5}}, r"model\.num_classes: 5: remove this key: a proxy has the classes and channels"),
        ({"model": {"img_size": 4}}, r"model\.img_size: 4: remove this key"),
        ({"images": 0.5, "trials": [1, 2, 3]}, r"proxy\.0\.trials: \[1, 2, 3\] must have one number for each of the 2 budgets"),
        ([{"images": 0.5}, {"epochs": 0.5, "trials": 0}], r"proxy\.1\.trials: 0: must be a whole number of at least 1"),
    ],
)
def test_bad_proxies_are_refused_in_one_line(content, proxy, message):
    with pytest.raises(InvalidInput, match=message) as refused:
        with_proxy(content, proxy)
    assert "\n" not in str(refused.value)


def test_what_proxies_cannot_be_combined_with(content):
    with pytest.raises(InvalidInput, match=r"proxy: needs budgets that are shares of full training \(25%\), and 1000000 FLOPs"):
        with_proxy(content, {"images": 0.5}, budgets=["1e6 FLOPs"])
    search = {**content["search"], "first": ["paper"], "trials": [1, 1]}
    assert with_proxy(content, {"images": 0.5, "trials": 1}, search=search)
    seconds = {"currency": "device_seconds"}
    assert with_proxy(content, {"images": 0.5, "epochs": 0.5}, **seconds)
    with pytest.raises(InvalidInput, match=r"proxy\.0: another model or image size has other step times"):
        with_proxy(content, {"model": {"embed_dim": 16}}, **seconds)
