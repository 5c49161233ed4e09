"""Fixtures of the tests of training."""

import pytest
import torch

from explorer.training import compilation


@pytest.fixture
def traced_only(monkeypatch):
    """Models are traced, not compiled: tracing, guards and reuse are those of every backend; generating code takes long."""
    monkeypatch.setattr(compilation, "BACKEND", "eager")
    torch.compiler.reset()
    yield
    torch.compiler.reset()
