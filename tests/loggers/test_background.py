"""A slow or broken service holds up nobody, and what it has not taken is counted."""

import threading

import pytest

from explorer.loggers import BackgroundLogger, Ending, Point, RunDescription, background
from tests.conftest import wait_until

RUN = RunDescription(key="a", name="a")
OTHER = RunDescription(key="b", name="b")


class ServiceInMemory:
    """Keeps what it is given. It waits while `gate` is closed, and fails as often as `failures` says."""

    destination = "memory"

    def __init__(self, failures=0, last_steps=None):
        self.gate = threading.Event()
        self.gate.set()
        self.failures, self.last_steps = failures, last_steps or {}
        self.points, self.endings, self.started = [], {}, []

    def start(self, run):
        self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise ConnectionError("no route to host")
        self.started.append(run.key)
        return self.last_steps.get(run.key, -1)

    def log(self, run, points):
        self.points += [(run.key, point.step) for point in points]

    def end(self, run, ending):
        self.endings[run.key] = ending.status


def logger_of(service, said):
    logger = BackgroundLogger("memory", lambda: service, said.append)
    logger.start()
    return logger


def points(*steps):
    return [Point(step, {"cost": step / 10}) for step in steps]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(background, "FIRST_RETRY_SECONDS", 0.01)


def test_everything_is_logged_once_and_in_order():
    service, said = ServiceInMemory(), []
    logger = logger_of(service, said)
    logger.log(RUN, points(1, 2))
    logger.log(OTHER, points(5))
    wait_until(lambda: len(service.points) == 3)
    logger.end(RUN, points(1, 2, 3), Ending("finished", results=Point(3, {"accuracy": 0.5})))
    logger.end(OTHER, [], Ending("failed", "diverged"))
    assert logger.close(60) == []
    assert service.points == [("a", 1), ("a", 2), ("b", 5), ("a", 3), ("a", 3)]
    assert service.endings == {"a": "finished", "b": "failed"}
    assert said == []


def test_a_run_that_the_service_has_is_continued():
    service = ServiceInMemory(last_steps={"a": 2})
    logger = logger_of(service, [])
    logger.end(RUN, points(1, 2, 3), Ending("finished"))
    assert logger.close(60) == []
    assert service.points == [("a", 3)]


def test_a_service_that_hangs_holds_up_nobody_and_its_missing_results_are_counted(monkeypatch):
    monkeypatch.setattr(background, "MAX_POINTS", 4)
    service, said = ServiceInMemory(), []
    service.gate.clear()
    logger = logger_of(service, said)
    logger.log(RUN, points(1))
    wait_until(lambda: not logger._waiting)  # the thread hangs with the first point
    logger.log(RUN, points(2, 3, 4, 5, 6, 7))
    assert logger.dropped == 2  # four wait
    logger.end(RUN, points(1, 2, 3, 4, 5, 6, 7), Ending("finished"))
    logger.end(OTHER, [], Ending("finished"))
    assert logger.close(0.01) == [
        "memory: the results of 2 runs were not logged: it took longer than 0.01 s",
        "memory: too slow for 2 points; the end of a run logs all of its points",
    ]
    service.gate.set()

    late = ServiceInMemory()
    late.gate.clear()
    logger = logger_of(late, said)
    logger.log(RUN, points(1, 2, 3, 4, 5))
    late.gate.set()
    logger.end(RUN, points(1, 2, 3, 4, 5), Ending("finished"))
    assert logger.close(60) == ["memory: too slow for 1 points; the end of a run logs all of its points"]
    assert late.points == [("a", step) for step in (1, 2, 3, 4, 5)]  # a result brings back the points that were dropped


def test_a_service_that_fails_is_one_warning_and_is_tried_again():
    service, said = ServiceInMemory(failures=3), []
    logger = logger_of(service, said)
    logger.log(RUN, points(1))
    logger.log(OTHER, points(1))
    wait_until(lambda: len(service.points) == 2)
    logger.end(RUN, [], Ending("finished"))
    assert logger.close(60) == []
    assert said == ["memory: ConnectionError: no route to host; it is tried again, and training continues meanwhile"]
    assert service.endings == {"a": "finished"}


def test_a_service_that_always_fails_is_given_up_at_the_end():
    said = []
    logger = logger_of(ServiceInMemory(failures=10**9), said)
    logger.end(RUN, points(1), Ending("finished"))
    assert logger.close(60) == ["memory: the results of 1 runs were not logged: ConnectionError: no route to host"]
    assert len(said) == 1
