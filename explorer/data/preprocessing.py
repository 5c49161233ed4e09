"""What timm knows of the pixels that a model was trained on."""

from __future__ import annotations

import timm
from timm.data import resolve_data_config

from explorer.spec.data import Preprocessing


def preprocessing_for(preprocessing: Preprocessing, model_name: str) -> Preprocessing:
    """Fill in what is `None` with timm's values for a model (its `pretrained_cfg`), or timm's defaults for unknown models."""
    known = timm.get_pretrained_cfg(model_name, allow_unregistered=True)
    given = preprocessing.model_dump(exclude_none=True) | {"in_chans": 3}
    resolved = resolve_data_config(given, known.to_dict() if known else None)
    return Preprocessing(**{field: resolved[field] for field in Preprocessing.model_fields})
