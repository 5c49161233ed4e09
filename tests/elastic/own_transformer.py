"""A transformer whose parts have names of their own, with its layouts; `model.name: tests.elastic.own_transformer:build`."""

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from explorer.elastic import Layout, register_layout, register_model
from explorer.elastic.token_dropping import DropLocation


class Gossip(nn.Module):
    """Attention with separate projections: asks, answers and stories."""

    def __init__(self, width: int, speakers: int) -> None:
        super().__init__()
        self.speakers = speakers
        self.ask, self.answer, self.story, self.retell = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x):
        q, k, v = (part(x).unflatten(2, (self.speakers, -1)).transpose(1, 2) for part in (self.ask, self.answer, self.story))
        return self.retell(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Digest(nn.Module):
    """A gated MLP whose gate and value are one layer."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.chew, self.swallow = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)

    def forward(self, x):
        gate, value = self.chew(x).chunk(2, dim=-1)
        return self.swallow(gate.sigmoid() * value)


class Floor(nn.Module):
    """One block."""

    def __init__(self, width: int, speakers: int) -> None:
        super().__init__()
        self.norm_a, self.gossip = nn.LayerNorm(width), Gossip(width, speakers)
        self.norm_b, self.digest = nn.LayerNorm(width), Digest(width, 2 * width)

    def forward(self, x):
        x = x + self.gossip(self.norm_a(x))
        return x + self.digest(self.norm_b(x))


class Tower(nn.Module):
    """The model."""

    def __init__(self, img_size: int, in_chans: int, num_classes: int, width: int, floors: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.tiles = nn.Conv2d(in_chans, width, patch, patch)
        self.places = nn.Parameter(0.02 * torch.randn(1, (img_size // patch) ** 2, width))
        self.entry = nn.Identity()
        self.floors = nn.Sequential(*(Floor(width, 4) for _ in range(floors)))
        self.roof = nn.LayerNorm(width)
        self.verdict = nn.Linear(width, num_classes)

    def forward(self, images):
        x = self.entry(self.tiles(images).flatten(2).transpose(1, 2) + self.places)
        return self.verdict(self.roof(self.floors(x)).mean(1))


register_layout(
    Gossip,
    Layout({**dict.fromkeys(("ask", "answer", "story"), "(h d) c"), "retell": "c (h d)"}, heads=("speakers",)),
)
register_layout(Digest, Layout({"chew": "(2 m) c", "swallow": "c m"}))
register_model(
    Tower,
    blocks="floors",
    token_dropping=DropLocation(
        "entry", lambda _, __, keep: keep(), lambda model, size: (size[0] // model.patch, size[1] // model.patch)
    ),
)


def build(width: int = 32, floors: int = 2, patch: int = 2, **of_the_data):
    """The model, for the classes, channels and image size of the data."""
    return Tower(**of_the_data, width=width, floors=floors, patch=patch)
