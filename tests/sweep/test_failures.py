"""What kind of failure an error is, and the line that says so. Ray's texts are as Ray 2.60 wrote them."""

import errno

import pytest
import torch
from PIL import UnidentifiedImageError

from explorer import InvalidInput
from explorer.sweep.failures import CPU_OUT_OF_MEMORY, reason_around, reason_of
from explorer.training.errors import DivergedError

ACTOR_DIED = """The actor died unexpectedly before finishing this task.
\tclass_name: ImplicitFunc
\tactor_id: 7f857af8928d8844bacb013101000000
\tpid: 28759
\tnamespace: 7ff0c199-cc35-4f2b-967c-017759e40977
\tip: 127.0.0.3
"""
KILLED = f"""{ACTOR_DIED}The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: \
Worker unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the process was killed by \
the OOM killer due to high memory usage, (2) ray stop --force was called, or (3) the worker crashed unexpectedly due to SIGSEGV.
"""
NODE_LOST = f"""{ACTOR_DIED}The actor died because its node has died. Node Id: 89b780b179ddf72493b31b60094a13196703eb2a2e1ae01f6a
\tthe actor's node was terminated unexpectedly: health check failed due to missing too many heartbeats
The actor never ran - it was cancelled before it started running.
"""
OUT_OF_REACH = """The actor 3ada6f5feb283198b912328d01000000 is unavailable: The actor is temporarily unavailable: RpcError: RPC \
error: Socket closed rpc_code: 14. The task may or may not have been executed on the actor.
"""
LOW_MEMORY = """1 worker(s) were killed due to the node running low on memory.
Memory on the node (IP: 10.0.62.231, ID: e5d953ef03e55e26f13973ea1b5a0fd0ecc729cd820bc89e4aa5) was 27.71GB used / 28.80GB limit \
(0.962273)
Ray killed 1 worker(s) based on the killing policy
"""
CANNOT_START = """The actor died because of an error raised in its creation task, \x1b[36mray::ImplicitFunc.__init__()\x1b[39m \
(pid=28719, ip=127.0.0.3, actor_id=7f857af8928d8844bacb013101000000)
  File "/usr/lib/python3.11/concurrent/futures/_base.py", line 456, in result
    raise self._exception
RuntimeError: The actor with name ImplicitFunc failed to import on the worker. This may be because needed library dependencies:

Traceback (most recent call last):
  File "site-packages/ray/_private/function_manager.py", line 675, in _load_actor_class_from_gcs
    actor_class = pickle.loads(pickled_class)
ModuleNotFoundError: No module named 'my_data'
"""
RAISED = """\x1b[36mray::ImplicitFunc.train()\x1b[39m (pid=28719, ip=127.0.0.2, actor_id=7f857af8928d8844bacb013101000000)
  File "site-packages/ray/tune/trainable/trainable.py", line 330, in train
    raise skipped from exception_cause(skipped)
ValueError: my own
"""


@pytest.mark.parametrize(
    ("error", "failure", "reason"),
    [
        (DivergedError("the loss is not finite by step 7"), "diverged", "diverged: the loss is not finite by step 7"),
        (MemoryError("1 GB"), "memory", "out of memory: 1 GB"),
        (torch.OutOfMemoryError("CUDA out of memory.\nTried"), "memory", "out of memory: CUDA out of memory. Tried"),
        (InvalidInput("model.options", 1, f"timm refuses: {CPU_OUT_OF_MEMORY}"), "memory", None),
        (InvalidInput("data.root", "/x", "there is no such folder"), "place", "data.root: '/x': there is no such folder"),
        (InvalidInput("resources.gpus", 1.0, "no driver"), "place", "resources.gpus: 1.0: no driver"),
        (InvalidInput("budgets: 25%", "25%", "too small"), "error", "budgets: 25%: '25%': too small"),
        (ModuleNotFoundError("No module named 'x'"), "place", "ModuleNotFoundError: No module named 'x'"),
        (FileNotFoundError(errno.ENOENT, "gone", "/a"), "place", "FileNotFoundError: [Errno 2] gone: '/a'"),
        (OSError(errno.ESTALE, "Stale file handle"), "place", "OSError: [Errno 116] Stale file handle"),
        (OSError("Caught OSError in DataLoader worker process 0.\nOSError: [Errno 5] I/O"), "place", None),
        (OSError("image file is truncated"), "error", "OSError: image file is truncated"),
        (UnidentifiedImageError("cannot identify"), "error", "UnidentifiedImageError: cannot identify"),
        (RuntimeError("CUDA error: no kernel image is available for execution on the device"), "place", None),
        (RuntimeError("CUDA error: device-side assert triggered"), "error", None),
        (ValueError("two\nlines"), "error", "ValueError: two lines"),
    ],
)
def test_errors_of_a_trial(error, failure, reason):
    found = reason_of(error)
    assert found.failure == failure
    assert reason is None or found.reason == reason
    assert "\n" not in found.reason
    assert found.reason.startswith("out of memory: ") == (failure == "memory")


@pytest.mark.parametrize(
    ("text", "failure", "reason", "address"),
    [
        (
            KILLED,
            "lost",
            "the worker process on 127.0.0.3 ended without a Python error, as after SIGKILL or a segmentation fault",
            "127.0.0.3",
        ),
        (
            NODE_LOST,
            "lost",
            "the node at 127.0.0.3 was lost: health check failed due to missing too many heartbeats",
            "127.0.0.3",
        ),
        (
            OUT_OF_REACH,
            "lost",
            "the worker process or its node is out of reach: The actor is temporarily unavailable: RpcError: RPC error: Socket "
            "closed rpc_code: 14",
            None,
        ),
        (
            LOW_MEMORY,
            "memory",
            "out of memory: Ray killed the worker because memory on 10.0.62.231 ran low (27.71GB of 28.80GB in use)",
            "10.0.62.231",
        ),
        (
            CANNOT_START,
            "place",
            "the worker process on 127.0.0.3 could not start: ModuleNotFoundError: No module named 'my_data'",
            "127.0.0.3",
        ),
        (
            "Failed to set up runtime environment.\nFailed to install pip packages",
            "place",
            "the worker process could not start: Failed to install pip packages",
            None,
        ),
        (RAISED, "error", "ValueError: my own", "127.0.0.2"),
        (RAISED.replace("ValueError: my own", "ImportError: libGL.so.1"), "place", "ImportError: libGL.so.1", "127.0.0.2"),
        ("", "lost", "the worker process ended: no reason is known", None),
    ],
)
def test_errors_around_a_trial_are_told_as_ray_tells_them(text, failure, reason, address):
    assert reason_around(text) == (failure, reason, address)
