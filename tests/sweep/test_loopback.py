"""Ray stays on loopback: the private function of Ray that this needs exists, and real sockets are where they should be."""

import subprocess
import sys

import pytest
from ray._private import services

from explorer.sweep.loopback import FUNCTION, on_loopback


def test_rays_private_function_exists():
    assert callable(getattr(services, FUNCTION, None)), (
        f"ray._private.services.{FUNCTION} is gone: find what rewrites 127.0.0.1 in this version of Ray and change "
        "explorer/sweep/loopback.py, or Ray listens on every network interface"
    )


def test_the_function_is_replaced_for_a_while_only():
    original = getattr(services, FUNCTION)

    def fails():
        assert getattr(services, FUNCTION)("127.0.0.1") == "127.0.0.1"
        raise ConnectionError

    with pytest.raises(ConnectionError), on_loopback():
        fails()
    assert getattr(services, FUNCTION) is original


def test_a_ray_without_the_function_is_warned_about(monkeypatch):
    monkeypatch.delattr(services, FUNCTION)
    with pytest.warns(UserWarning, match="may listen on every network interface"), on_loopback():
        pass


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(2000)
def test_ray_listens_on_loopback_only():
    code = (
        "import re, subprocess, ray\n"
        "from explorer.sweep.cluster import start_ray\n"
        "before = subprocess.run(['ss', '-ltnH'], capture_output=True, text=True).stdout\n"
        "start_ray(None)\n"
        "ray.get(ray.remote(lambda: 1).remote())\n"
        "after = subprocess.run(['ss', '-ltnH'], capture_output=True, text=True).stdout\n"
        "new = {line.split()[3] for line in after.splitlines()} - {line.split()[3] for line in before.splitlines()}\n"
        "print('new', len(new), [a for a in new if not re.match(r'127\\.|\\[::1\\]|\\[::ffff:127\\.', a)])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stderr
    count, beyond = done.stdout.strip().splitlines()[-1].removeprefix("new ").split(" ", 1)
    assert int(count) >= 3
    assert beyond == "[]"
