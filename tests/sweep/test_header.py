"""What may change between the runs of a sweep: never the data, but where it is."""

import pytest

from explorer import InvalidInput, SearchSpace
from explorer.ledger import Ledger
from explorer.spec.inventory import Inventory, SplitInventory
from explorer.sweep.header import open_sweep
from tests.ledger.test_ledger import make_header, make_record


def inventory(train=(3, 3), names=("cat", "dog"), **digests) -> Inventory:
    def split(name, counts, **more):
        return SplitInventory(name=name, images=sum(counts), per_class=counts, **more)

    parts = {"validation": split("a tenth of train", (1, 1)), "test": split("validation", (1, 1))}
    return Inventory(source="folder", root="images", class_names=names, train=split("train", train, **digests), **parts)


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        ({}, {"names": ("cat", "fox")}, r"data: classes: '2 classes': .* 2 classes \(new are fox and missing are dog\)"),
        ({}, {"names": ("dog", "cat")}, r"data: classes: .*\(their order is another one\)"),
        ({}, {"train": (3, 4)}, r"data: train images: 7: the sweep at .* was started with 6; .* another --name"),
        ({}, {"train": (2, 4)}, r"data: train images: \"2 of class 'cat'\": .* with 3 images of class 'cat'"),
        (
            {"listing": "x"},
            {"listing": "y"},
            r"data: train images: 6: .* as many, but their names, sizes or labels have changed",
        ),
        ({"content": "x"}, {"content": "y"}, r"data: train images: 6: .* as many, but their contents or labels have changed"),
    ],
)
def test_a_sweep_of_other_images_or_classes_is_refused_with_what_changed(tmp_path, before, now, message):
    header = make_header().model_copy(update={"inventory": inventory(**before)})
    ledger = Ledger(tmp_path / "s")
    open_sweep(ledger, header.space, inventory(**before), lambda: header)
    open_sweep(ledger, header.space, inventory(**before), lambda: header)
    with pytest.raises(InvalidInput, match=message):
        open_sweep(ledger, header.space, inventory(**now), lambda: header)


def test_digests_that_one_side_lacks_say_nothing_and_older_headers_are_not_compared(tmp_path):
    ledger, header = Ledger(tmp_path / "s"), make_header()
    older = header.model_copy(update={"inventory": inventory()})
    open_sweep(ledger, header.space, inventory(), lambda: older)
    open_sweep(ledger, header.space, inventory(listing="x", content="y"), lambda: older)
    without = Ledger(tmp_path / "t")
    open_sweep(without, header.space, inventory(), lambda: header)
    open_sweep(without, header.space, inventory(train=(1, 1)), lambda: header)


def test_where_the_data_are_and_where_trials_run_may_change(tmp_path):
    ledger, header = Ledger(tmp_path / "s"), make_header()
    open_sweep(ledger, header.space, inventory(), lambda: header)
    content = header.space.model_dump()
    content["data"] |= {"root": "/mnt/moved", "num_workers": 4}
    content |= {"resources": {"cpus": 2, "gpus": 1}, "store_gb": 1, "loggers": ["wandb"]}
    open_sweep(ledger, SearchSpace.model_validate(content), inventory(), lambda: header)
    content["data"] |= {"train_split": "other"}
    with pytest.raises(InvalidInput, match=r"data\.train_split"):
        open_sweep(ledger, SearchSpace.model_validate(content), inventory(), lambda: header)


def test_records_without_a_header_are_not_taken_for_those_of_a_new_sweep(tmp_path):
    header, ledger = make_header("s"), Ledger(tmp_path / "s")
    open_sweep(ledger, header.space, inventory(), lambda: header)
    ledger.append(make_record())
    (tmp_path / "s" / "sweep.json").unlink()
    with pytest.raises(InvalidInput, match=r"^storage: .*s': holds 1 records and no sweep\.json: .*; use another --name$"):
        open_sweep(ledger, header.space, inventory(), lambda: header)
    assert not ledger.exists
