import torch

from explorer.data import TrainStream, stream_indices


def test_an_epoch_visits_every_image_once_and_epochs_differ():
    first, second = stream_indices(0, 0, 100, 100), stream_indices(0, 100, 100, 100)
    assert sorted(first.tolist()) == list(range(100)) == sorted(second.tolist())
    assert first.tolist() != second.tolist()
    assert stream_indices(1, 0, 100, 100).tolist() != first.tolist()


def test_the_order_depends_on_the_position_alone():
    whole = stream_indices(3, 0, 250, 100)
    pieces = torch.cat([stream_indices(3, start, 50, 100) for start in range(0, 250, 50)])
    assert torch.equal(whole, pieces)
    assert stream_indices(3, 5, 0, 100).tolist() == []


def test_positions_of_a_process_in_the_stream():
    stream = TrainStream(seed=0, first_step=3, steps=2, batch_size=8, local_slice=slice(4, 8))
    assert list(stream.local_range) == [4, 5, 6, 7]
    # The second batch of the section is the run's batch 4, which starts at position 4 * 8 = 32.
    assert [stream.position(1, index) for index in stream.local_range] == [36, 37, 38, 39]
    assert list(TrainStream(seed=0, steps=1, batch_size=3).local_range) == [0, 1, 2]
