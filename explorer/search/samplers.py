"""Optuna samplers by name: the search's own, those that are registered, and those given as `package.module:name`.

A sampler proposes the values of a study's variables. To add one, write a function that takes `StudySettings` and returns an
`optuna.samplers.BaseSampler`; name it in a search space as `search.sampler: package.module:function`, or register it under a
short name.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler

from explorer.errors import InvalidInput
from explorer.references import FORM, is_reference, load_reference
from explorer.search.paper_sampler import PaperSampler
from explorer.spec.rates import Rates
from explorer.spec.search_settings import SearchSettings

FIELD = "search.sampler"


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """What a sampler may want to know of the study that it is for."""

    seed: int
    """Seed of the sampler's random numbers. Equal seeds must give equal proposals."""
    trials: int
    """Number of trials that the study will get."""
    objectives: int
    """Number of objectives: 1 or 2."""
    search: SearchSettings | None = None
    """What is searched, in a study of staged trials; `None` in one of baseline trials."""
    step_cost: Callable[[Rates], int] | None = None
    """Cost of a training step at requested rates, in the sweep's currency, in a study of staged trials."""

    @property
    def startup_trials(self) -> int:
        """A number of random trials that leaves most of the study to a model: a third, at least 3 and at most 10."""
        return min(10, max(3, self.trials // 3))


SamplerFactory = Callable[[StudySettings], BaseSampler]


def _tpe(settings: StudySettings) -> BaseSampler:
    """Multivariate tree-structured Parzen estimator (Falkner et al. 2018); running trials count as bad ones."""
    return TPESampler(multivariate=True, n_startup_trials=settings.startup_trials, seed=settings.seed, constant_liar=True)


def _random(settings: StudySettings) -> BaseSampler:
    """Independent uniform draws."""
    return RandomSampler(seed=settings.seed)


def _gp(settings: StudySettings) -> BaseSampler:
    """Gaussian process with expected improvement."""
    return GPSampler(seed=settings.seed, n_startup_trials=settings.startup_trials)


def _paper(settings: StudySettings) -> BaseSampler:
    """Durations as the paper draws them, for rates that rise in even steps; everything else at random."""
    if settings.search is None or settings.step_cost is None:
        return RandomSampler(seed=settings.seed)
    return PaperSampler(settings.search, settings.step_cost, seed=settings.seed)


_BUILT_IN: dict[str, SamplerFactory] = {"tpe": _tpe, "random": _random, "gp": _gp, "paper": _paper}
_registered: dict[str, SamplerFactory] = dict(_BUILT_IN)


def register_sampler(name: str, factory: SamplerFactory) -> None:
    """Make a sampler available as `search.sampler` in this process; a name that is registered already is replaced.

    Args:
        name: value of `search.sampler`.
        factory: makes the sampler of a study.

    Raises:
        InvalidInput: when the name is that of a built-in sampler, is empty or holds a colon.
    """
    if name in _BUILT_IN:
        raise InvalidInput("name", name, "is a built-in sampler and cannot be replaced")
    if not name or ":" in name:
        raise InvalidInput("name", name, "must be a name without a colon")
    _registered[name] = factory


def sampler_names() -> tuple[str, ...]:
    """Names of the built-in and registered samplers."""
    return tuple(_registered)


def make_sampler(name: str, settings: StudySettings) -> BaseSampler:
    """The sampler of a study.

    Args:
        name: `tpe`, `random`, `gp`, `paper`, a registered name, or `package.module:name` of a factory.
        settings: of the study.

    Raises:
        InvalidInput: when there is no such sampler, or its factory makes something else.
    """
    factory = _registered.get(name)
    if factory is None and is_reference(name):
        factory = load_reference(name, FIELD)
        if not callable(factory):
            raise InvalidInput(FIELD, name, "must be a function that takes StudySettings and returns an Optuna sampler")
    if factory is None:
        near = difflib.get_close_matches(name, sampler_names(), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InvalidInput(FIELD, name, f"unknown sampler; {hint}Allowed are {', '.join(sampler_names())} and {FORM}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # some versions of Optuna warn about each option
            sampler = factory(settings)
    except InvalidInput:
        raise
    except Exception as error:  # a factory of the user's may fail in any way
        raise InvalidInput(FIELD, name, f"cannot make a sampler: {type(error).__name__}: {error}") from error
    if not isinstance(sampler, BaseSampler):
        raise InvalidInput(FIELD, name, f"must return an optuna.samplers.BaseSampler, not {type(sampler).__name__}")
    return sampler
