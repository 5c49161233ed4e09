"""Small models of torchvision and transformers."""

from typing import Any

from explorer.training.model_factories import build_referenced

VIT: dict[str, Any] = {"patch_size": 8, "num_layers": 2, "num_heads": 4, "hidden_dim": 48, "mlp_dim": 96}
SWIN: dict[str, Any] = {"patch_size": [2, 2], "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": [4, 4]}
HF: dict[str, Any] = {
    "patch_size": 8,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
}
HF_DINOV2 = {**HF, "mlp_ratio": 2}
del HF_DINOV2["intermediate_size"]
HF_SWIN: dict[str, Any] = {"patch_size": 2, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "torchvision vit": ("torchvision.models:VisionTransformer", VIT),
    "torchvision swin": ("torchvision.models:SwinTransformer", SWIN),
    "torchvision swin v2": ("tests.elastic.families_other_libraries:swin_v2", SWIN),
    "transformers vit": ("transformers:ViTForImageClassification", HF),
    "transformers deit": ("transformers:DeiTForImageClassification", HF),
    "transformers dinov2": ("transformers:Dinov2ForImageClassification", HF_DINOV2),
    "transformers dinov2, swiglu": ("transformers:Dinov2ForImageClassification", {**HF_DINOV2, "use_swiglu_ffn": True}),
    "transformers swin": ("transformers:SwinForImageClassification", HF_SWIN),
}


def swin_v2(img_size: int, in_chans: int, num_classes: int, **options: Any):
    """torchvision's function for it accepts no smaller depth."""
    from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformer, SwinTransformerBlockV2

    return SwinTransformer(num_classes=num_classes, block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2, **options)


def build(label: str):
    """A model for 10 classes of images of 32 x 32 pixels."""
    reference, options = FAMILIES[label]
    return build_referenced(reference, {"img_size": 32, "in_chans": 3, "num_classes": 10, **options})
