from explorer.differences import Difference, differences, first_difference, flattened


def test_settings_are_compared_by_dotted_name():
    before = {"model": {"name": "a", "options": {"depth": 2}}, "data": {"root": "/here"}}
    after = {"model": {"name": "b", "options": {}}, "data": {"root": "/there"}}
    assert list(differences(before, after, ignored=("data.root",))) == [
        Difference("model.name", "a", "b"),
        Difference("model.options", None, {}),
        Difference("model.options.depth", 2, None),
    ]
    assert first_difference(before, after).field == "model.name"
    assert first_difference(before, before) is None


def test_an_empty_mapping_is_a_value():
    assert flattened({"a": {}, "b": {"c": 1}}) == {"a": {}, "b.c": 1}
