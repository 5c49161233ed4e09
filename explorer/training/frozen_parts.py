"""Parts of a model that keep their weights for a share of the training."""

from __future__ import annotations

import difflib

from torch import Tensor, nn

from explorer.errors import InvalidInput
from explorer.spec.recipe import FrozenParts

FIELD = "recipe.frozen.parts"


class FrozenParameters:
    """The parameters of the frozen parts of a model, which get no gradients while they are frozen.

    Optimizers skip parameters without gradients: these have no weight decay and no state, which starts when they are trained.

    Args:
        model: the model at full size.
        frozen: which parts; `None` if there are none.
    """

    def __init__(self, model: nn.Module, frozen: FrozenParts | None) -> None:
        self._parameters = _parameters(model, frozen.parts) if frozen else []
        self._frozen = False

    def set(self, frozen: bool) -> bool:
        """Freeze the parts, or train them.

        Returns:
            Whether anything has changed. Wrappers of the model (DDP, `torch.compile`) must then be created again.
        """
        if frozen == self._frozen or not self._parameters:
            return False
        for parameter in self._parameters:
            parameter.requires_grad_(not frozen)
            parameter.grad = None
        self._frozen = frozen
        return True


def check_frozen_parts(model: nn.Module, frozen: FrozenParts | None) -> None:
    """Check that a model has the parts, and others that are trained.

    Raises:
        InvalidInput: naming a part that the model does not have, or all parts when nothing is left to train.
    """
    if frozen is None:
        return
    if len(_parameters(model, frozen.parts)) == sum(1 for _ in model.parameters()):
        raise InvalidInput(FIELD, list(frozen.parts), "freezes the whole model; something must be trained")


def _parameters(model: nn.Module, parts: tuple[str, ...]) -> list[Tensor]:
    """The parameters within the parts, each once."""
    named = dict(model.named_parameters())
    found: dict[str, Tensor] = {}
    for part in parts:
        within = {name: parameter for name, parameter in named.items() if f"{name}.".startswith(f"{part}.")}
        if not within:
            names = {name.rsplit(".", levels)[0] for name in named for levels in range(name.count(".") + 1)}
            near = difflib.get_close_matches(part, sorted(names), n=1)
            first = ", ".join(dict.fromkeys(name.partition(".")[0] for name in named))
            hint = f"did you mean {near[0]}?" if near else f"it consists of {first}"
            raise InvalidInput(FIELD, part, f"the model has no such part with parameters; {hint}")
        found |= within
    return list(found.values())
