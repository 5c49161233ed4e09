"""Digits that fail in the second of two processes, once for each file in the folder `data.root`, which names the fault."""

import os
import signal
from pathlib import Path

import torch
from torch import distributed

from explorer.data import open_data
from explorer.spec.data import DataSpec


class FaultyDigits:
    """A data source: `data.name: tests.sweep.faulty_digits:FaultyDigits`."""

    def __init__(self, spec):
        self.faults = Path(spec.root)
        self.digits = open_data(DataSpec(name="digits", image_size=8))

    def __getattr__(self, name):
        return getattr(self.digits, name)

    def train_batches(self, stream):
        for number, (images, labels) in enumerate(self.digits.train_batches(stream)):
            fault = self.next_fault() if number == 2 and distributed.get_rank() == 1 else None
            if fault == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if fault == "memory":
                torch.empty(10**15)
            yield (torch.full_like(images, torch.nan) if fault == "diverged" else images), labels

    def next_fault(self):
        for path in sorted(self.faults.iterdir()):
            path.unlink()
            return path.name.partition("-")[2]
        return None
