"""Which trials are tried again, where, and when a sweep gives up. No Ray."""

import pytest

from explorer import InvalidInput, SearchSpace
from explorer.ledger import Ledger, Record
from explorer.search.dispatcher import Dispatcher
from explorer.search.search import Search
from explorer.search.trial_plan import compile_trial
from explorer.sweep.attempts import Attempts
from explorer.sweep.completeness import failures_line, lacking
from explorer.sweep.first_failures import FirstFailures
from explorer.sweep.placement import AVOIDED
from explorer.sweep.searcher import NODE, RECORD, SweepSearcher
from tests.ledger.test_ledger import make_record

HOSTS = {"a": "alpha (10.0.0.1)", "b": "beta (10.0.0.2)"}


def failed(trial_id="25pct-staged-000", failure="place", reason="data.root: '/x': missing", **changes) -> Record:
    return make_record(trial_id, status="failed", outcome=None, failure=failure, reason=reason, **changes)


def test_a_failure_of_a_place_is_tried_elsewhere_and_the_host_excluded_after_two_in_a_row():
    said = []
    attempts = Attempts(lambda: HOSTS, said.append)
    assert attempts.ended(failed("one"), "a")
    assert attempts.avoided("one") == ("a",)
    assert attempts.avoided("two") == ()
    assert not attempts.ended(make_record("three", plan="p"), "a")  # it can train after all
    assert attempts.ended(failed("four"), "a")
    assert attempts.excluded == set()
    assert attempts.ended(failed("two"), "a")
    assert attempts.avoided("five") == ("a",)
    assert said[-2:] == [
        "two failed on alpha (10.0.0.1) and is tried again elsewhere: data.root: '/x': missing",
        "alpha (10.0.0.1) gets no more work: 2 trials in a row failed there",
    ]
    assert attempts.stopped is None


def test_a_trial_that_failed_on_every_host_is_a_failed_trial_and_without_hosts_the_sweep_stops():
    attempts = Attempts(lambda: HOSTS, print)
    assert attempts.ended(failed("one"), "a")
    assert not attempts.ended(failed("one"), "b")
    assert attempts.stopped is None
    assert attempts.ended(failed("two"), "a")
    assert not attempts.ended(failed("two"), "b")
    assert str(attempts.stopped) == (
        "hosts: 'alpha (10.0.0.1), beta (10.0.0.2)': no trial can run there, so the sweep stopped: data.root: '/x': missing"
    )


def test_a_lost_worker_costs_two_retries_and_other_failures_none():
    attempts = Attempts(lambda: HOSTS, print)
    lost = failed(failure="lost", reason="the node was lost")
    assert [attempts.ended(lost, None, around=True) for _ in range(4)] == [True, True, False, False]
    assert attempts.ended(failed("two", failure="memory"), "a", around=True)  # killed by Ray's memory monitor
    assert not attempts.ended(failed("three", failure="memory"), "a")  # raised by the training
    assert not attempts.ended(failed("four", failure="diverged"), "a")


def test_a_preempted_trial_resumes_elsewhere_any_number_of_times():
    said = []
    attempts = Attempts(lambda: HOSTS, said.append, affords=lambda _: False)
    reason = "preempted: the training was asked to stop after step 3 of 9; its state is kept"
    preempted = failed("one", failure="preempted", reason=reason, plan="p")
    assert all(attempts.ended(preempted, "a") for _ in range(5))
    assert said[0] == f"one: {reason}; it resumes elsewhere"
    assert attempts.avoided("one") == ("a",)
    assert attempts.avoided("two") == ()
    assert attempts.ended(failed("one", failure="lost", reason="the node was lost"), None, around=True) is False  # no room


def test_the_same_failure_three_times_at_the_start_stops_a_sweep(space_file):
    space = SearchSpace.load(space_file)

    def added(*records, before=()):
        first = FirstFailures(space, "sweeps/tiny", before)
        for record in records:
            first.add(record)
        return first.stopped

    errors = [failed(failure="error", reason=f"ValueError: at 0x{n}f of {n}7 bytes") for n in range(3)]
    assert isinstance(added(*errors), InvalidInput)
    assert "'sweeps/tiny': stopped, because no trial has succeeded and 3 failed in the same way: ValueError" in str(
        added(*errors)
    )
    assert added(*errors[:2]) is None
    assert added(*errors, before=[make_record()]) is None
    assert added(*errors[:2], make_record(), errors[2]) is None
    assert added(*errors[:2], failed(failure="error", reason="KeyError: 'x'"), errors[2]) is None
    assert added(*[failed(failure="diverged", reason="diverged: step 3")] * 3) is None
    # Memory depends on the batch size, of which the space has 16 and 32.
    memory = failed(failure="memory", reason="out of memory: CUDA")
    large = memory.model_copy(update={"trial": memory.trial.model_copy(update={"batch_size": 32})})
    assert added(large, large, large) is None
    assert added(memory, large, memory, memory) is not None


def test_what_a_sweep_lacks_and_how_its_trials_failed(space_file):
    space = SearchSpace.load(space_file)
    records = [make_record("a"), make_record("b", kind="baseline"), make_record("c", budget="50%")]
    records += [failed("d", kind="baseline", budget="50%"), failed("e", failure="diverged", reason="diverged: x")]
    assert lacking(space, records) == ("50%: no baseline trial succeeded",)
    none_there = space.with_search(baseline_trials=[1, 0])
    assert lacking(none_there, records) == ()  # nothing was planned there
    limited = space.with_search(spend="1 training")
    assert lacking(limited, records[:2]) == ()  # neither was 50 %, which was not begun
    assert lacking(limited, records) == ("50%: no baseline trial succeeded",)
    assert failures_line(records) == (
        "2 of 5 trials failed (1 for lack of data, storage, device or package, 1 diverged), the first one with: "
        "data.root: '/x': missing\nthe same command tries those again that did not diverge; --retry none leaves them as they are"
    )
    assert failures_line(records[:3]) is None


@pytest.fixture
def sweep(space_file, tmp_path):
    """A searcher as Tune sees it: its ledger, the records that it kept, and the errors that Tune noted."""
    space = SearchSpace.load(space_file)
    ledger, kept, errors = Ledger(tmp_path / "s"), [], {}
    dispatcher = Dispatcher(Search(space), lambda trial: compile_trial(trial, space)[1])
    attempts = Attempts(lambda: HOSTS, print)
    searcher = SweepSearcher(
        dispatcher,
        ledger,
        kept.append,
        lambda: None,
        attempts=attempts,
        error_of=lambda trial_id: errors.pop(trial_id, ""),
        limit=lambda: 100,
    )
    return searcher, ledger, kept, errors


def test_a_trial_that_is_tried_again_is_the_same_trial_and_its_attempts_are_kept(sweep):
    searcher, ledger, kept, errors = sweep
    config = searcher.suggest("tune-1")
    assert AVOIDED not in config
    trial = config["trial"]
    record = failed().model_copy(update={"trial": trial})
    searcher.on_trial_result("tune-1", {RECORD: record, NODE: "a"})
    searcher.on_trial_complete("tune-1", error=True)
    again = searcher.suggest("tune-2")
    assert (again["trial"], again[AVOIDED]) == (trial, ["a"])
    errors["tune-2"] = "The actor died because its node has died."
    searcher.on_trial_complete("tune-2", error=True)
    assert (kept, ledger.records()) == ([], [])
    assert [(r.trial.id, r.failure) for r in ledger.superseded()] == [(trial.id, "place"), (trial.id, "lost")]
    assert searcher.suggest("tune-3")["trial"] == trial
    done = make_record().model_copy(update={"trial": trial, "plan": "p"})
    searcher.on_trial_result("tune-3", {RECORD: done, NODE: "b"})
    searcher.on_trial_complete("tune-3")
    assert kept == ledger.records() == [done]


def test_a_search_that_has_proposed_all_its_trials_is_not_over_while_one_may_be_tried_again(sweep):
    searcher, _, kept, _ = sweep
    running = {}
    while not isinstance(config := searcher.suggest(f"tune-{len(running) + len(kept)}"), str | None):
        running[f"tune-{len(running) + len(kept)}"] = config["trial"]
        if len(running) + len(kept) == 1:
            last = next(iter(running))
            continue
        name = next(name for name in running if name != last)
        record = make_record(plan=name).model_copy(update={"trial": running.pop(name)})
        searcher.on_trial_result(name, {RECORD: record, NODE: "b"})
        searcher.on_trial_complete(name)
    assert config is None
    searcher.on_trial_complete(last, error=True)
    assert searcher.suggest("again")["trial"] == running[last]


def test_a_trial_whose_last_host_is_gone_may_go_back_and_one_that_waits_in_vain_stops_the_sweep():
    hosts, now = dict(HOSTS), [0.0]
    attempts = Attempts(lambda: hosts, print, clock=lambda: now[0])
    now[0] = 1000.0
    assert attempts.check() is None
    assert attempts.ended(failed("one"), "a")
    assert attempts.avoided("one") == ("a",)  # it waits for the other host, which is lost
    del hosts["b"]
    for now[0] in (1010.0, 1300.0):
        assert attempts.check() is None
    now[0] = 1310.0
    assert str(attempts.check()).startswith("hosts: 'one': can run on no host that is left, so the sweep stopped")

    attempts = Attempts(lambda: hosts, print, clock=lambda: now[0])
    hosts["b"] = HOSTS["b"]
    assert attempts.ended(failed("one"), "a")
    del hosts["b"]
    assert attempts.avoided("one") == ()  # it starts only now
    assert attempts.check() is None


def test_a_worker_that_dies_after_it_has_written_its_record_loses_nothing(sweep):
    searcher, ledger, kept, _ = sweep
    trial = searcher.suggest("tune-1")["trial"]
    done = make_record(plan="p").model_copy(update={"trial": trial})
    ledger.append(done)
    searcher.on_trial_complete("tune-1", error=True)
    assert (kept, ledger.records(), ledger.superseded()) == ([done], [done], [])
