"""States of every trainer that some processes saved are resumed by another number of them, with the same global batch."""

import os
import subprocess

import pytest
import torch

from explorer import InvalidInput, StagedTraining
from tests.production.changed_processes import TRAININGS, run
from tests.production.conftest import SETTINGS, tiny_model
from tests.production.several_processes import STAGES, own_loop
from tests.production.test_several_processes import TORCHRUN

pytestmark = [pytest.mark.nightly, pytest.mark.filterwarnings("default")]  # the trainers' own warnings


def by_two(out, verb):
    command = [*TORCHRUN, "-m", "tests.production.changed_processes", str(out), verb, *TRAININGS]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", [1, 2])
def test_states_resume_with_another_number_of_processes(tmp_path, first):
    expected = own_loop(tmp_path).state_dict()
    if first == 2:
        by_two(tmp_path, "save")
        run(tmp_path, True, [*TRAININGS])
    else:
        run(tmp_path, False, [*TRAININGS])
        by_two(tmp_path, "resume")
    for name in TRAININGS:
        trained = torch.load(tmp_path / name / "final.pt", weights_only=True)
        assert all(torch.allclose(trained[key], expected[key], atol=1e-5) for key in expected), name


def test_another_global_batch_is_refused():
    """Twice as many processes with as many images each."""
    states = []
    for images in (8, 16):
        model = tiny_model()
        settings = {**SETTINGS, "batch_size": images}
        training = StagedTraining(model, torch.optim.SGD(model.parameters(), lr=0.1), STAGES, **settings)
        states.append(training.state_dict())
    with pytest.raises(InvalidInput, match="belongs to another schedule, budget, model, batch size or full_steps"):
        training.load_state_dict(states[0])
