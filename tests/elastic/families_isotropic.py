"""Small models of every family in the table of layouts whose blocks share one width, and of those without attention.

A class is used where timm's function does not accept a smaller depth or width.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from timm.layers import GluMlp, RmsNorm, SwiGLU
from timm.models.vision_transformer import DiffParallelScalingBlock, ParallelScalingBlock
from timm.models.vitamin import VitCfg, VitConvCfg
from timm.models.volo import VOLO
from torch import nn

VIT: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 4, "num_classes": 5}
NAFLEX = {key: value for key, value in VIT.items() if key != "img_size"}
EVA = "eva02_tiny_patch14_224"
RELPOS = "vit_relpos_small_patch16_224"
DINOV3 = "vit_small_patch16_dinov3"
VOLO_OPTIONS = {
    "img_size": 32,
    "layers": (1, 1, 1, 1),
    "embed_dims": (32, 48, 48, 48),
    "num_heads": (4, 4, 4, 4),
    "qkv_bias": True,
    "num_classes": 5,
    "mlp_ratio": 1.0,
    "stem_hidden_dim": 8,
    "use_aux_head": False,
}
GEMMA = {
    "img_size": 32,
    "patch_size": 8,
    "embed_dim": 48,
    "depth": 2,
    "num_heads": 4,
    "head_dim": 12,
    "intermediate_size": 96,
    "position_embedding_size": 16,
    "num_classes": 5,
}
VITAMIN = {
    "img_size": 32,
    "embed_cfg": VitCfg(
        embed_dim=(16, 24, 48),
        depths=(1, 1, 1),
        stem_width=16,
        conv_cfg=VitConvCfg(norm_layer="layernorm2d", norm_eps=1e-6),
        head_type="1d",
    ),
    "embed_dim": 48,
    "depth": 2,
    "num_heads": 4,
    "num_classes": 5,
}
CROSSVIT = {
    "img_size": 48,
    "img_scale": (1.0, 2 / 3),
    "patch_size": [12, 16],
    "embed_dim": [32, 48],
    "depth": [[1, 2, 0]],
    "num_heads": [4, 4],
    "mlp_ratio": [2, 2, 1],
    "num_classes": 5,
}
TNT = {**VIT, "inner_dim": 8, "first_stride": 2, "num_heads_inner": 4, "num_heads_outer": 4}
del TNT["num_heads"]
CONVNEXT = {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32), "num_classes": 5}

FAMILIES: dict[str, tuple[str | Callable[..., nn.Module], dict[str, Any]]] = {
    "eva": ("eva_giant_patch14_224", {**VIT, "mlp_ratio": 4.0}),
    "eva, no bias": ("eva_giant_patch14_224", {**VIT, "mlp_ratio": 4.0, "qkv_bias": False}),
    "eva02": (EVA, VIT),
    "eva02, split and gated mlp": (EVA, {**VIT, "qkv_fused": False, "swiglu_mlp": True, "swiglu_align_to": 8}),
    "eva02, inner norms": (EVA, {**VIT, "qkv_fused": False, "scale_mlp": True, "scale_attn_inner": True}),
    "eva02, qk norm and registers": (EVA, {**VIT, "qk_norm": True, "num_reg_tokens": 2}),
    "dinov3": (DINOV3, VIT),
    "dinov3, swiglu": ("vit_small_plus_patch16_dinov3", VIT),
    "rope, axial": ("vit_small_patch16_rope_224", VIT),
    "rope, mixed": ("vit_small_patch16_rope_mixed_224", VIT),
    "rope, mixed and absolute": ("vit_small_patch16_rope_mixed_ape_224", VIT),
    "rope attention, split": (EVA, {**VIT, "attn_type": "rope", "qkv_fused": False}),
    "rope attention, inner norm": (EVA, {**VIT, "attn_type": "rope", "scale_attn_inner": True}),
    "rope attention, grouped queries": (
        EVA,
        {**VIT, "attn_type": "rope", "qkv_fused": False, "num_heads": 8, "embed_dim": 64, "num_kv_heads": 4},
    ),
    "rope attention, grouped queries in one block": (
        EVA,
        {**VIT, "attn_type": "rope", "qkv_fused": False, "num_heads": 8, "embed_dim": 64, "num_kv_heads": (8, 4)},
    ),
    "perception encoder": ("vit_pe_spatial_tiny_patch16_512", VIT),
    "beit": ("beit_base_patch16_224", VIT),
    "beit, one bias for all blocks": (
        "beit_base_patch16_224",
        {**VIT, "use_rel_pos_bias": False, "use_shared_rel_pos_bias": True, "qkv_bias": False},
    ),
    "beit, swiglu": ("beit_base_patch16_224", {**VIT, "swiglu_mlp": True}),
    "beit, scaled mlp": ("beit_base_patch16_224", {**VIT, "scale_mlp": True}),
    "relpos, mlp": (RELPOS, {**VIT, "rel_pos_type": "mlp", "class_token": True}),
    "relpos, mlp of swin": (RELPOS, {**VIT, "rel_pos_type": "mlp-swin", "rel_pos_dim": 16}),
    "relpos, table": (RELPOS, {**VIT, "rel_pos_type": "bias", "qk_norm": True}),
    "relpos, one mlp for all blocks": (RELPOS, {**VIT, "shared_rel_pos": True, "rel_pos_type": "mlp"}),
    "relpos, one table for all blocks": (RELPOS, {**VIT, "shared_rel_pos": True, "rel_pos_type": "bias"}),
    "sam": ("samvit_base_patch16_224", {**VIT, "window_size": 2, "global_attn_indexes": (1,)}),
    "sam, rope and qk norm": (
        "samvit_base_patch16_224",
        {**VIT, "window_size": 2, "global_attn_indexes": (1,), "use_rel_pos": False, "use_rope": True, "qk_norm": True},
    ),
    "differential": ("vit_tiny_patch16_224", {**VIT, "attn_layer": "diff", "qk_norm": True}),
    "differential, scaled": (
        "vit_tiny_patch16_224",
        {**VIT, "attn_layer": "diff", "scale_attn_norm": True, "norm_layer": RmsNorm},
    ),
    "parallel": ("vit_tiny_patch16_224", {**VIT, "block_fn": ParallelScalingBlock, "qkv_bias": False, "qk_norm": True}),
    "parallel, biased": ("vit_tiny_patch16_224", {**VIT, "block_fn": ParallelScalingBlock}),
    "parallel, one output projection": (
        "vit_tiny_patch16_224",
        {**VIT, "block_fn": partial(ParallelScalingBlock, fuse_out_proj=True)},
    ),
    "parallel, differential": ("vit_tiny_patch16_224", {**VIT, "block_fn": DiffParallelScalingBlock}),
    "parallel, differential, two lambdas": (
        "vit_tiny_patch16_224",
        {**VIT, "block_fn": partial(DiffParallelScalingBlock, dual_lambda=True), "qkv_bias": False},
    ),
    "vit, packed gate": ("vit_tiny_patch16_224", {**VIT, "mlp_layer": GluMlp}),
    "vit, scaled packed gate": ("vit_tiny_patch16_224", {**VIT, "mlp_layer": GluMlp, "scale_mlp_norm": True}),
    "vit, swiglu": ("vit_tiny_patch16_224", {**VIT, "mlp_layer": SwiGLU}),
    "naflex": ("naflexvit_base_patch16_gap", NAFLEX),
    "naflex, map pooling": ("naflexvit_base_patch16_map", NAFLEX),
    "naflex, axial rope": ("naflexvit_base_patch16_gap", {**NAFLEX, "rope_type": "axial", "attn_gated": True}),
    "naflex, mixed rope": ("naflexvit_base_patch16_gap", {**NAFLEX, "rope_type": "mixed", "swiglu_mlp": True}),
    "naflex, gated eva": ("naflexvit_base_patch16_gap", {**NAFLEX, "attn_type": "eva", "attn_gated": True}),
    "gemma4": ("gemma4_vit_167m", GEMMA),
    "gemma4, grouped queries and clipped layers": (
        "gemma4_vit_167m",
        {**GEMMA, "num_heads": 8, "num_kv_heads": 4, "use_clipped_linears": True},
    ),
    "qwen3": ("qwen3_vit_88m", {**VIT, "pos_embed_grid_size": 4}),
    "deepseek": ("deepseek_vit_412m", {**VIT, "mlp_ratio": 2.0, "downsample_ratio": 2}),
    "vitamin": ("vitamin_small_224", VITAMIN),
    "cait": ("cait_xxs24_224", VIT),
    "cait, no bias": ("cait_xxs24_224", {**VIT, "qkv_bias": False}),
    "xcit": ("xcit_nano_12_p16_224", {**VIT, "cls_attn_layers": 1}),
    "xcit, tokens normed": ("xcit_tiny_12_p8_224", {**VIT, "cls_attn_layers": 1}),
    "convit": ("convit_tiny", {**VIT, "embed_dim": 12, "local_up_to_layer": 1}),
    "convit, biased": ("convit_tiny", {**VIT, "embed_dim": 12, "local_up_to_layer": 1, "qkv_bias": True}),
    "crossvit": ("crossvit_9_240", CROSSVIT),
    "crossvit, convolutional patches": ("crossvit_9_dagger_240", {**CROSSVIT, "qkv_bias": False}),
    "tnt": ("tnt_s_patch16_224", TNT),
    "tnt, legacy and biased": ("tnt_s_legacy_patch16_224", {**TNT, "qkv_bias": True}),
    "volo": (VOLO, VOLO_OPTIONS),
    # Models without attention: only their MLPs are resized.
    "convnext, response norm": ("convnextv2_atto", CONVNEXT),
    "convnext, response norm by convolutions": ("convnextv2_atto", {**CONVNEXT, "conv_mlp": True}),
    "mobilevit v2, convolutional mlp": ("mobilevitv2_050", {"num_classes": 5}),
}

WIDTH_NORMED: set[str] = {
    "eva02, inner norms",
    "rope attention, inner norm",
    "beit, scaled mlp",
    "differential, scaled",
    "vit, scaled packed gate",
    "convnext, response norm",
    "convnext, response norm by convolutions",
}
"""Labels of models with a norm over the attention or hidden width: its output changes with that width."""
