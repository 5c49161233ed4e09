"""Small models of every hierarchical family in the table of layouts.

Classes are used where timm's functions do not accept a smaller depth or width.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from timm.layers import GroupNorm1, LayerNorm, LayerNorm2d
from timm.models import gcvit, metaformer, mvitv2, nest
from torch import nn

SWIN = {"img_size": 32, "patch_size": 2, "window_size": 4, "embed_dim": 32, "depths": (2, 2), "num_heads": (2, 4)}
DAVIT = {"embed_dims": (16, 32, 32, 32), "num_heads": (2, 4, 4, 4), "depths": (1, 1, 1, 1), "window_size": 4}
MAXVIT = {"img_size": 64, "embed_dim": (32, 32, 64, 64), "depths": (1, 1, 1, 1), "stem_width": 16, "transformer_dim_head": 16}
HIERA = {"img_size": (64, 64), "embed_dim": 16, "num_heads": 1, "stages": (1, 1, 1, 1)}
SAM2 = {"embed_dim": 16, "num_heads": 1, "stages": (1, 1, 2, 1), "global_att_blocks": (3,)}
PVT = {"embed_dims": (16, 32, 64, 64), "num_heads": (1, 2, 4, 8), "depths": (1, 1, 1, 1)}
TWINS = {"img_size": 32, "embed_dims": (16, 32, 32, 32), "num_heads": (1, 2, 4, 4), "depths": (1, 2, 1, 1)}
NEXTVIT = {"depths": (1, 1, 5, 1), "stem_chs": (8, 8, 8)}
EDGENEXT = {"dims": (16, 32, 64, 128), "heads": (4, 4, 4, 4), "depths": (1, 2, 2, 2)}
FASTVIT = {"embed_dims": (16, 32, 64, 128), "layers": (1, 1, 1, 1)}
LEVIT = {"img_size": 64, "embed_dim": (32, 48, 64), "key_dim": 8, "num_heads": (2, 3, 4), "depth": (1, 1, 1)}
TINY_VIT = {"embed_dims": (16, 32, 64, 64), "num_heads": (1, 2, 4, 4), "depths": (1, 1, 1, 1), "window_sizes": (2, 2, 4, 2)}
FORMER = {"embed_dims": (16, 32, 32, 48), "depths": (1, 1, 2, 3)}
VISFORMER = {"img_size": 64, "init_channels": 8, "embed_dim": 64, "num_heads": 4, "depth": (1, 1, 1)}
SWIFT = {"embed_dims": (16, 24, 32, 48), "layers": (1, 1, 1, 1)}
COAT = {"img_size": 32, "embed_dims": (16, 32, 32, 32), "serial_depths": (1, 1, 1, 1), "num_heads": 8}
CSAT = {"dims": (16, 32, 48, 64), "depths": (1, 1, 2, 2), "transformer_depths": (0, 0, 1, 1)}
PIT = {"img_size": 64, "base_dims": (16, 16, 16), "depth": (1, 1, 1), "heads": (2, 4, 8)}
EFFICIENTVIT = {"widths": (8, 16, 16, 32, 64), "depths": (1, 1, 1, 1, 1), "head_dim": 8, "head_widths": (64, 64)}
MSRA = {"img_size": 64, "embed_dim": (32, 48, 64), "key_dim": (8, 8, 8), "depth": (1, 1, 1), "num_heads": (2, 2, 4)}
WIDTHS = {"width_list": (8, 16, 32, 64, 256), "depth_list": (0, 1, 1, 1, 1), "head_widths": (64, 64)}
IFORMER = {"dims": (16, 24, 32, 48), "depths": (1, 1, 5, 3), "attn_groups": (0, 0, 1, 1)}
SHVIT = {"embed_dim": (32, 48, 64), "partial_dim": (16, 16, 16), "qk_dim": (8, 8, 8), "depth": (1, 1, 1)}
GCVIT = {"img_size": 64, "embed_dim": 16, "depths": (2, 2, 2, 2), "num_heads": (2, 4, 4, 4)}
NEST = {"img_size": 32, "embed_dims": (16, 32, 64), "num_heads": (2, 4, 8), "depths": (1, 1, 2)}
MVIT = {"depths": (1, 1, 2, 1), "embed_dim": 16}
METAFORMER = {"in_chans": 3, "depths": (1, 1, 2, 1), "dims": (16, 32, 64, 128)}
CAFORMER = {
    **METAFORMER,
    "token_mixers": [metaformer.SepConv, metaformer.SepConv, metaformer.Attention, metaformer.Attention],
    "norm_layers": [partial(LayerNorm2d, bias=False)] * 2 + [partial(LayerNorm, bias=False)] * 2,
}
POOLFORMER = {**METAFORMER, "downsample_norm": None, "mlp_act": nn.GELU, "mlp_bias": True, "norm_layers": GroupNorm1}
CONVNEXT = {"dims": (16, 24, 32, 48), "depths": (1, 1, 1, 1)}

FAMILIES: dict[str, tuple[str | Callable[..., nn.Module], dict[str, Any]]] = {
    "swin": ("swin_tiny_patch4_window7_224", SWIN),
    "swin, heads wider than the input": ("swin_tiny_patch4_window7_224", {**SWIN, "head_dim": 24, "qkv_bias": False}),
    "swin s3": ("swin_s3_tiny_224", {**SWIN, "window_size": (4, 2)}),
    "swinv2": ("swinv2_tiny_window8_256", SWIN),
    "swinv2, no qkv bias": ("swinv2_tiny_window8_256", {**SWIN, "qkv_bias": False}),
    "swinv2_cr": ("swinv2_cr_tiny_224", SWIN),
    "swinv2_cr, a norm after each stage": ("swinv2_cr_tiny_ns_224", SWIN),
    "davit": ("davit_tiny", DAVIT),
    "davit fl": ("davit_base_fl", DAVIT),
    "gcvit": (gcvit.GlobalContextVit, GCVIT),
    "nest": (nest.Nest, NEST),
    "hiera": ("hiera_tiny_224", HIERA),
    "hiera abswin": ("hiera_small_abswin_256", {**HIERA, "global_pos_size": (8, 8)}),
    "sam2": ("sam2_hiera_tiny", SAM2),
    "hieradet": ("hieradet_small", SAM2),
    "mvitv2": (mvitv2.MultiScaleVit, {"img_size": (32, 32), "cfg": mvitv2.MultiScaleVitCfg(**MVIT)}),
    "maxvit, bias": ("maxvit_pico_rw_256", MAXVIT),
    "maxvit, mlp bias": ("maxvit_rmlp_pico_rw_256", MAXVIT),
    "maxvit, tensorflow": ("maxvit_tiny_tf_224", MAXVIT),
    "maxvit pm": ("maxvit_tiny_pm_256", MAXVIT),
    "maxvit, channels first": ("maxvit_pico_rw_256", {**MAXVIT, "transformer_use_nchw_attn": True}),
    "maxxvit": ("maxxvit_rmlp_nano_rw_256", MAXVIT),
    "maxxvitv2": ("maxxvitv2_nano_rw_256", MAXVIT),
    "coatnet": ("coatnet_nano_rw_224", MAXVIT),
    "coatnet, mlp bias": ("coatnet_rmlp_nano_rw_224", MAXVIT),
    "coatnext": ("coatnext_nano_rw_224", MAXVIT),
    "pvt_v2": ("pvt_v2_b0", PVT),
    "pvt_v2, linear": ("pvt_v2_b2_li", PVT),
    "twins pcpvt": ("twins_pcpvt_small", TWINS),
    "twins svt": ("twins_svt_small", TWINS),
    "nextvit": ("nextvit_small", NEXTVIT),
    "caformer": (metaformer.MetaFormer, CAFORMER),
    "poolformer": (metaformer.MetaFormer, POOLFORMER),
    "edgenext": ("edgenext_xx_small", EDGENEXT),
    "edgenext rw": ("edgenext_small_rw", EDGENEXT),
    "fastvit": ("fastvit_t8", FASTVIT),
    "fastvit, attention": ("fastvit_sa12", FASTVIT),
    "levit": ("levit_128s", LEVIT),
    "levit, convolutions": ("levit_conv_128s", LEVIT),
    "levit, one classifier": ("levit_128s", {**LEVIT, "distilled": False}),
    "tiny_vit": ("tiny_vit_5m_224", TINY_VIT),
    "efficientformer": ("efficientformer_l1", {**FORMER, "img_size": 224}),
    "efficientformerv2": ("efficientformerv2_s0", {**FORMER, "img_size": 64, "mlp_ratios": 2}),
    "visformer": ("visformer_tiny", VISFORMER),
    "visformer, ungrouped": ("visformer_tiny", {**VISFORMER, "group": 1, "spatial_conv": "111", "attn_stage": "111"}),
    "swiftformer": ("swiftformer_xs", SWIFT),
    "coat": ("coat_tiny", {**COAT, "embed_dims": (16, 32, 32, 32), "parallel_depth": 1}),
    "coat lite": ("coat_lite_tiny", COAT),
    "csatv2": ("csatv2", CSAT),
    "pit": ("pit_ti_224", PIT),
    "pit, distilled": ("pit_ti_distilled_224", PIT),
    "mobilevit": ("mobilevit_xxs", {}),
    "mobilevitv2": ("mobilevitv2_050", {}),
    "efficientvit": ("efficientvit_b0", EFFICIENTVIT),
    "efficientvit, large": ("efficientvit_l1", EFFICIENTVIT),
    "efficientvit msra": ("efficientvit_m0", MSRA),
    "lowformer": ("lowformer_b0", {**WIDTHS, "fused_conv": False}),
    "lowformer, no mlp": ("lowformer_e3", {**WIDTHS, "fused_conv": False}),
    "cpubone": ("cpubone_nano", {**WIDTHS, "fused_conv": False}),
    "cpubone, fused": ("cpubone_nano", WIDTHS),
    "iformer": ("iformer_t", IFORMER),
    "shvit": ("shvit_s1", SHVIT),
    "mobilenetv4 hybrid": ("mobilenetv4_hybrid_medium_075", {}),
    "convnext, convolutions": ("convnext_atto", {**CONVNEXT, "conv_mlp": True}),
    "convnextv2": ("convnextv2_atto", {**CONVNEXT, "conv_mlp": False}),
    "convnextv2, convolutions": ("convnextv2_atto", CONVNEXT),
}

WIDTH_NORMED: set[str] = {"convnextv2", "convnextv2, convolutions"}
"""Labels of models with a norm over the attention or hidden width: its output changes with that width."""


def image_size(label: str) -> int:
    """Height and width of the images for a family: 64 pixels if its model has no `img_size`."""
    size = FAMILIES[label][1].get("img_size", 64)
    return int(size[0] if isinstance(size, tuple) else size)
