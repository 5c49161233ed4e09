"""Which failed trials are tried again in the same run, and which hosts get no more work. No ray.

A host that lacks something (data, device, package) fails every trial within seconds, and would be given one after another. Such
failures of a place are tried again elsewhere, and a host with several of them in a row is excluded.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping

from explorer.errors import InvalidInput
from explorer.ledger import Record

MAX_LOST_WORKERS = 2
"""Number of times a trial is tried again after its worker was lost. It finds its trained segments in the stage store."""
MAX_PLACE_FAILURES = 2
"""A host gets no more work after this number of failures of a place in a row."""
MAX_SECONDS_WITHOUT_HOST = 300.0
"""Time that a cluster has to bring a host for trials that avoid all hosts that are left. Ray itself would wait forever."""
CHECK_SECONDS = 5.0
"""Time between two looks at the hosts that are left."""


class Attempts:
    """The attempts at the trials of one run of a sweep.

    Args:
        hosts: names of the hosts that have room for a trial, by the id of their node; asked whenever they are needed.
        say: called with a line for the user.
        clock: gives the time in seconds.
        affords: whether a trial whose attempt has just failed can be tried again within the spending limit.

    Attributes:
        excluded: ids of the hosts that get no more work.
        stopped: why no trial can run any more; `None` while a host is left.
    """

    def __init__(
        self,
        hosts: Callable[[], Mapping[str, str]],
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        affords: Callable[[Record], bool] = lambda _: True,
    ) -> None:
        self._hosts, self._say, self._clock, self._affords = hosts, say, clock, affords
        self._avoiding: dict[str, tuple[str, ...]] = {}
        self._checked = self._hosts_left_at = clock()
        self._lost: Counter[str] = Counter()
        self._failed_at: defaultdict[str, set[str]] = defaultdict(set)
        self._place_failures: Counter[str] = Counter()
        self.excluded: set[str] = set()
        self.stopped: InvalidInput | None = None

    def avoided(self, trial_id: str) -> tuple[str, ...]:
        """Ids of the hosts where a trial that starts is not to run.

        These are the hosts that are excluded and, as long as there are others, those where the trial has failed.
        """
        avoided = self.excluded | self._failed_at[trial_id]
        if avoided and not self._hosts().keys() - avoided:
            avoided = self.excluded
        if avoided:
            self._avoiding[trial_id] = tuple(sorted(avoided))
        return self._avoiding.get(trial_id, ())

    def check(self) -> InvalidInput | None:
        """Why the sweep has to stop: no host is left for one of the trials; `None` while there is one or one may come."""
        now = self._clock()
        if self.stopped or now - self._checked < CHECK_SECONDS:
            return self.stopped
        self._checked, hosts = now, set(self._hosts()) if self._avoiding else set()
        stranded = [trial_id for trial_id, avoided in self._avoiding.items() if not hosts - set(avoided)]
        if not stranded:
            self._hosts_left_at = now
        elif now - self._hosts_left_at > MAX_SECONDS_WITHOUT_HOST:
            reason = "can run on no host that is left, so the sweep stopped; the same command resumes it"
            self.stopped = InvalidInput("hosts", ", ".join(stranded), reason)
        return self.stopped

    def ended(self, record: Record, host: str | None, *, around: bool = False) -> bool:
        """Note how an attempt ended, and return whether the trial is to be tried again.

        Args:
            record: of the attempt.
            host: id of the node where it ran; `None` if unknown.
            around: whether the trial's process ended without a record of its own.
        """
        self._avoiding.pop(record.trial.id, None)
        if record.failure == "preempted":
            return self._again_after_preemption(record, host)
        if record.failure != "place":
            if host and record.describes_training:
                self._place_failures[host] = 0
            return around and self._again_after_loss(record)
        if host is None:
            return self._again_after_loss(record)
        return self._again_elsewhere(record, host)

    def _again_after_loss(self, record: Record) -> bool:
        trial_id = record.trial.id
        self._lost[trial_id] += 1
        again = self._lost[trial_id] <= MAX_LOST_WORKERS and self.stopped is None and self._affords(record)
        if again:
            self._say(f"{trial_id}: {record.reason}; it is tried again")
        return again

    def _again_after_preemption(self, record: Record, host: str | None) -> bool:
        """Nothing was lost, so it may happen any number of times."""
        if host is not None:
            self._failed_at[record.trial.id].add(host)
        if self.stopped is None:
            self._say(f"{record.trial.id}: {record.reason}; it resumes elsewhere")
        return self.stopped is None

    def _again_elsewhere(self, record: Record, host: str) -> bool:
        hosts, trial_id = self._hosts(), record.trial.id
        name = hosts.get(host, record.worker)
        self._failed_at[trial_id].add(host)
        self._place_failures[host] += 1
        newly_excluded = self._place_failures[host] >= MAX_PLACE_FAILURES and host not in self.excluded
        if newly_excluded:
            self.excluded.add(host)
        again = bool(hosts.keys() - self.excluded - self._failed_at[trial_id]) and self._affords(record)
        if again:
            self._say(f"{trial_id} failed on {name} and is tried again elsewhere: {record.reason}")
        if newly_excluded:
            self._say(f"{name} gets no more work: {MAX_PLACE_FAILURES} trials in a row failed there")
        if not hosts.keys() - self.excluded:
            self.stopped = self.stopped or InvalidInput(
                "hosts", ", ".join(sorted(hosts.values())), f"no trial can run there, so the sweep stopped: {record.reason}"
            )
        return again
