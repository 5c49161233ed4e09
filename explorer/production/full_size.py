"""A model in training at full size for a while, to save or evaluate it; and a warning where a part of it is read."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch.utils.hooks import RemovableHandle

from explorer.training.staged_model import StagedModel


class FullSize:
    """Sets a model, its optimizers and its average to full size within contexts, which may be nested.

    Args:
        staged: the model.
    """

    def __init__(self, staged: StagedModel) -> None:
        self._staged = staged
        self._contexts, self._is_whole = 0, False
        self._warning: RemovableHandle | None = None

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """At full size within the context."""
        with self._state_dict_expected():
            before, self._is_whole = self._is_whole, True
            try:
                with self._staged.at_full_size():
                    yield
            finally:
                self._is_whole = before

    @contextmanager
    def when_read(self, on_reading: Callable[[], None]) -> Iterator[None]:
        """At full size from the first `state_dict()` of the model within the context on.

        For a trainer that does not tell when it saves: what it evaluates before that is still the stage's model.

        Args:
            on_reading: called when everything has been set to full size.
        """
        with self._state_dict_expected(), ExitStack() as full_size:

            def enter(*_: Any) -> None:
                if not self._is_whole:
                    self._is_whole = True
                    full_size.callback(setattr, self, "_is_whole", False)
                    full_size.enter_context(self._staged.at_full_size())
                    on_reading()

            full_size.callback(self._staged.model.register_state_dict_pre_hook(enter).remove)
            yield

    @contextmanager
    def _state_dict_expected(self) -> Iterator[None]:
        self._contexts += 1
        self.warn_of_parts()
        try:
            yield
        finally:
            self._contexts -= 1
            self.warn_of_parts()

    def warn_of_parts(self) -> None:
        """Let `state_dict()` of a reduced model warn: whoever saves it outside of the contexts saves a part of the model.

        To be called after each change of its size. Averages of the weights read it too, timm's in every step, so there is no
        warning with one.
        """
        if self._warning is not None:
            self._warning.remove()
            self._warning = None
        if self._contexts or self._staged.average is not None or self._staged.requested.full:
            return
        message = (
            f"state_dict() of a model at {self._staged.rates} lacks the weights that are inactive now; call it within "
            "StagedTraining.at_full_size() for the full model"
        )

        def warn(*_: Any) -> None:
            warnings.warn(message, stacklevel=3)

        self._warning = self._staged.model.register_state_dict_pre_hook(warn)
