"""A model family that lives outside the package: a vision transformer with its own attention, trained in two stages.

    python examples/extending/model_family.py

The package knows how to resize timm's classes. For an attention class of your own, it needs to know where the tensors contain
heads: one `Layout`, registered for the class. The rest of this file is an ordinary timm model.

Shapes: B batch, C channels of images, N tokens, D width, h heads, d width of a head.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from timm.layers import Mlp, PatchEmbed
from timm.models import register_model
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from explorer import Rates
from explorer.elastic import ElasticModel, Layout, register_layout
from explorer.elastic import register_model as register_model_class


class CosineAttention(nn.Module):
    """Attention by cosine similarity, with a learned temperature for each head."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.temperature = nn.Parameter(torch.full((num_heads, 1, 1), 10.0))
        self.proj = nn.Linear(width, width)

    def forward(self, x_BND: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D). This assumes that all heads together are as wide as the input: h * d = D."""
        B, N, D = x_BND.shape
        q, k, v = self.qkv(x_BND).reshape(B, N, 3, self.num_heads, D // self.num_heads).permute(2, 0, 3, 1, 4)
        attention = (normalize(q, dim=-1) @ normalize(k, dim=-1).transpose(-2, -1) * self.temperature).softmax(dim=-1)
        return self.proj((attention @ v).transpose(1, 2).reshape(B, N, D))


class NarrowCosineAttention(CosineAttention):
    """The same for fewer heads than the input is wide: takes the place of the class while heads are inactive."""

    def forward(self, x_BND: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D), for any number of heads."""
        q, k, v = self.qkv(x_BND).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        attention = (normalize(q, dim=-1) @ normalize(k, dim=-1).transpose(-2, -1) * self.temperature).softmax(dim=-1)
        return self.proj((attention @ v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and MLP, each with a residual connection. timm's `Mlp` already has a layout."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width), CosineAttention(width, num_heads)
        self.norm2, self.mlp = nn.LayerNorm(width), Mlp(width, 4 * width)

    def forward(self, x_BND: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        x_BND = x_BND + self.attn(self.norm1(x_BND))
        return x_BND + self.mlp(self.norm2(x_BND))


class CosineViT(nn.Module):
    """A small vision transformer with average pooling."""

    def __init__(
        self,
        img_size: int = 32,
        patch_size: int = 8,
        in_chans: int = 3,
        num_classes: int = 10,
        embed_dim: int = 48,
        depth: int = 4,
        num_heads: int = 4,
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(img_size, patch_size, in_chans, embed_dim)
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, self.patch_embed.num_patches, embed_dim))
        self.blocks = nn.Sequential(*(Block(embed_dim, num_heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, num_classes)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Logits, (B, classes)."""
        x_BND = self.blocks(self.patch_embed(images_BCHW) + self.pos_embed)
        return self.head(self.norm(x_BND.mean(dim=1)))


@register_model
def cosine_vit_tiny(pretrained: bool = False, **options: Any) -> CosineViT:
    """Registered in timm's registry, so `timm.create_model("cosine_vit_tiny")` works where this module has been imported."""
    if pretrained:
        raise ValueError("cosine_vit_tiny has no pretrained weights")
    weights = ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")  # arguments of timm that are about weights
    return CosineViT(**{name: value for name, value in options.items() if name not in weights})


# Where the heads are: `qkv` has three groups (q, k, v) of h heads of d values each, `proj` reads h heads of d values, and the
# temperature has one value for each head.
register_layout(
    CosineAttention,
    Layout({"qkv": "(3 h d) c", "temperature": "h 1 1", "proj": "c (h d)"}, heads=("num_heads",), narrow=NarrowCosineAttention),
)
# The forward pass runs `blocks` in order, so fewer of them are a shallower model of the same class.
register_model_class(CosineViT, blocks="blocks")


def main() -> None:
    """Train some steps with half of the heads, channels and blocks, then with the full model."""
    torch.manual_seed(0)
    model = timm.create_model("cosine_vit_tiny")
    elastic = ElasticModel(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    images, labels = torch.randn(64, 3, 32, 32), torch.randint(10, (64,))
    print(f"axes: {', '.join(elastic.axes)}")
    for rates in (Rates(heads=0.5, mlp=0.5, depth=0.5), Rates()):
        elastic.set_rates(rates, optimizer)
        for _ in range(20):
            loss = cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        parameters = sum(parameter.numel() for parameter in model.parameters())
        print(f"{rates}: {parameters} parameters, loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
