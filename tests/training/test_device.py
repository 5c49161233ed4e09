"""The device of a run: what was promised, or the reason why not."""

import pytest

from explorer import InvalidInput
from explorer.training.device import available_device, device_for, gpu_obstacle


def test_a_gpu_that_cannot_be_used_is_refused_with_torchs_reason(monkeypatch):
    assert device_for(0) == "cpu"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    if gpu_obstacle() is None:
        pytest.skip("CUDA has been initialized, and there is a GPU")
    # A driver that is missing, a build without CUDA, or no visible GPU: whatever torch says.
    with pytest.raises(
        InvalidInput, match=r"resources\.gpus: 0\.5: the GPU cannot be used: .*(NVIDIA|CUDA).*VISIBLE_DEVICES is ''"
    ):
        device_for(0.5)
    assert available_device(1) == "cpu"
