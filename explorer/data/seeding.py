"""Random numbers that depend on their purpose and position alone, not on what was drawn before."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_for(*parts: object) -> int:
    """A 63-bit seed from a purpose and its position: independent streams without carried state."""
    digest = hashlib.sha256(":".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def seed_generators(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch (CPU)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)


@contextmanager
def preserved_generators() -> Iterator[None]:
    """Restore the states of the global generators of Python, NumPy and torch (CPU) after a `with` block."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and torch (CPU) within a `with` block, and restore their states after it.

    For libraries that draw from the global generators.
    """
    with preserved_generators():
        seed_generators(seed)
        yield
