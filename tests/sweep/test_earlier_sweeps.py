"""`search.from`: which sweeps are opened, what is taken from them, and what is kept. Nothing is trained."""

import shutil

import pytest

from explorer import InvalidInput, SearchSpace, Sweep
from explorer.ledger import Ledger, OtherTrial
from explorer.search.search import Search
from explorer.sweep.earlier_sweeps import keep
from tests.conftest import quiet, with_search
from tests.search.test_reuse import changed, started, trained


@pytest.fixture
def space(space_file) -> SearchSpace:
    return with_search(SearchSpace.load(space_file), trials=4)


def search_of(storage, space, name, count=8):
    """A sweep with finished trials, whose accuracies rise with their number."""
    ledger = started(storage, space, name)
    search = Search(space)
    for number in range(count):
        trial = search.next()
        search.finished(trained(ledger, space, trial, accuracy=0.1 + number / 100))
    return ledger


def sweep(space, storage, name="B", **settings) -> Sweep:
    return Sweep(space, storage, name=name, console=quiet(), **settings)


def test_the_winners_are_taken_with_what_they_were_trained_with(space, tmp_path):
    search_of(tmp_path, space, "A")
    (earlier,) = sweep(space, tmp_path, start_from=["A"]).earlier_sweeps
    # Of the first pass, three trials are staged at 25 %, one is the baseline, three are staged at 50 %, one is its baseline.
    assert [(w.trial, str(w.budget), w.same_task) for w in earlier.winners] == [
        ("25pct-staged-002", "25%", True),
        ("50pct-staged-002", "50%", True),
    ]
    record = Ledger(f"{tmp_path}/A").record_of("25pct-staged-002")
    best = earlier.winners[0]
    assert (best.schedule, best.learning_rate, best.batch_size) == (
        record.trial.schedule,
        record.trial.learning_rate,
        record.trial.batch_size,
    )
    assert best.staging == {"subset": "leading", "growth": "auto", "token_policy": "auto", "blocks": "prefix"}
    assert (best.lr_schedule, best.share) == ("linear", 0.25)


@pytest.mark.parametrize(
    ("settings", "same"),
    [
        ({"recipe": {"learning_rate": 1e-3, "batch_size": 16}}, True),  # which every sweep searches
        ({"data": {"num_workers": 2}}, True),
        ({"recipe": {"epochs": 4}}, False),
        ({"recipe": {"weight_decay": 0.1}}, False),
        ({"recipe": {"lr_schedule": {"kind": "linear", "warmup": 0.2}}}, False),
        ({"model": {"options": {"patch_size": 2, "embed_dim": 64, "depth": 2, "num_heads": 4}}}, False),
        ({"data": {"train_fraction": 0.5}}, False),
        ({"currency": "device_seconds"}, False),
    ],
)
def test_learning_rates_are_for_the_same_task_alone(space, tmp_path, settings, same):
    search_of(tmp_path, space, "A", count=1)
    (earlier,) = sweep(changed(space, **settings), tmp_path, start_from=["A"]).earlier_sweeps
    assert [winner.same_task for winner in earlier.winners] == [same]


def test_without_trials_of_the_target_those_of_the_last_proxy_count(space_file, tmp_path):
    space_file.write_text(space_file.read_text().replace("search:", "proxy: [{images: 0.25}, {images: 0.5}]\nsearch:"))
    space = with_search(SearchSpace.load(space_file), trials=2, baseline_trials=1)
    search_of(tmp_path, space, "A", count=5)  # 4 trials of the first proxy, and one of the second
    (earlier,) = sweep(space, tmp_path, start_from=["A"]).earlier_sweeps
    assert [(winner.trial, winner.proxy, winner.same_task) for winner in earlier.winners] == [
        ("proxy2-25pct-staged-000", 2, False)
    ]
    assert earlier.winners[0].share == 0.25  # of the proxy's own full training


def test_a_winner_whose_record_is_lost_is_taken_from_its_repeats(space, tmp_path):
    ledger = search_of(tmp_path, space, "A", count=1)
    (record,) = ledger.records()
    repeat = {"id": f"{record.trial.id}-seed1", "phase": "repeat", "repeat_of": record.trial.id, "seed": 1}
    trained(ledger, space, record.trial.model_copy(update=repeat))
    (before,) = sweep(space, tmp_path, start_from=["A"]).earlier_sweeps
    (tmp_path / "A" / "ledger" / f"{record.trial.id}.json").unlink()
    (earlier,) = sweep(space, tmp_path, start_from=["A"]).earlier_sweeps
    assert earlier == before
    assert [(winner.trial, winner.learning_rate) for winner in earlier.winners] == [
        ("25pct-staged-000", record.trial.learning_rate)
    ]


def test_what_was_taken_is_kept_with_the_sweep_and_outlives_its_source(space, tmp_path):
    search_of(tmp_path, space, "A", count=3)
    first = sweep(space, tmp_path, start_from=["A"])
    first._open()
    keep(first.ledger, first.earlier_sweeps)
    better = Ledger(f"{tmp_path}/A").records()[0]
    trained(Ledger(f"{tmp_path}/A"), space, better.trial.model_copy(update={"id": "25pct-staged-009", "seed": 9}), 0.99)
    search_of(tmp_path, space, "C", count=1)
    again = sweep(space, tmp_path, start_from=["A", "C"])
    assert again.earlier_sweeps[0] == first.earlier_sweeps[0]
    keep(again.ledger, again.earlier_sweeps)
    shutil.rmtree(tmp_path / "A")
    shutil.rmtree(tmp_path / "C")
    assert sweep(space, tmp_path, start_from=["A", "C"]).earlier_sweeps == again.earlier_sweeps
    assert sweep(space, tmp_path, start_from=["C"]).earlier_sweeps == again.earlier_sweeps[1:]
    assert sweep(space, tmp_path).earlier_sweeps == ()


def test_folders_are_sweeps_too(space, tmp_path):
    folder = tmp_path / "elsewhere" / "A"
    search_of(folder.parent, space, "A", count=1)
    planned = sweep(space, tmp_path / "sweeps", start_from=[str(folder)])
    trial = Search(planned.space, earlier_sweeps=planned.earlier_sweeps).next()
    assert trial.from_sweep == OtherTrial(sweep=str(folder), trial="25pct-staged-000")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", r"search\.from: 'none': no sweep there, nor at .*/none"),
        ("empty", r"search\.from: 'empty': has no finished staged trial \(0 trials ended\)"),
        ("failed", r"search\.from: 'failed': has no finished staged trial \(1 trials ended\)"),
        ("B", r"search\.from: 'B': is this sweep itself"),
        ("depth", r"search\.from: 'depth': nothing of it fits"),
        ("old", r"search\.from: 'old': the ledger was written by an older release"),
    ],
)
def test_bad_sweeps_are_refused_in_one_line_before_anything_starts(space, tmp_path, name, message):
    for other in ("empty", "failed", "B", "old"):
        started(tmp_path, space, other)
    failed = Search(space).next()
    trained(Ledger(f"{tmp_path}/failed"), space, failed, status="failed", reason="x", failure="error", outcome=None)
    deep = with_search(space, rates={"depth": [0.5, 1]})
    search_of(tmp_path, deep, "depth", count=1)
    header = tmp_path / "old" / "sweep.json"
    header.write_text(header.read_text().replace('"version": 2', '"version": 1'))
    with pytest.raises(InvalidInput, match=message) as refused:
        sweep(space, tmp_path, start_from=[name])
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "B" / "ledger").exists()


def test_names_must_not_be_given_twice(space, tmp_path):
    with pytest.raises(InvalidInput, match=r"from: \['A', 'A'\] must not contain a value twice"):
        sweep(space, tmp_path, start_from=["A", "A"])
