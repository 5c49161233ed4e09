"""A real sweep with a proxy on real Ray: what is trained, what it costs, how it resumes, and what is shown of it."""

import re
import shutil

import pytest
from rich.console import Console

from explorer import InvalidInput, SearchSpace, Sweep
from explorer.cli import main
from explorer.errors import validated
from explorer.frontier import trials_frame
from explorer.ledger import Ledger
from explorer.ledger.status import sweep_status
from explorer.report.loaded_sweep import LoadedSweep
from explorer.report.page import write_report
from explorer.report.tiles import tiles
from tests.conftest import RAY_SWEEP_MARKS, quiet

pytestmark = RAY_SWEEP_MARKS


@pytest.fixture(scope="module")
def space(tmp_path_factory) -> SearchSpace:
    from tests.conftest import TINY_SPACE

    path = tmp_path_factory.mktemp("space") / "tiny.yaml"
    path.write_text(TINY_SPACE)
    content = SearchSpace.load(path).model_dump()
    content["search"] |= {"trials": [3, 2], "promote": 2, "batch_size": [32], "learning_rate_grid": 2}
    return validated(SearchSpace, {**content, "proxy": {"images": 0.5, "epochs": 0.5, "trials": [5, 2]}}, "tiny.yaml")


@pytest.fixture(scope="module")
def swept(space, local_ray, tmp_path_factory) -> tuple[Ledger, Console]:
    console = quiet()
    sweep = Sweep(space, tmp_path_factory.mktemp("sweeps"), parallel_trials=1, console=console).run()
    return sweep.ledger, console


def test_proxies_are_trained_first_marked_and_charged_in_full_trainings_of_the_target(space, swept):
    records = sorted(swept[0].records(), key=lambda record: record.started)
    assert [record.trial.proxy for record in records] == [1] * 7 + [None] * 7
    assert all(record.status == "completed" for record in records)
    assert all(record.trial.id.startswith("proxy1-") == (record.trial.proxy == 1) for record in records)
    (full_flops,) = {record.outcome.full_flops for record in records}
    for record in records:
        # A quarter of the target's steps, and at most a step of the full model short of the budget.
        relative = 0.25 if record.trial.proxy else 1.0
        budget, step = relative * record.trial.budget.amount, record.outcome.stages[-1].step_flops / full_flops
        assert budget * 1.01 - step - 0.01 <= record.outcome.planned_cost <= budget * 1.01
    first = [record.trial for record in records if record.trial.budget == space.budgets[0] and not record.trial.proxy]
    assert [trial.from_proxy for trial in first if trial.kind == "staged"] == ["promoted", "control", "promoted"]
    schedules = [record.trial.schedule for record in records if record.trial.proxy]
    assert all(trial.schedule in schedules for trial in first if trial.from_proxy)
    printed = swept[1].file.getvalue()
    assert "14/14" in printed
    assert "proxy1-25pct-staged-000" in printed
    assert re.search(r"proxy 1 at 25%: 3 schedules are too few to say whether its ranks carry over; regret \d", printed)


@pytest.mark.nightly
def test_the_same_command_resumes_and_a_proxy_with_more_trials_extends(space, swept, tmp_path):
    location = tmp_path / "tiny"
    shutil.copytree(swept[0].location, location)
    again = quiet()
    Sweep(space, tmp_path, parallel_trials=1, console=again).run()
    assert "all 14 trials are in the ledger" in again.file.getvalue()
    # Half of the records are lost: the sweep continues where it was, and no trial gets another id.
    before = {record.trial.id: record for record in Ledger(location).records()}
    for path in sorted((location / "ledger").glob("*.json"))[::3]:
        path.unlink()
    left = Ledger(location).records()
    assert 0 < len(left) < 14
    Sweep(space, tmp_path, parallel_trials=1, console=quiet()).run()
    assert {record.trial.id for record in Ledger(location).records()} == set(before)
    proxy = space.proxy[0].model_copy(update={"trials": (6, 2)})
    Sweep(space.model_copy(update={"proxy": (proxy,)}), tmp_path, parallel_trials=1, console=quiet()).run()
    assert {record.trial.id for record in Ledger(location).records()} - set(before) == {"proxy1-25pct-staged-005"}
    other = space.proxy[0].model_copy(update={"images": 0.25})
    with pytest.raises(InvalidInput, match=r"proxy: .*give this one another --name"):
        Sweep(space.model_copy(update={"proxy": (other,)}), tmp_path, console=quiet()).run()


def test_status_and_report_count_proxies_and_draw_none_of_their_accuracies(swept, tmp_path, monkeypatch, capsys):
    ledger, _ = swept
    records = ledger.records()
    of_proxies = [record.outcome for record in records if record.trial.proxy]
    status = sweep_status(ledger)
    assert status.proxy_trials == 7
    assert status.planned == 14
    assert status.left_trials == 0
    assert status.proxy_full_trainings == pytest.approx(sum(outcome.executed_cost for outcome in of_proxies))
    monkeypatch.setattr("sys.argv", ["explorer", "status", ledger.location])
    with pytest.raises(SystemExit):
        main()
    printed = capsys.readouterr().out
    assert "7 of them on proxies" in printed
    assert re.search(r"full trainings in completed trials \(0\.\d+ on proxies\)", printed)

    sweep = LoadedSweep.read(ledger)
    assert len(sweep.trials) == len(sweep.data.runs) == 7
    assert len(sweep.all_trials) == 14
    assert sweep.trials.equals(trials_frame(records, ledger.header()))
    cost = next(tile for tile in tiles(sweep) if tile.name == "search cost")
    assert cost.remark.startswith("14 trials, 7 of them on proxies for 0.")
    total = sum(record.outcome.executed_cost for record in records if not record.shared_with)
    assert cost.value == f"{total:.1f} full trainings"
    page = write_report(ledger, tmp_path / "out").page.read_text()
    assert "Do proxies carry over?" in page
    assert "too few schedules to say" in page
    assert "Not complete" not in page
