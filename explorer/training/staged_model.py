"""What training changes: a model, its optimizer and the average of its weights, resized, saved and restored together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from explorer.elastic import ElasticModel
from explorer.elastic.optimizer_state import as_sequence
from explorer.spec.rates import Rates
from explorer.spec.staging import Staging


class StagedModel:
    """A timm model with everything that has to be resized along with it.

    Args:
        model: a timm model at full size, not wrapped.
        optimizer: an optimizer over the model's parameters, or several that divide them.
        average: a copy of the model that holds an average of its weights; `None` if there is none. Whoever trains the model
            updates it.
        staging: how reduced models are derived from the full model.
        image_size: height and width of full images in pixels, or the side of square ones; `None`: the size that the model
            was built for.
        seed: seed of random subsets.

    Raises:
        InvalidInput: when nothing in the model can be resized, or it does not allow this staging.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Sequence[Optimizer],
        average: nn.Module | None = None,
        *,
        staging: Staging = Staging(),  # noqa: B008 (frozen)
        image_size: int | tuple[int, int] | None = None,
        seed: int = 0,
    ) -> None:
        self.model, self.average = model, average
        self.optimizers = as_sequence(optimizer)
        """The optimizers, which divide the model's parameters."""
        self._elastic = ElasticModel(model, staging, image_size=image_size, seed=seed)
        self._elastic_average = (
            ElasticModel(average, staging, image_size=image_size, seed=seed, average_of=self._elastic)
            if average is not None
            else None
        )

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer, where there is one."""
        (optimizer,) = self.optimizers
        return optimizer

    @property
    def sleeping_parameters(self) -> list[Tensor]:
        """As `ElasticModel.sleeping_parameters`."""
        return self._elastic.sleeping_parameters

    @property
    def requested(self) -> Rates:
        """The rates that the model was last set to."""
        return self._elastic.requested

    @property
    def rates(self) -> Rates:
        """The realised rates."""
        return self._elastic.rates

    def set_rates(self, requested: Rates, *, grow: bool = True) -> bool:
        """Resize model, optimizer state and average, unless they have these rates already.

        Args:
            requested: the rates to set.
            grow: whether newly active entries get their growth initialization. `False` for changes that training must not
                see: to full size for a checkpoint, and back.

        Returns:
            Whether anything was resized. Wrappers of the model (DDP, `torch.compile`) must then be created again.

        Raises:
            InvalidInput: when the model cannot have these rates, or the optimizer's state cannot be resized.
        """
        if requested == self.requested:
            return False
        self._elastic.set_rates(requested, self.optimizers, grow=grow)
        if self._elastic_average is not None:
            self._elastic_average.growth = self._elastic.growth
            self._elastic_average.set_rates(requested, grow=grow)
        return True

    @contextmanager
    def at_full_size(self) -> Iterator[None]:
        """Set everything to full size within the context, to save or evaluate it; training does not see this."""
        with ExitStack() as stack:
            stack.enter_context(self._elastic.at_full_size(self.optimizers))
            if self._elastic_average is not None:
                stack.enter_context(self._elastic_average.at_full_size())
            yield

    def state_dict(self) -> dict[str, Any]:
        """States of model, optimizer and average, to be taken within `at_full_size`. They refer to the tensors in place."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned, at full size. `set_rates(..., grow=False)` then returns to a stage's size."""
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])

    @property
    def pretrained(self) -> bool:
        """As `ElasticModel.pretrained`."""
        return self._elastic.pretrained

    @pretrained.setter
    def pretrained(self, pretrained: bool) -> None:
        self._elastic.pretrained = pretrained
        if self._elastic_average is not None:
            self._elastic_average.pretrained = pretrained

    @property
    def subset_orders(self) -> dict[str, list[int]]:
        """The order in which heads and channels become active, read from the first weights; empty unless by importance."""
        return self._elastic.subset_orders

    @subset_orders.setter
    def subset_orders(self, orders: dict[str, list[int]]) -> None:
        self._elastic.subset_orders = orders
        if self._elastic_average is not None:
            self._elastic_average.subset_orders = orders
