"""Data sources around the digits that do something besides, in the processes of a cluster; `data.root` is a folder for it."""

import os
import signal
import time
from pathlib import Path

import ray
import torch
from torch import distributed

from explorer.data import open_data
from explorer.spec.data import DataSpec


class WrappedDigits:
    """The digits; `data.name: tests.sweep.wrapped_digits:` and the name of a subclass."""

    def __init__(self, spec):
        self.folder = Path(spec.root)
        self.digits = open_data(DataSpec(name="digits", image_size=8))

    def __getattr__(self, name):
        return getattr(self.digits, name)


class FaultyDigits(WrappedDigits):
    """They fail in the second of two processes, once for each file in the folder, which names the fault."""

    def train_batches(self, stream):
        for number, (images, labels) in enumerate(self.digits.train_batches(stream)):
            fault = self.next_fault() if number == 2 and distributed.get_rank() == 1 else None
            if fault == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if fault == "memory":
                torch.empty(10**15)
            yield (torch.full_like(images, torch.nan) if fault == "diverged" else images), labels

    def next_fault(self):
        for path in sorted(self.folder.iterdir()):
            path.unlink()
            return path.name.partition("-")[2]
        return None


class NotingDigits(WrappedDigits):
    """They note the node and the GPU of each process that trains on them."""

    def train_batches(self, stream):
        self.folder.mkdir(exist_ok=True)
        Path(self.folder, f"{ray.util.get_node_ip_address()} GPU {os.environ['CUDA_VISIBLE_DEVICES']}").touch()
        return self.digits.train_batches(stream)


class CountingDigits(WrappedDigits):
    """They count the steps of each process in a file. A step takes a while."""

    def train_batches(self, stream):
        with Path(self.folder, f"{ray.util.get_node_ip_address()} {os.getpid()}").open("a", buffering=1) as steps:
            for batch in self.digits.train_batches(stream):
                time.sleep(0.1)
                steps.write("step\n")
                yield batch
