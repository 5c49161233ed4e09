"""Task files and search spaces: the task is nested in Python and flat in files, and messages speak of files."""

import pytest
import yaml

from explorer import InvalidInput, SearchSpace
from explorer.errors import validated
from explorer.ledger import SweepHeader
from explorer.spec import Resources, TaskFile, TaskSpec
from explorer.spec.base import read_mapping


@pytest.fixture
def content(space_file):
    return yaml.safe_load(space_file.read_text())


@pytest.fixture
def task_content(content):
    return {name: content[name] for name in ("model", "data", "recipe")}


def test_a_task_file_has_no_search(tmp_path, task_content):
    path = tmp_path / "task.yaml"
    path.write_text(yaml.safe_dump({**task_content, "resources": {"cpus": 2}}))
    loaded = TaskFile.load_task(path)
    assert type(loaded) is TaskFile
    assert (loaded.task, loaded.resources) == (TaskSpec.model_validate(task_content), Resources(cpus=2))


def test_a_search_space_is_a_task_file(space_file, task_content):
    loaded = TaskFile.load_task(space_file)
    assert type(loaded) is SearchSpace
    assert loaded.task == TaskSpec.model_validate(task_content)


def test_files_are_flat_and_round_trip(content, task_content):
    for model, data in ((SearchSpace, content), (TaskFile, task_content)):
        loaded = model.model_validate(data)
        dumped = loaded.model_dump(mode="json")
        assert "task" not in dumped
        assert model.model_validate(dumped) == loaded
        assert model.model_validate_json(loaded.model_dump_json()) == loaded
        assert model(**dict(loaded)) == loaded  # fields as they are in Python, with the task nested


WRONG = [
    ({"modle": {}}, r"f: modle: 'modle': unknown key; did you mean 'model'\?"),
    ({"dat": {}}, r"f: dat: 'dat': unknown key; did you mean 'data'\?"),
    ({"budget": ["25%"]}, r"f: budget: 'budget': unknown key; did you mean 'budgets'\?"),
    ({"resource": {}}, r"f: resource: .*did you mean 'resources'\?"),
    (
        {"zzz": 1},
        r"f: zzz: 'zzz': unknown key; allowed are model, data, recipe, staging, objective, import, resources, name, budgets, ",
    ),
    ({"data": {}}, r"f: data\.name: 'missing': this key is required"),
    ({"model": 3}, r"f: model: 3: "),
    ({"recipe": {"epochs": 0, "batch_size": 1, "learning_rate": 1}}, r"f: recipe\.epochs: 0: "),
    (
        {"task": {}},
        r"f: task: remove this key: its sections \(model, data, recipe, staging, objective, import\) are at the top level",
    ),
    (
        {
            "budgets": ["25%", "100%"],
            "search": {
                "rates": {"tokens": [0.5, 1]},
                "learning_rate": [1e-3, 1e-2],
                "batch_size": [8],
                "trials": 1,
                "baseline_trials": 1,
                "goal": "40%",
            },
        },
        r"f: search\.goal: 40% must be one of the budgets: 25%, 100%$",
    ),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_messages_do_not_show_how_the_task_is_nested(content, changes, message):
    with pytest.raises(InvalidInput, match=f"^{message}") as caught:
        validated(SearchSpace, {**content, **changes}, "f")
    assert "task." not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_neither_do_those_of_a_space_inside_a_ledger_header(content, changes, message):
    header = {"name": "s", "space": {**content, **changes}, "created": 1.0, "versions": {}, "hardware": "h"}
    inner = message.removeprefix("f: ")
    with pytest.raises(InvalidInput, match=f"^f: space(: |\\.){inner}") as caught:
        validated(SweepHeader, header, "f")
    assert "task." not in str(caught.value)


def test_a_section_of_the_task_that_is_missing_is_named(tmp_path, content, task_content):
    del task_content["recipe"], content["recipe"]
    for name, data in (("task.yaml", task_content), ("space.yaml", content)):
        path = tmp_path / name
        path.write_text(yaml.safe_dump(data))
        with pytest.raises(InvalidInput, match=rf"{name}: recipe: 'missing': this key is required"):
            TaskFile.load_task(path)


def test_a_misspelled_search_section_is_named(tmp_path, content):
    content["serach"] = content.pop("search")
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InvalidInput, match=r"serach: 'serach': unknown key; did you mean 'search'\?"):
        TaskFile.load_task(path)


@pytest.mark.parametrize("text", ["- model\n- data\n", "model\n", ""])
def test_a_file_that_is_not_a_mapping_is_refused(tmp_path, text):
    path = tmp_path / "task.yaml"
    path.write_text(text)
    with pytest.raises(
        InvalidInput, match="must be a mapping with the keys model, data, recipe, staging, objective, import, resources"
    ):
        TaskFile.load_task(path)


@pytest.mark.parametrize(
    ("name", "text", "key"),
    [
        ("f.yaml", "model: 1\nrecipe: {epochs: 4}\nrecipe: {epochs: 400}\n", "recipe"),
        ("f.yaml", "recipe: {epochs: 4, epochs: 400}\n", "epochs"),
        ("f.json", '{"stages": [{"epochs": 1, "epochs": 2}]}', "epochs"),
    ],
)
def test_a_key_that_is_given_twice_is_refused(name, text, key, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidInput, match=f"{name}: '{key}': this key is given twice$"):
        read_mapping(tmp_path / name)


def test_merged_keys_of_yaml_may_be_given_again(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_text("a: &a {epochs: 4, batch_size: 8}\nb: {<<: *a, epochs: 5}\n")
    assert read_mapping(path) == {"a": {"epochs": 4, "batch_size": 8}, "b": {"epochs": 5, "batch_size": 8}}
