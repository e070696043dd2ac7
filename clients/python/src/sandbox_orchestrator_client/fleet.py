"""What this client knows of its workers, under one lock that is never held during a request or a callback."""

from __future__ import annotations

import threading
from typing import Dict, Iterable, Iterator, List, Mapping, Optional, Set

from .kill_order import KillOrder
from .record import ENDED, ContainerRecord


class Launch:
    """A launch that is under way."""

    def __init__(self, worker_id: str, parent_id: Optional[str]) -> None:
        self.worker_id = worker_id
        self.parent_id = parent_id
        #: Set once a kill of it was asked for: its worker must not live.
        self.overtaken = threading.Event()
        #: Of that kill.
        self.kill_reason = "launch given up"

    def overtake(self, reason: str) -> None:
        if not self.overtaken.is_set():
            self.kill_reason = reason
            self.overtaken.set()


class Refresh:
    """A reading of the service's list that is under way."""

    def __init__(self, before: Mapping[str, ContainerRecord]) -> None:
        self.before = dict(before)
        self.buried: Set[str] = set()


class Fleet:
    """Live workers, launches under way, and what a kill-all has proven."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: Dict[str, ContainerRecord] = {}
        self._launches: Set[Launch] = set()
        self._refreshes: Set[Refresh] = set()
        self._dead_by_kill_all: Set[str] = set()
        self._launched_since_kill_all = True

    # Launches

    def begin_launch(self, worker_id: str, parent_id: Optional[str]) -> Launch:
        launch = Launch(worker_id, parent_id)
        with self._lock:
            self._launches.add(launch)
            self._forget_kill_all(worker_id)
        return launch

    def launched(self, launch: Launch, record: ContainerRecord) -> bool:
        """Takes the worker in; False where a kill came meanwhile, which has to be carried out on it."""
        with self._lock:
            self._forget_kill_all(launch.worker_id)
            if launch.overtaken.is_set():
                return False
            if record.status not in ENDED:
                self._live[launch.worker_id] = record
            return True

    def end_launch(self, launch: Launch) -> None:
        with self._lock:
            self._launches.discard(launch)

    # Kills

    def cover(self, order: KillOrder) -> Dict[str, ContainerRecord]:
        """The live workers that the order is about, marked `killing`; launches of such are overtaken by it."""
        with self._lock:
            family = self._family(order)
            for launch in self._launches:
                if order.is_fleet or launch.worker_id in family or (order.cascade and launch.parent_id in family):
                    launch.overtake(order.reason)
            covered = {worker_id: self._live[worker_id] for worker_id in family if worker_id in self._live}
            for record in covered.values():
                self._condemn(record, order.reason)
            return covered

    def bury(self, worker_id: str, record: Optional[ContainerRecord] = None) -> bool:
        """Takes a dead worker out; False where it was not in. With `record` that launch of it and no later one."""
        with self._lock:
            for refresh in self._refreshes:
                refresh.buried.add(worker_id)
            known = self._live.get(worker_id)
            if known is None or (record is not None and known is not record):
                return False
            del self._live[worker_id]
            return True

    def killed_all(self, dead: Iterable[str]) -> None:
        """A kill-all was complete; `dead` are those that it covered or named."""
        with self._lock:
            under_way = {launch.worker_id for launch in self._launches}
            self._dead_by_kill_all = set(dead) - under_way - set(self._live)
            self._launched_since_kill_all = bool(under_way)

    def is_dead_by_kill_all(self, worker_id: str) -> bool:
        """Whether a complete kill-all covered this worker, and it was not launched since, nor is being launched."""
        with self._lock:
            return worker_id in self._dead_by_kill_all

    @property
    def launched_since_kill_all(self) -> bool:
        """Whether another kill-all would find anything."""
        with self._lock:
            return self._launched_since_kill_all

    # Reading the service's list

    def begin_refresh(self) -> Refresh:
        with self._lock:
            refresh = Refresh(self._live)
            self._refreshes.add(refresh)
            return refresh

    def take_in(self, refresh: Refresh, found: ContainerRecord, adopt: bool) -> None:
        """Brings a worker up to date, or takes it in where `adopt`; not one that was buried since it was read."""
        with self._lock:
            known = self._live.get(found.worker_id)
            if known is not None:
                if known.status != "killing":
                    known.status = found.status
                known.started_at = known.started_at or found.started_at
            elif adopt and found.worker_id not in refresh.buried:
                self._live[found.worker_id] = found
                self._forget_kill_all(found.worker_id)

    def end_refresh(self, refresh: Refresh) -> None:
        with self._lock:
            self._refreshes.discard(refresh)

    # Looking

    def get(self, worker_id: str) -> Optional[ContainerRecord]:
        with self._lock:
            return self._live.get(worker_id)

    def ids(self) -> List[str]:
        with self._lock:
            return list(self._live)

    def ids_and_launches(self) -> List[str]:
        """Live workers, and those that are being launched."""
        with self._lock:
            return list(dict.fromkeys([*self._live, *(launch.worker_id for launch in self._launches)]))

    def __len__(self) -> int:
        with self._lock:
            return len(self._live)

    # With the lock held

    def _family(self, order: KillOrder) -> List[str]:
        if order.is_fleet:
            return list(self._live)
        family = {order.worker_id: None}
        grown = order.cascade
        while grown:
            children = [
                worker_id
                for worker_id, record in self._live.items()
                if worker_id not in family and record.manifest.parent_id in family
            ]
            family.update(dict.fromkeys(children))
            grown = bool(children)
        return list(family)

    def _condemn(self, record: ContainerRecord, reason: str) -> None:
        if record.status != "killing":
            record.status = "killing"
            record.reason = reason

    def _forget_kill_all(self, worker_id: str) -> None:
        self._dead_by_kill_all.discard(worker_id)
        self._launched_since_kill_all = True


class Containers(Mapping[str, ContainerRecord]):
    """A live, read-only view of the live workers by worker id. A loop over it sees those of its start."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def __getitem__(self, worker_id: str) -> ContainerRecord:
        record = self._fleet.get(worker_id)
        if record is None:
            raise KeyError(worker_id)
        return record

    def __iter__(self) -> Iterator[str]:
        return iter(self._fleet.ids())

    def __len__(self) -> int:
        return len(self._fleet)

    def __repr__(self) -> str:
        return f"Containers({dict(self)!r})"
