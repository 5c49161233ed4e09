"""What all processes of data loaders do."""

from __future__ import annotations

import signal


def ignore_ctrl_c(_number: int) -> None:
    """Leave Ctrl-C, which a terminal sends to all processes, to the training process, which needs further batches to end.

    A `worker_init_fn` of `torch.utils.data.DataLoader`. Loader processes end when the training process does.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
