"""Other searches, asked and told as their packages do, on the recorded trainings of this folder.

Each trains every suggestion from the start, without sharing, and pays again for one that it has tried before. They suggest the
variables of our own studies. Where they can be given our first guess, they start from it: `points_to_evaluate` in Syne Tune,
the prior in NePS, the search center in CARBS, a first trial in Optuna. Ray Tune's `OptunaSearch` is replayed without it and
with it.

The learning rate decays to the end of each budget, so a training at 10 % is not the first half of one at 20 %. Searches with
rungs (Syne Tune's ASHA, Hyperband in NePS and Optuna) pay for a whole training at each rung. With a reduction factor of 2,
their rungs are the four budgets of the table.

The packages are imported where they are used, so that those that are not installed can be left out. CARBS is not on PyPI, where
another package has its name: `pip install git+https://github.com/imbue-ai/carbs@8f7fee0`.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from recorded import Progress, Replay, Table

from explorer.spec.budget import Budget


def optuna_two_objectives(replay: Replay, guesses: bool = False) -> None:
    """Ray Tune's `OptunaSearch` with accuracy and cost as objectives, and the budget as a parameter."""
    from ray.tune.search.optuna import OptunaSearch

    variables = replay.variables | {"budget": CategoricalDistribution([str(budget) for budget in replay.budgets])}
    points = [replay.guess | {"budget": str(budget)} for budget in replay.budgets] if guesses else None
    objectives = {"metric": ["accuracy", "cost"], "mode": ["max", "min"]}
    searcher = OptunaSearch(variables, **objectives, points_to_evaluate=points, seed=replay.seed)
    number = 0
    while not replay.is_over:
        config = searcher.suggest(str(number))
        accuracy, cost = replay.train(config, Budget.parse(config["budget"]))
        searcher.on_trial_complete(str(number), {"accuracy": accuracy, "cost": cost, "training_iteration": 1})
        number += 1


def optuna_per_budget(replay: Replay, guesses: bool = False) -> None:
    """Ray Tune's `OptunaSearch`, one for each budget, in turn."""
    from ray.tune.search.optuna import OptunaSearch

    points = [replay.guess] if guesses else None
    searchers = [
        OptunaSearch(replay.variables, metric="accuracy", mode="max", points_to_evaluate=points, seed=seed)
        for seed in range(replay.seed * 100, replay.seed * 100 + len(replay.budgets))
    ]
    number = 0
    while not replay.is_over:
        searcher, budget = searchers[number % len(searchers)], replay.budgets[number % len(searchers)]
        accuracy, cost = replay.train(searcher.suggest(str(number)), budget)
        searcher.on_trial_complete(str(number), {"accuracy": accuracy, "cost": cost, "training_iteration": 1})
        number += 1


def random_search(replay: Replay) -> None:
    """Uniform draws, of the budget too."""
    variables = replay.variables | {"budget": CategoricalDistribution([str(budget) for budget in replay.budgets])}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(replay.seed))
    while not replay.is_over:
        drawn = study.ask(variables).params
        replay.train(drawn, Budget.parse(drawn["budget"]))


def optuna_hyperband(replay: Replay) -> None:
    """Optuna without Ray Tune: its TPE sampler and its Hyperband pruner, from our first guess."""
    levels = [round(budget.amount / replay.budgets[0].amount) for budget in replay.budgets]
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=replay.seed),
        pruner=optuna.pruners.HyperbandPruner(min_resource=1, max_resource=levels[-1], reduction_factor=2),
    )
    study.enqueue_trial(replay.guess)
    while not replay.is_over:
        trial, pruned = study.ask(replay.variables), False
        for level, budget in zip(levels, replay.budgets, strict=True):
            accuracy, _ = replay.train(trial.params, budget)
            trial.report(accuracy, level)
            pruned = trial.should_prune()
            if pruned or replay.is_over:
                break
        if pruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, accuracy)


def syne_tune_asha(replay: Replay, scheduler: str) -> None:
    """Syne Tune's asynchronous successive halving, with one of its searchers: every trial starts at the cheapest budget.

    Args:
        replay: the seed.
        scheduler: name of a class in `syne_tune.optimizer.baselines`.
    """
    from syne_tune.backend.trial_status import Trial
    from syne_tune.optimizer import baselines
    from syne_tune.optimizer.scheduler import SchedulerDecision

    levels = [round(budget.amount / replay.budgets[0].amount) for budget in replay.budgets]
    asha = getattr(baselines, scheduler)(
        _syne_tune_space(replay.variables),
        metric="accuracy",
        do_minimize=False,
        time_attr="level",
        max_t=levels[-1],
        reduction_factor=2,
        random_seed=replay.seed,
        points_to_evaluate=[replay.guess],
    )
    number = 0
    while not replay.is_over:
        trial = Trial(trial_id=number, config=asha.suggest().config, creation_time=datetime.datetime.now(datetime.UTC))
        asha.on_trial_add(trial)
        for level, budget in zip(levels, replay.budgets, strict=True):
            accuracy, _ = replay.train(trial.config, budget)
            if asha.on_trial_result(trial, {"accuracy": accuracy, "level": level}) == SchedulerDecision.STOP or replay.is_over:
                break
        asha.on_trial_remove(trial)
        number += 1


def syne_tune_ehvi(replay: Replay) -> None:
    """Syne Tune's expected hypervolume improvement (Gaussian processes), with the budget as a parameter.

    Its reference point is fixed at 2 for both objectives. They are shifted so that it is ours: no accuracy, full training.
    """
    from syne_tune.backend.trial_status import Trial
    from syne_tune.optimizer.baselines import EHVI

    steps = {"budget_step": IntDistribution(0, len(replay.budgets) - 1)}
    ehvi = EHVI(
        _syne_tune_space(replay.variables | steps),
        metrics=["accuracy", "doublings"],
        do_minimize=False,
        random_seed=replay.seed,
        points_to_evaluate=[replay.guess | {"budget_step": step} for step in range(len(replay.budgets))],
    )
    number = 0
    while not replay.is_over:
        trial = Trial(trial_id=number, config=ehvi.suggest().config, creation_time=datetime.datetime.now(datetime.UTC))
        budget = replay.budgets[trial.config["budget_step"]]
        accuracy, _ = replay.train(trial.config, budget)
        ehvi.on_trial_complete(trial, {"accuracy": 2 + accuracy, "doublings": 2 + math.log2(1 / budget.amount)})
        number += 1


def _syne_tune_space(variables: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    from syne_tune.config_space import choice, randint, uniform

    space = {}
    for name, of in variables.items():
        match of:
            case CategoricalDistribution():
                space[name] = choice(list(of.choices))
            case IntDistribution():
                space[name] = randint(of.low, of.high)
            case FloatDistribution():
                space[name] = uniform(of.low, of.high)
    return space


def neps_brackets(replay: Replay, algorithm: str) -> None:
    """A multi-fidelity algorithm of NePS. PriorBand has our first guess as its prior; others sample uniformly.

    Args:
        replay: the seed.
        algorithm: name of a function in `neps.algorithms`.
    """
    import neps

    levels = {round(budget.amount / replay.budgets[0].amount): budget for budget in replay.budgets}
    parameters: dict[str, Any] = {"level": neps.IntegerFidelity(lower=1, upper=max(levels))}
    fixed = _fixed(replay.variables)  # which NePS refuses
    for name, of in replay.variables.items():
        if name in fixed:
            continue
        prior = {"prior": replay.guess[name], "prior_confidence": "medium"} if algorithm == "priorband" else {}
        match of:
            case CategoricalDistribution():
                if prior:
                    prior["prior"] = of.choices.index(prior["prior"])
                parameters[name] = neps.Categorical(choices=tuple(of.choices), **prior)
            case IntDistribution():
                parameters[name] = neps.Integer(lower=of.low, upper=of.high, **prior)
            case FloatDistribution():
                parameters[name] = neps.Float(lower=of.low, upper=of.high, **prior)
    space = type("Space", (neps.PipelineSpace,), parameters)()
    search = neps.AskAndTell(getattr(neps.algorithms, algorithm)(space, eta=2))
    while not replay.is_over:
        trial = search.ask()
        accuracy, cost = replay.train({**fixed, **trial.config}, levels[trial.config["level"]])
        search.tell(trial, {"objective_to_minimize": 1 - accuracy, "cost": cost})


def _fixed(variables: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """The variables that have one value."""
    choices = {name: of.choices for name, of in variables.items() if isinstance(of, CategoricalDistribution)}
    return {name: values[0] for name, values in choices.items() if len(values) == 1}


def carbs(replay: Replay) -> None:
    """CARBS, a local search around the Pareto front of cost and accuracy, with the budget as a parameter.

    It starts at the cheapest budget, as its documentation recommends. Integer scales let it reach the neighbouring values.
    Resampling is off: a recorded training gives the same accuracy again.
    """
    from carbs import CARBS, CARBSParams, LinearSpace, ObservationInParam, Param

    sizes = sorted(replay.variables["batch_size"].choices)
    fixed = _fixed(replay.variables)
    steps = {  # the last one, and where the search starts
        "budget_step": (len(replay.budgets) - 1, 0),
        **({} if fixed else {"batch_size_step": (len(sizes) - 1, sizes.index(replay.guess["batch_size"]))}),
        "learning_rate_step": (replay.variables["learning_rate_step"].high, replay.guess["learning_rate_step"]),
    }
    parameters = [
        Param(name, LinearSpace(min=0, max=last, scale=4, is_integer=True), start) for name, (last, start) in steps.items()
    ]
    for name, of in replay.variables.items():
        if isinstance(of, FloatDistribution):
            parameters.append(Param(name, LinearSpace(min=of.low, max=of.high), replay.guess[name]))
    settings = CARBSParams(
        better_direction_sign=1,
        seed=replay.seed,
        is_wandb_logging_enabled=False,
        is_saved_on_every_observation=False,
        resample_frequency=0,
        max_suggestion_cost=replay.budgets[-1].amount,
    )
    search = CARBS(settings, parameters)
    while not replay.is_over:
        suggestion = search.suggest().suggestion
        variables = {name: value for name, value in suggestion.items() if name in replay.variables}
        variables["batch_size"] = sizes[suggestion.get("batch_size_step", 0)]
        accuracy, cost = replay.train(variables, replay.budgets[suggestion["budget_step"]])
        search.observe(ObservationInParam(input=suggestion, output=accuracy, cost=cost))


class Rival(NamedTuple):
    """Another search."""

    package: str
    """Its distribution, for the version."""
    run: Callable[[Replay], None]
    """Spends the limit of a replay."""

    @property
    def version(self) -> str | None:
        """Name and version of the installed package; `None` if it is not installed."""
        try:
            return f"{self.package} {importlib.metadata.version(self.package)}"
        except importlib.metadata.PackageNotFoundError:
            return None

    def progress(self, table: Table, seed: int, limit: float) -> Progress:
        """One seed of the search."""
        replay = Replay(table, seed, limit)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.run(replay)
        return replay.progress


RIVALS = {
    "OptunaSearch, two objectives": Rival("optuna", optuna_two_objectives),
    "OptunaSearch per budget": Rival("optuna", optuna_per_budget),
    "OptunaSearch, two objectives, first guess": Rival("optuna", lambda replay: optuna_two_objectives(replay, guesses=True)),
    "OptunaSearch per budget, first guess": Rival("optuna", lambda replay: optuna_per_budget(replay, guesses=True)),
    "random search": Rival("optuna", random_search),
    "Optuna, TPE and Hyperband": Rival("optuna", optuna_hyperband),
    "Syne Tune, ASHA": Rival("syne-tune", lambda replay: syne_tune_asha(replay, "ASHA")),
    "Syne Tune, ASHA with CQR": Rival("syne-tune", lambda replay: syne_tune_asha(replay, "ASHACQR")),
    "NePS, Hyperband": Rival("neural-pipeline-search", lambda replay: neps_brackets(replay, "hyperband")),
    "NePS, PriorBand": Rival("neural-pipeline-search", lambda replay: neps_brackets(replay, "priorband")),
    "CARBS": Rival("carbs", carbs),
    "Syne Tune, EHVI": Rival("syne-tune", syne_tune_ehvi),
}
"""By the name that the table prints."""
