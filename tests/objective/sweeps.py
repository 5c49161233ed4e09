"""Small sweeps of other objectives, searched and trained in this process: the search, trials and ledger of a sweep, without Ray."""

from explorer.ledger import Ledger
from explorer.search.dispatcher import Dispatcher, PlannedTrial
from explorer.search.optuna_logs import quiet_optuna
from explorer.search.search import Search
from explorer.search.trial_plan import compile_trial
from explorer.spec.search_space import SearchSpace
from explorer.sweep.header import new_header
from explorer.sweep.trial import run_trial
from explorer.training.task import Task
from tests.conftest import TINY_MODEL


def space_of(source, objective, **changes) -> SearchSpace:
    return SearchSpace.model_validate(
        {
            "name": "other",
            "model": TINY_MODEL,
            "data": {"name": f"tests.objective.sources:{source}", "image_size": 8},
            "recipe": {"epochs": 3, "batch_size": 32, "learning_rate": 2e-3},
            "objective": objective,
            "budgets": ["50%", "100%"],
            "search": {
                "trials": 2,
                "baseline_trials": 1,
                "repeat": 1,
                "repeat_seeds": 2,
                "stages": 2,
                "grid": 5,
                "rates": {"heads": [0.5, 1], "mlp": [0.5, 1]},
                "learning_rate": [1e-5, 4e-3],
                "batch_size": [16],
                **changes,
            },
            "store_gb": 0,
        }
    )


def swept(space: SearchSpace, location) -> Ledger:
    """The ledger of a sweep in which every trial was really trained."""
    ledger = Ledger(location)
    ledger.create(new_header(space.name, space, Task(space.task).data.inventory))
    with quiet_optuna():
        dispatcher = Dispatcher(Search(space), lambda trial: compile_trial(trial, space)[1])
        while isinstance(planned := dispatcher.next(), PlannedTrial):
            dispatcher.finished(run_trial(planned.trial, space, ledger))
            for record in dispatcher.take_shared_records():
                ledger.append(record)
    return ledger
