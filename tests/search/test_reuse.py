"""Which trainings of other sweeps on a storage are the same. Plans and headers are real; nothing is trained."""

import pytest

from explorer import SearchSpace
from explorer.ledger import Ledger, OtherTrial, sweeps_in
from explorer.ledger.spending import Charges
from explorer.ledger.status import sweep_status
from explorer.search.dispatcher import Dispatcher, PlannedTrial
from explorer.search.forecast import synthetic_record
from explorer.search.reuse import OtherTrainings
from explorer.search.search import Search
from explorer.search.trial_plan import compile_trial
from explorer.sweep.header import new_header
from explorer.sweep.versions import installed_versions, numerical_versions
from explorer.training.task import Task
from tests.conftest import with_search


@pytest.fixture
def space(space_file) -> SearchSpace:
    return SearchSpace.load(space_file)


def started(storage, space, name, /, **header) -> Ledger:
    """A sweep on a storage, with a header as a driver writes it."""
    ledger = Ledger(f"{storage}/{name}")
    ledger.create(new_header(name, space, Task(space.task).data.inventory).model_copy(update=header))
    return ledger


def trained(ledger, space, trial, accuracy=0.75, device="cpu", **changes):
    """Write the record of a trial as if it had been trained."""
    _, plan = compile_trial(trial, space)
    record = synthetic_record(trial, plan, accuracy).model_copy(
        update={"device": device, "worker": "w", "versions": numerical_versions(), "started": 1.0, "finished": 9.0, **changes}
    )
    ledger.append(record)
    return record


def others(storage, space, name="B", device="cpu", versions=None, inventory=None) -> OtherTrainings:
    return OtherTrainings(
        Ledger(f"{storage}/{name}"),
        space,
        inventory or Task(space.task).data.inventory,
        versions or installed_versions(),
        lambda: device,
        sweeps_in(str(storage)),
    )


def reused(found, space, trial):
    return found.record_of(trial, compile_trial(trial, space)[1])


def test_the_result_is_copied_and_costs_nothing(space, tmp_path):
    trial = Search(space).next()
    record = trained(started(tmp_path, space, "A"), space, trial)
    mine = trial.model_copy(update={"id": "mine"})
    found = others(tmp_path, space)
    assert len(found) == 1
    copy = reused(found, space, mine)
    assert (copy.trial, copy.reused_from) == (mine, OtherTrial(sweep="A", trial=trial.id))
    assert copy.outcome.validation == 0.75
    assert copy.outcome.planned_cost == record.outcome.planned_cost > 0.2
    assert copy.outcome.executed_cost == copy.outcome.executed_seconds == 0
    assert (copy.worker, copy.device, copy.plan) == ("w", "cpu", record.plan)
    assert copy.finished == copy.started > 9
    charges = Charges({budget: budget.amount for budget in space.budgets}, has_store=True)
    charges.add(record)
    assert charges.spent == pytest.approx(record.outcome.planned_cost)
    charges.add(copy)
    assert charges.spent == pytest.approx(record.outcome.planned_cost)


@pytest.mark.parametrize("changes", [{"seed": 1}, {"learning_rate": 2.0001e-3}, {"batch_size": 16}, {"budget": "26%"}])
def test_another_setting_is_another_training(space, tmp_path, changes):
    trial = Search(space).next()
    trained(started(tmp_path, space, "A"), space, trial)
    other = type(trial).model_validate({**trial.model_dump(), **changes})
    assert reused(others(tmp_path, space), space, trial) is not None
    assert reused(others(tmp_path, space), space, other) is None


def changed(space, **content) -> SearchSpace:
    """The space with other settings in some sections."""
    plain = space.model_dump(mode="json")
    for name, value in content.items():
        plain[name] = {**plain[name], **value} if isinstance(value, dict) else value
    return SearchSpace.model_validate(plain)


@pytest.mark.parametrize(
    "content",
    [
        {"recipe": {"weight_decay": 0.06}},
        {"recipe": {"lr_schedule": {"kind": "cosine"}}},
        {"staging": {"growth": "initial"}},
        {"model": {"options": {"patch_size": 2, "embed_dim": 32, "depth": 2, "num_heads": 4, "drop_rate": 0.1}}},
        {"resources": {"cpus": 2}},
        {"resources": {"processes": 2}},
    ],
)
def test_another_task_or_other_resources_are_another_training(space, tmp_path, content):
    other = changed(space, **content)
    trial = Search(other).next()
    trained(started(tmp_path, other, "A"), other, trial)
    assert reused(others(tmp_path, space), space, Search(space).next()) is None


def test_the_length_of_full_training_does_not_matter_where_the_steps_are_equal(space, tmp_path):
    longer = changed(space, recipe={"epochs": 4})
    trial = Search(longer).next()
    half = trial.model_copy(update={"budget": space.budgets[1]})  # 50 % of 2 epochs is 25 % of 4
    trained(started(tmp_path, longer, "A"), longer, trial)
    copy = reused(others(tmp_path, space), space, half)
    assert copy.outcome.planned_cost == pytest.approx(0.5, abs=0.02)  # of this sweep's full training


@pytest.mark.parametrize("where", ["versions", "device", "record", "data", "classes"])
def test_another_environment_or_other_data_is_another_training(space, tmp_path, where):
    trial, inventory, here = Search(space).next(), Task(space.task).data.inventory, {}
    if where == "versions":
        here["versions"] = {**installed_versions(), "vit-budget-explorer": "0.0.1"}
    if where == "device":
        here["device"] = "NVIDIA H100"
    if where == "data":
        split = inventory.train.model_copy(update={"listing": "other"})
        here["inventory"] = inventory.model_copy(update={"train": split})
    if where == "classes":
        here["inventory"] = inventory.model_copy(update={"class_names": inventory.class_names[::-1]})
    ledger = started(tmp_path, space, "A")
    trained(ledger, space, trial, **({"versions": {"torch": "1.0", "timm": "1.0"}} if where == "record" else {}))
    assert reused(others(tmp_path, space, **here), space, trial) is None
    assert len(others(tmp_path, space, device=None)) == 0  # hosts with several kinds of devices


def test_a_task_with_code_of_the_users_is_never_reused(space, tmp_path):
    data = {"name": "tests.data.test_registry:Source", "image_size": 8}
    own = SearchSpace.model_validate({**space.model_dump(mode="json"), "data": data})
    inventory = Task(space.task).data.inventory
    for name, its_space in (("A", own), ("C", space)):
        trained(started(tmp_path, space, name, space=its_space), space, Search(space).next())
    assert len(others(tmp_path, own, inventory=inventory)) == 0
    assert len(others(tmp_path, space)) == 1  # that of C
    (tmp_path / "C" / "sweep.json").unlink()
    assert len(others(tmp_path, space)) == 0


def test_a_sweep_that_cannot_be_read_is_named_and_the_others_are_used(space, tmp_path):
    trial = Search(space).next()
    trained(started(tmp_path, space, "A"), space, trial)
    broken = started(tmp_path, space, "old")
    path = tmp_path / "old" / "sweep.json"
    path.write_text(path.read_text().replace('"version": 2', '"version": 1'))
    (tmp_path / "no-sweep").mkdir()
    found = others(tmp_path, space)
    assert reused(found, space, trial) is not None
    assert list(found.unreadable) == ["old"]
    assert "older release" in found.unreadable["old"]
    assert broken.location not in [ledger.location for ledger in sweeps_in(str(tmp_path / "none"))]


def test_failed_trials_and_its_own_are_not_reused(space, tmp_path):
    trial = Search(space).next()
    trained(
        started(tmp_path, space, "A"), space, trial, status="failed", outcome=None, failure="diverged", reason="diverged: x"
    )
    trained(started(tmp_path, space, "B"), space, trial)
    assert len(others(tmp_path, space)) == 0


def test_what_was_reused_is_reused_again_and_keeps_its_origin(space, tmp_path):
    trial = Search(space).next()
    trained(started(tmp_path, space, "A"), space, trial)
    copy = reused(others(tmp_path, space), space, trial)
    started(tmp_path, space, "B").append(copy)
    again = OtherTrainings(
        Ledger(f"{tmp_path}/C"),
        space,
        Task(space.task).data.inventory,
        installed_versions(),
        lambda: "cpu",
        [Ledger(f"{tmp_path}/B")],
    )
    assert reused(again, space, trial).reused_from == OtherTrial(sweep="A", trial=trial.id)


def searched(space, record_of=lambda *_: None) -> Dispatcher:
    """A whole search, in which what is not reused ends with an accuracy that its learning rate decides."""
    dispatcher = Dispatcher(
        Search(space), lambda trial: compile_trial(trial, space)[1], hold_back=False, trained_elsewhere=record_of
    )
    dispatcher.records = []
    while isinstance(planned := dispatcher.next(), PlannedTrial):
        accuracy = 100 * planned.trial.learning_rate
        dispatcher.records.append(synthetic_record(planned.trial, planned.plan, accuracy))
        dispatcher.finished(dispatcher.records[-1])
    return dispatcher


def test_a_search_goes_on_as_if_they_had_been_run(space, tmp_path):
    space = with_search(space, trials=6, repeat=1, repeat_seeds=2)
    plain = searched(space)
    ledger = started(tmp_path, space, "A")
    elsewhere = plain.records[:5] + plain.records[-2:]
    for record in elsewhere:
        ledger.append(record.model_copy(update={"device": "cpu", "versions": numerical_versions()}))
    warm = searched(space, others(tmp_path, space).record_of)
    copied = {record.trial.id: record for record in warm.take_shared_records() if record.reused_from}
    assert copied.keys() == {record.trial.id for record in elsewhere}
    assert warm.reused == {"A": 7}
    trials = {record.trial.id: record.trial for record in (*warm.records, *copied.values())}
    assert trials == {record.trial.id: record.trial for record in plain.records}  # from the same proposals
    mine = started(tmp_path, space, "B")
    for record in (*warm.records, *copied.values()):
        mine.append(record)
    status = sweep_status(mine)
    assert (status.completed, dict(status.reused)) == (len(plain.records), {"A": 7})
    assert status.spent_full_trainings == pytest.approx(sum(record.outcome.executed_cost for record in warm.records))
