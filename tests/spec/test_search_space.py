import importlib.util
import math

import pytest
import yaml

from explorer import Budget, InvalidInput, SearchSpace
from explorer.search.checks import check_space


def test_a_good_space_loads(space_file):
    space = SearchSpace.load(space_file)
    assert space.budgets == (Budget(0.25), Budget(0.5))
    assert space.search.rates.heads == (0.25, 0.5, 1.0)
    assert SearchSpace.model_validate_json(space.model_dump_json()) == space


def test_the_kept_spaces_load():
    assert SearchSpace.load("search_spaces/digits.yaml").name == "digits"


BAD = [
    ("model.name", "vit_tinny", r"model\.name: 'vit_tinny': timm .* has no such model"),
    ("model.nam", "x", r"model\.nam: 'nam': unknown key; did you mean 'name'"),
    ("recipe.lerning_rate", 1, r"recipe\.lerning_rate: .*did you mean 'learning_rate'"),
    ("recipe.lr_schedule.kind", "exponential", r"recipe\.lr_schedule\.kind: 'exponential'"),
    ("recipe.epochs", 0, r"recipe\.epochs: 0: Input should be greater than 0"),
    ("recipe.optimizer", "adamv", r"recipe\.optimizer: 'adamv': unknown optimizer"),
    ("budgets", ["0.001%"], r"budgets: .*'0\.001%': must hold at least one step of the full model"),
    ("budgets", ["50%", "25%"], r"budgets: .*must rise"),
    ("budgets", [], r"budgets"),
    ("budgets", ["25"], r"budgets\.0.*a number above 1 needs its unit"),
    ("search.trials", 0, r"search\.trials: .*0: must be a whole number of at least 1"),
    ("search.repeat_seeds", [2, 0], r"search\.repeat_seeds: .*must be a whole number of at least 1"),
    ("search.repeat_seeds", [2, 2, 2], r"search\.repeat_seeds: \[2, 2, 2\] must have one number for each of the 2 budgets"),
    ("search.trials", [2, 2, 2], r"search\.trials: \[2, 2, 2\] must have one number for each of the 2 budgets"),
    ("search.grid", 2, r"search: .*2 slots cannot hold 3 stages"),
    ("search.rates.heads", [0, 0.5, 1], r"search\.rates\.heads: .*must be in \(0, 1\], rise, and end at 1"),
    ("search.rates.heads", [0.5, 0.25, 1], r"search\.rates\.heads: .*rise"),
    ("search.rates.heads", [0.25, 0.5], r"search\.rates\.heads: .*end at 1"),
    ("search.rates.heads", [0.1, 0.5, 1], r"rates\.heads: 0\.1: leaves none of the 4 of blocks\.0\.attn"),
    ("search.learning_rate_grid", 1, r"search: .*learning_rate_grid: 1 value cannot be both"),
    ("search.learning_rate_grid", 0, r"search\.learning_rate_grid: 0"),
    ("search.sampler", "tpee", r"search\.sampler: 'tpee': unknown sampler; did you mean 'tpe'"),
    ("search.promote", -1, r"search\.promote: -1"),
    ("search.minimize", "seconds", r"search\.minimize: 'seconds'.*'train_seconds' or 'peak_memory'"),
    ("search.minimize", "peak_memory", r"search\.minimize: peak_memory is measured on GPUs only"),
    ("search.seed", 2**32, r"search\.seed: 4294967296: .*less than 4294967296"),
    *((key, math.inf, rf"{key}: inf: .*finite number") for key in ("store_gb", "recipe.epochs", "recipe.learning_rate")),
    *((key, math.nan, rf"{key}: nan: .*finite number") for key in ("recipe.weight_decay", "recipe.augmentation.mixup")),
    ("search.learning_rate", [1e-3, math.inf], r"search\.learning_rate\.1: inf: .*finite number"),
    ("data.preprocessing.mean", [math.nan], r"data\.preprocessing\.mean\.0: nan: .*finite number"),
    ("search.rates.heads", [math.nan, 1], r"search\.rates\.heads\.0: nan: .*finite number"),
    ("loggers", ["comet"], r"loggers\.0: 'comet'"),
    ("search.learning_rate", [1e-2, 1e-3], r"search: .*the lower one first"),
    (
        "search.staging.subset",
        ["leading", "best"],
        r"search\.staging\.subset\.1: 'best': .*'leading', 'random' or 'importance'",
    ),
    (
        "search.staging",
        {"subset": ["random"], "growth": ["zero"]},
        r"staging: .*growth: zero needs a subset that only grows",
    ),
    ("staging", {"subset": "random", "growth": "zero"}, r"staging: .*growth: zero needs a subset that only grows"),
    ("search.rates.depth", [0.1, 0.5, 1], r"rates\.depth: 0\.1: leaves none of the 2 blocks; must be at least 0\.25"),
    ("data.root", "/no/such/folder", None),
    ("name", "../evil", r"name: '\.\./evil'"),
    ("resources.cpus", 0, r"resources\.cpus"),
]


@pytest.mark.parametrize(("key", "value", "message"), BAD)
def test_bad_input_is_one_line_that_names_the_field(space_file, key, value, message):
    content = yaml.safe_load(space_file.read_text())
    *path, last = key.split(".")
    inner = content
    for part in path:
        inner = inner.setdefault(part, {})
    inner[last] = value
    if key == "data.root":
        content["data"] |= {"name": "folder"}
        message = r"data\.root: '/no/such/folder': there is no such folder"
    space_file.write_text(yaml.safe_dump(content))
    with pytest.raises(InvalidInput, match=message) as caught:
        check_space(SearchSpace.load(space_file))
    assert "\n" not in str(caught.value)


def test_other_search_settings_are_checked_like_those_of_a_file(space_file):
    space = SearchSpace.load(space_file)
    changed = space.with_search(trials=[4, 2], repeat=1)
    assert (changed.search.trials, changed.search.repeat) == ((4, 2), 1)
    assert changed.model_copy(update={"search": space.search}) == space
    with pytest.raises(InvalidInput, match=r"search: trials: 0: must be a whole number of at least 1"):
        space.with_search(trials=0)
    with pytest.raises(InvalidInput, match=r"search\.trials: \[1, 2, 3\] must have one number for each of the 2 budgets"):
        space.with_search(trials=(1, 2, 3))
    with pytest.raises(InvalidInput, match=r"search: trails: 'trails': unknown key; did you mean 'trials'"):
        space.with_search(trails=1)


@pytest.mark.parametrize("options", [{}, {"by_alias": True}, {"exclude_unset": True}, {"exclude_defaults": True}])
@pytest.mark.parametrize("sweeps", [(), ("earlier",)])
def test_a_space_is_the_same_when_it_is_read_back(space_file, options, sweeps):
    space = SearchSpace.load(space_file).with_search(**{"from": sweeps})
    assert SearchSpace.model_validate(space.model_dump(mode="json", **options)) == space


def test_a_space_keeps_budgets_that_have_no_short_decimal(space_file):
    space = SearchSpace.load(space_file)
    space = SearchSpace.model_validate({**space.model_dump(), "budgets": (Budget(1 / 3),)})
    assert space.budgets[0].amount == pytest.approx(1 / 3, rel=1e-9)
    assert space.with_search(trials=1).budgets == space.budgets
    assert SearchSpace.model_validate(space.model_dump(mode="json")).budgets == space.budgets  # as in a ledger


def test_a_missing_file_is_refused():
    with pytest.raises(InvalidInput, match="there is no such file"):
        SearchSpace.load("no/such.yaml")


def test_tied_rates_need_lists_of_one_length(space_file):
    content = yaml.safe_load(space_file.read_text())
    content["search"] |= {"tied": True, "rates": {"heads": [0.5, 1], "mlp": [0.25, 0.5, 1]}}
    space_file.write_text(yaml.safe_dump(content))
    with pytest.raises(InvalidInput, match="tied: needs the same number"):
        SearchSpace.load(space_file)


def test_an_axis_with_one_rate_is_not_tied_to_the_others(space_file):
    content = yaml.safe_load(space_file.read_text())
    content["search"] |= {"tied": True, "rates": {"heads": [0.5, 1], "mlp": [0.25, 1]}}
    space_file.write_text(yaml.safe_dump(content))
    tied = SearchSpace.load(space_file).search.tied_rates()
    assert [(each.heads, each.mlp, each.tokens, each.depth) for each in tied] == [(0.5, 0.25, 1, 1), (1, 1, 1, 1)]
    content["search"]["rates"] = {"heads": [1]}
    space_file.write_text(yaml.safe_dump(content))
    with pytest.raises(InvalidInput, match="tied: needs an axis with more than one rate"):
        SearchSpace.load(space_file)


def test_a_logger_without_its_package_is_refused(space_file):
    missing = [name for name in ("mlflow", "wandb") if importlib.util.find_spec(name) is None]
    if not missing:
        pytest.skip("all loggers are installed")
    space_file.write_text(space_file.read_text() + f"loggers: [{missing[0]}]\n")
    message = rf"loggers: '{missing[0]}': its package is missing: pip install 'vit-budget-explorer\[{missing[0]}\]'"
    with pytest.raises(InvalidInput, match=message):
        check_space(SearchSpace.load(space_file))
