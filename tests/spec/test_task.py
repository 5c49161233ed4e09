import pytest

from explorer import InvalidInput
from explorer.spec import Recipe, TaskSpec


def test_tuned_settings_replace_those_of_the_recipe(tiny_spec):
    changed = tiny_spec.with_settings(5e-4, 64, {"subset": "random"})
    assert (changed.recipe.learning_rate, changed.recipe.batch_size, changed.staging.subset) == (5e-4, 64, "random")
    same = changed.with_settings(tiny_spec.recipe.learning_rate, tiny_spec.recipe.batch_size, {"subset": "leading"})
    assert same == tiny_spec


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((0.0, 32), r"recipe: learning_rate: 0\.0: Input should be greater than 0"),
        ((1e-3, 0), r"recipe: batch_size: 0: Input should be greater than or equal to 1"),
        ((1e-3, 32, {"subset": "best"}), r"staging: subset: 'best'"),
        ((1e-3, 32, {"subset": "random", "growth": "zero"}), "staging: .*zero needs a subset that only grows"),
        ((1e-3, 32, {"subsets": "leading"}), r"staging: subsets: .*did you mean 'subset'"),
    ],
)
def test_tuned_settings_are_validated(tiny_spec, settings, message):
    with pytest.raises(InvalidInput, match=message):
        tiny_spec.with_settings(*settings)


def test_a_task_round_trips_through_json(tiny_spec):
    assert TaskSpec.model_validate_json(tiny_spec.model_dump_json()) == tiny_spec
    assert TaskSpec.model_validate(tiny_spec.model_dump(mode="json", exclude_defaults=True)) == tiny_spec


def test_recipes_are_immutable(tiny_spec):
    with pytest.raises(ValueError, match="frozen"):
        tiny_spec.recipe.epochs = 3
    assert isinstance(tiny_spec.recipe, Recipe)
