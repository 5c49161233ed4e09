"""Why a trial failed: what kind of failure it was, and one line that says what happened.

Errors inside a trial are Python exceptions. Errors around it (a process that dies, a node that is lost, a module that is
missing on a node) reach the driver as the text of Ray's error, because some of these errors cannot be unpickled there.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import torch

from explorer.errors import InvalidInput
from explorer.ledger import Failure
from explorer.training.errors import DivergedError, PreemptedError

CPU_OUT_OF_MEMORY = "DefaultCPUAllocator: can't allocate memory"
"""Message of torch's plain RuntimeError when memory runs out on the CPU."""
PLACE_FIELDS = ("data.name", "data.root", "data.", "objective.", "storage", "resources.gpus", "resources.accelerator")
"""Settings that the driver has checked on its own machine: refused on a worker, they are wrong there."""
PLACE_ERRORS = (ImportError, ConnectionError, TimeoutError, FileNotFoundError, PermissionError)
"""Errors that say what a host lacks."""
DEVICE_ERRORS = ("CUDA error", "CUDA driver", "NVIDIA driver", "CUDNN_STATUS", "CUBLAS_STATUS", "CUDA-capable device")
"""Parts of the messages of torch's plain RuntimeError for a GPU that cannot be used."""
DEVICE_ASSERTION = "device-side assert"
"""Part of the message for an assertion of a kernel: the input is wrong, not the GPU."""


class FailureReason(NamedTuple):
    """Why a trial failed."""

    failure: Failure
    reason: str
    """One line."""
    address: str | None = None
    """IP address of the node, where an error around a trial names it."""


def reason_of(error: BaseException) -> FailureReason:
    """Why a trial failed, from the error that its training raised."""
    failure = _failure_of(error)
    name = {"diverged": "diverged", "memory": "out of memory", "preempted": "preempted"}.get(failure, type(error).__name__)
    text = str(error) if isinstance(error, InvalidInput) and failure != "memory" else f"{name}: {error}"
    return FailureReason(failure, _one_line(text))


def _failure_of(error: BaseException) -> Failure:
    text = str(error)
    if isinstance(error, DivergedError):
        return "diverged"
    if isinstance(error, PreemptedError):
        return "preempted"
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or CPU_OUT_OF_MEMORY in text:
        return "memory"
    if isinstance(error, InvalidInput):
        return "place" if error.field.startswith(PLACE_FIELDS) else "error"
    # A damaged image raises an OSError too, without an error number; data loader processes pass on the text alone.
    refused_by_system = isinstance(error, OSError) and (error.errno is not None or "[Errno " in text)
    if refused_by_system or isinstance(error, PLACE_ERRORS):
        return "place"
    if any(part in text for part in DEVICE_ERRORS) and DEVICE_ASSERTION not in text:
        return "place"
    return "error"


def reason_around(error: str) -> FailureReason:
    """Why a trial left no record, from the text of Ray's error.

    Args:
        error: text of the error, a traceback or several lines of Ray's own; empty if there is none.
    """
    text = re.sub(r"\x1b\[\d*m", "", error).strip()
    address = _first(r"\bip(?::|=) ?([\d.]+)|\bIP: ([\d.]+)", text)
    on = f" on {address}" if address else ""
    if "running low on memory" in text or "Memory on the node" in text:
        usage = re.search(r"was ([\d.]+ ?GB)(?: used)? / ([\d.]+ ?GB)", text)
        used = f" ({usage[1]} of {usage[2]} in use)" if usage else ""
        return FailureReason("memory", f"out of memory: Ray killed the worker because memory{on} ran low{used}", address)
    if "node has died" in text or "node was terminated" in text or "node is dead" in text:
        cause = _first(r"node was terminated[^:]*: (.+)|terminated expectedly: (.+)", text)
        at, why = f" at {address}" if address else "", f": {_one_line(cause)}" if cause else ""
        return FailureReason("lost", f"the node{at} was lost{why}", address)
    if "is unavailable" in text:
        cause = _first(r"unavailable: (.+?)\.? The task may", text) or "no reason is known"
        return FailureReason("lost", f"the worker process{on} or its node is out of reach: {_one_line(cause)}", address)
    if "worker process has died" in text or "died unexpectedly" in text or not text:
        detail = _first(r"Worker exit detail: (.+?)\.(?: |$)", text) or "no reason is known"
        silent = "connection error code 2" in detail
        how = " without a Python error, as after SIGKILL or a segmentation fault" if silent else f": {_one_line(detail)}"
        return FailureReason("lost", f"the worker process{on} ended{how}", address)
    last = _last_error(text)
    starting = "creation task" in text or "failed to import" in text or "runtime environment" in text.lower()
    if starting:
        return FailureReason("place", f"the worker process{on} could not start: {last}", address)
    lacks_something = last.split(":")[0].split(".")[-1] in {"ModuleNotFoundError", *(kind.__name__ for kind in PLACE_ERRORS)}
    return FailureReason("place" if lacks_something else "error", last, address)


def _last_error(text: str) -> str:
    """The last line of a traceback that names an error (`ValueError: ...`), or the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt|Exit)\b", line)]
    return _one_line((named or lines)[-1])


def _first(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text)
    return next((group for group in found.groups() if group), None) if found else None


def _one_line(text: str) -> str:
    return " ".join(text.split())
