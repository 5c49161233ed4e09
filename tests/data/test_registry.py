import pytest

from explorer import InvalidInput
from explorer.data import ResidentData, open_data, register, registered_names
from explorer.references import is_reference, load_reference
from explorer.spec import DataSpec

NOT_A_FACTORY = "a string"


def small(spec: DataSpec) -> ResidentData:
    return open_data(DataSpec(name="digits"))


def nothing(spec: DataSpec) -> None:
    return None


def test_built_in_sources_are_registered():
    assert registered_names() == ("digits", "folder", "fractals", "hfds/", "table", "torch/", "wds")


def test_a_registered_source_is_found_by_its_name(clean_registry):
    register("small", small)
    assert open_data(DataSpec(name="small")).train_images == 1149
    assert "small" in registered_names()


def test_a_name_that_ends_in_a_slash_is_a_prefix_and_a_factory_may_be_a_reference(clean_registry):
    register("mine/", f"{__name__}:small")
    assert open_data(DataSpec(name="mine/anything")).train_images == 1149
    with pytest.raises(InvalidInput, match="unknown data source"):
        open_data(DataSpec(name="mine"))


def test_a_name_that_is_registered_again_is_opened_anew(clean_registry):
    register("small", small)
    first = open_data(DataSpec(name="small"))
    register("small", lambda spec: open_data(DataSpec(name="digits", image_size=16)))
    assert (first.image_size, open_data(DataSpec(name="small")).image_size) == (8, 16)


@pytest.mark.parametrize(("name", "message"), [("digits", "built-in"), ("", "without a colon"), ("a:b", "without a colon")])
def test_names_that_cannot_be_registered(name, message):
    with pytest.raises(InvalidInput, match=message):
        register(name, small)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "digit",
            r"data\.name: 'digit': unknown data source; did you mean 'digits'\? Allowed are digits, folder, .*torch/\.\.\.",
        ),
        ("no such", r"unknown data source; Allowed are digits.* and package\.module:name"),
        ("Folder", r"data\.name: 'Folder': unknown data source; did you mean 'folder'\?"),
        ("Torch/cifar10", r"did you mean 'torch/cifar10'\?"),
        ("torch", r"data\.name: 'torch': unknown data source; did you mean 'torch/NAME'\?"),
        ("hfds/", r"did you mean 'hfds/NAME'\?"),
        ("folder/x", r"unknown data source"),
        ("digits/", r"unknown data source; did you mean 'digits'\?"),
        ("tfds", r"data\.name: 'tfds': is read in sequence"),
        ("tfds/imagenet", r"data\.name: 'tfds/imagenet': is read in sequence"),
        ("no.such.module:name", r"no\.such\.module cannot be imported: .*add its folder to PYTHONPATH"),
        (f"{__name__}:missing", r"data\.name: .*has no 'missing'"),
        (f"{__name__}:NOT_A_FACTORY", "must be a function or a class that takes the data settings"),
        (f"{__name__}:nothing", r"does not implement explorer\.data\.DataSource: it lacks channels, classes, "),
    ],
)
def test_a_name_that_cannot_be_opened_is_refused_in_one_line(name, message):
    with pytest.raises(InvalidInput, match=message) as caught:
        open_data(DataSpec(name=name))
    assert "\n" not in str(caught.value)


def test_a_module_that_fails_is_quoted(tmp_path, monkeypatch):
    (tmp_path / "failing_source.py").write_text("raise RuntimeError('no licence')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InvalidInput, match="failing_source cannot be imported: RuntimeError: no licence"):
        open_data(DataSpec(name="failing_source:source"))


def test_built_in_sources_have_no_options():
    with pytest.raises(InvalidInput, match=r"data\.options: \{'classes': 3\}: 'digits' has no options"):
        open_data(DataSpec(name="digits", options={"classes": 3}))


def test_references():
    assert [is_reference(text) for text in ("a:b", "a.b_1:C", "a", "a:", ":b", "a.:b", "1a:b", "a/b:c")] == [True] * 2 + [
        False
    ] * 6
    assert load_reference("explorer.spec:Budget", "field").__name__ == "Budget"
    with pytest.raises(InvalidInput, match=r"field: 'a': must have the form package\.module:name"):
        load_reference("a", "field")
