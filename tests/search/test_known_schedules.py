"""`search.first`: known schedules come first at every budget. Nothing is trained."""

import json

import pytest

from explorer import InvalidInput, Rates, Schedule, SearchSpace, Stage
from explorer.ledger import Trial
from explorer.search.checks import check_space
from explorer.search.dashboard import Dashboard, shown_parameters
from explorer.search.known_schedules import check_known_schedules, known_schedules
from explorer.search.search import Search
from explorer.search.trial_plan import compile_trial
from tests.search.test_search import finish, run

HALF = Stage(rates=Rates(heads=0.5, mlp=0.5, tokens=0.5), duration_ratio=0.75)


@pytest.fixture
def space(space_file, tmp_path) -> SearchSpace:
    """With a schedule that the space can propose, from a file, and one that it cannot."""
    file = Schedule(stages=(HALF, Stage(rates=Rates(), duration_ratio=0.25))).save(tmp_path / "half.json")
    return SearchSpace.load(space_file).with_search(first=("efficienttrain-like", str(file)), trials=4, grid=20)


def known(trial: Trial) -> bool:
    return trial.known_schedule is not None


def test_they_are_tried_first_at_every_budget(space):
    records = run(Search(space))
    for budget in space.budgets:
        trials = [r.trial for r in records if r.trial.kind == "staged" and r.trial.budget == budget]
        assert [known(trial) for trial in trials] == [True, True] + [False] * (len(trials) - 2)
        assert (trials[0].learning_rate, trials[0].batch_size) == (2e-3, 32)  # the recipe's
        assert trials[0].staging == {"token_policy": "resize"}
    assert not any(known(record.trial) for record in records if record.trial.kind == "baseline")


def test_the_sampler_learns_from_those_that_the_space_can_propose(space):
    search = Search(space)
    outside, inside = search.next(), search.next()
    assert outside.parameters == {}
    assert len(outside.schedule.stages) == 10
    assert inside.parameters["heads_1"] > 0
    assert [(stage.rates, stage.duration_ratio) for stage in inside.schedule.stages] == [
        (HALF.rates, 0.75),
        (Rates(), 0.25),
    ]
    for trial in (outside, inside):
        search.finished(finish(trial, 0.5))
    assert [trial.params for trial in search.rungs[0].study.trials] == [inside.parameters]


def test_a_search_resumes_and_does_not_try_them_again(space):
    first = Search(space)
    started = [first.next() for _ in range(3)]
    record = finish(started[0], 0.9)
    again = Search(space, [record], started[1:])
    assert [again.next() for _ in range(2)] == started[1:]
    assert not known(again.next())
    for trial in started[1:]:
        again.finished(finish(trial, 0.5))
    assert again.rungs[0].best(1) == [record]


def test_one_that_is_added_later_is_tried_then(space):
    records = run(Search(space), limit=3)
    more = space.with_search(first=(*space.search.first, "autoprog-like"), trials=6)
    trials = [record.trial for record in run(Search(more, records))]
    added = [trial for trial in trials if trial.kind == "staged" and trial.budget == space.budgets[0]]
    assert [trial.known_schedule for trial in added] == ["autoprog-like", None, None]


def test_a_winner_outside_the_space_is_repeated_but_not_promoted(space):
    search = Search(space.with_search(repeat=1, repeat_seeds=1))
    records = run(search, lambda trial: 0.9 if trial.known_schedule == "efficienttrain-like" else 0.5)
    repeats = [r.trial for r in records if r.trial.phase == "repeat" and r.trial.kind == "staged"]
    assert [trial.known_schedule for trial in repeats] == ["efficienttrain-like"] * 2
    task, plan = compile_trial(repeats[0], space)
    assert task.spec.staging.token_policy == "resize"
    assert len(plan.stages()) == 10


def test_the_dashboard_shows_them(space, tmp_path):
    records = run(Search(space))
    Dashboard(space, tmp_path / "journal.log", records)
    assert set(shown_parameters(space.search, records[0].trial)) == {"learning_rate", "batch_size"}


def test_records_of_a_trial_can_be_read_again(space):
    trial = Search(space).next()
    assert Trial.model_validate(json.loads(trial.model_dump_json())) == trial


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (("papers",), r"schedule: 'papers': there is no such file; known schedules are paper, .*; did you mean 'paper'\?"),
        (("none.json",), r"none\.json: 'missing': there is no such file"),
        (
            ("timm-progressive-like",),
            r"search\.first: timm-progressive-like: stages\.2\.batch_factor: 1\.25: makes 22\.5 images",
        ),
    ],
)
def test_schedules_that_cannot_be_tried_are_refused_at_the_start(space, first, message):
    odd = space.model_copy(update={"search": space.search.model_copy(update={"first": first, "batch_size": (18,)})})
    with pytest.raises(InvalidInput, match=message) as refused:
        check_space(odd)
    assert "\n" not in str(refused.value)


def test_epochs_and_too_many_schedules_are_refused(space, tmp_path):
    file = Schedule(stages=(Stage(rates=Rates(), epochs=5),)).save(tmp_path / "epochs.yaml")
    with pytest.raises(InvalidInput, match=r"search\.first: .*: is written in epochs"):
        known_schedules(space.with_search(first=(str(file),)))
    with pytest.raises(InvalidInput, match=r"search\.first: 2 schedules are more than the 1 staged trials at 25%"):
        space.with_search(trials=1)
    with pytest.raises(InvalidInput, match="must not contain a value twice"):
        space.with_search(first=("paper", "paper"))


def test_an_augmentation_that_the_task_does_not_have_is_said(space):
    (line,) = check_known_schedules(space)
    assert line.startswith("search.first: efficienttrain-like: stages have a share of augmentation.magnitude, which changes")
