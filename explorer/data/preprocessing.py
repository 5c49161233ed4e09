"""timm's preprocessing for a model: the size and range of pixels that it was trained on."""

from __future__ import annotations

import timm
from timm.data import resolve_data_config

from explorer.spec.data import Preprocessing


def preprocessing_for(preprocessing: Preprocessing, model_name: str) -> Preprocessing:
    """Replace values that are `None` by timm's for the model (its `pretrained_cfg`), or timm's defaults if it has none."""
    config = timm.get_pretrained_cfg(model_name, allow_unregistered=True)
    given = preprocessing.model_dump(exclude_none=True) | {"in_chans": 3}
    resolved = resolve_data_config(given, config.to_dict() if config else None)
    return Preprocessing(**{field: resolved[field] for field in Preprocessing.model_fields})
