"""Every family in the table of layouts passes the checks of `explorer.elastic.testing`.

A timm release that changes a class fails here with the label of the family.
"""

import os

import pytest
import torch

from explorer import InvalidInput
from explorer.elastic import Layout
from explorer.elastic.layouts import LAYOUTS
from explorer.elastic.testing import (
    CHECKS,
    NotApplicable,
    check_compiled,
    check_model,
)
from tests.elastic.families import FAMILIES, family

EXHAUSTIVE = os.environ.get("EXPLORER_EXHAUSTIVE") == "1"
"""Whether every family runs every check, as `make test-nightly` does. Otherwise each family runs a sixth of them: a different
sixth than the five families before and after it, so that each check runs on a sixth of the families."""
COMPILE_BACKENDS = {
    "beit": "inductor" if EXHAUSTIVE else "aot_eager",
    "swin": "aot_eager" if EXHAUSTIVE else "eager",
    "hiera": "eager",
    "relpos, mlp": "eager",
}
"""One family of each kind, because compiling takes long; `eager` only traces the forward pass."""
CHECKED = [
    pytest.param(name, check, id=f"{name}-{check.__name__.removeprefix('check_')}")
    for number, name in enumerate(FAMILIES)
    for place, check in enumerate(CHECKS)
    if EXHAUSTIVE or (number + place) % 6 == 0
]


@pytest.fixture(scope="module")
def label(request):
    """The module's scope makes pytest run all checks of one family before the next, so that its model is built once."""
    return request.param


@pytest.mark.parametrize(("label", "check"), CHECKED, indirect=["label"])
def test_family(label, check):
    try:
        check(family(label))
    except NotApplicable as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("compiled_label", COMPILE_BACKENDS)
def test_compiled_family(compiled_label):
    check_compiled(family(compiled_label), COMPILE_BACKENDS[compiled_label])


class WrongScale(torch.nn.Module):
    """An attention whose output depends on the number of heads, so that no layout fits."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_heads = 4
        self.proj = torch.nn.Linear(width, width)
        self.qkv = torch.nn.Linear(width, 3 * width)

    def forward(self, x, **_):
        return self.proj(self.qkv(x).chunk(3, dim=-1)[2] * self.num_heads)


def test_the_checks_notice_a_wrong_layout(monkeypatch):
    def build():
        model = family("eva02").build()
        for block in model.blocks:
            block.attn = WrongScale(48)
        return model.float()

    monkeypatch.setitem(LAYOUTS, WrongScale, Layout({"qkv": "(3 h d) c", "proj": "c (h d)"}, heads=("num_heads",)))
    with pytest.raises(AssertionError, match="outputs differ by"):
        check_model(build, (2, 3, 32, 32))


def test_a_model_without_layouts_is_refused():
    with pytest.raises(InvalidInput, match="nothing in it can be resized"):
        check_model(lambda: torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3)), (2, 3, 32, 32))
