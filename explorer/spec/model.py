"""Which model is trained."""

from __future__ import annotations

from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from explorer.spec.base import Settings
from explorer.spec.imports import Reference


class ModelSpec(Settings):
    """A model, by its name in timm or as a class or function."""

    name: Reference
    """Name of the model, as in `timm.list_models()`, with the tag of pretrained weights if there are several
    (`vit_small_patch16_224.augreg_in1k`); or `hf-hub:owner/model` or `local-dir:/path/to/model`, as timm reads them; or
    `package.module:name`, a class or function that builds one: `torchvision.models:vit_b_16`,
    `transformers:ViTForImageClassification`, or your own."""
    pretrained: bool = False
    """Whether training starts from timm's pretrained weights, which are downloaded."""
    checkpoint: str | None = None
    """File of weights from which training starts, instead of a download: `.safetensors`, or `.pt`, `.pth` or `.bin` with
    tensors only. A classifier for another number of classes is replaced by a new one, and position embeddings for another image
    size are resampled. `~` and variables are replaced."""
    weights_sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    """SHA-256 of the content of `checkpoint`. A sweep and a training run note it when they start, and refuse other weights in
    the same file. `null` takes the file as it is."""
    options: dict[str, Any] = {}
    """Further keyword arguments of `timm.create_model`, or of the class or function (of transformers: of its configuration):
    depth, embed_dim, drop_path_rate, ... The number of classes, of channels and the image size are those of the data."""

    @model_validator(mode="after")
    def _check(self) -> ModelSpec:
        if self.checkpoint is not None and self.pretrained:
            raise ValueError("pretrained: true downloads weights, and checkpoint reads a file; give one of the two")
        if self.weights_sha256 is not None and self.checkpoint is None:
            raise ValueError("weights_sha256: needs checkpoint, the file that it is of")
        return self

    @model_serializer(mode="wrap")
    def _without_checkpoint(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Models that start from no file are written as they were before one could be given."""
        content: dict[str, Any] = handler(self)
        unset = ("checkpoint", "weights_sha256")
        return {name: value for name, value in content.items() if name not in unset or value is not None}

    @property
    def starts_from_weights(self) -> bool:
        """Whether training starts from weights that were trained before, which growth must not overwrite."""
        return self.pretrained or self.checkpoint is not None
