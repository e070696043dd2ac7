"""Launches: sent again while their answer is lost, killed when they are given up."""

from __future__ import annotations

from typing import Optional

from .answer import Answer
from .connection import Request
from .deadline import Deadline, growing_pauses
from .errors import (
    KillPending,
    LaunchGivenUp,
    OrchestratorError,
    ServiceUnreachable,
    WorkerKilled,
    refusal_of,
)
from .fleet import Fleet, Launch
from .kill_order import FLEET, KillOrder
from .kills import Kills
from .manifest import ManifestShape, manifest_body
from .record import ContainerRecord, launched_record, wire_worker_id
from .transport import AnswerLost, NotSent, Transport

#: Pauses between sendings of a launch whose answer was lost.
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0
#: Refusals of 500 and more after which nothing of the worker lives, by the service's word. Others say less.
_LEAVES_NOTHING = frozenset(
    {"launch_failed", "launch_timeout", "capacity_exhausted", "runtime_unavailable", "shutting_down"}
)


class Launches:
    """Launches workers, each for `seconds` at most."""

    def __init__(self, transport: Transport, fleet: Fleet, kills: Kills, seconds: float) -> None:
        self._transport = transport
        self._fleet = fleet
        self._kills = kills
        self._seconds = seconds

    def launch(self, manifest: ManifestShape) -> None:
        """Returns when the worker runs. Raises as `SandboxOrchestrator.launch_worker` says."""
        request = Request("POST", "/workers", manifest_body(manifest))
        self._check_not_condemned(manifest.worker_id)
        launch = self._fleet.begin_launch(manifest.worker_id, manifest.parent_id)
        try:
            record = self._send_until_answered(manifest, launch, request)
            self._take_in(launch, record)
        except OrchestratorError:
            raise
        except BaseException:
            # Ctrl-C, say: nobody will know whether it runs.
            self._kills.leave_unconfirmed(_given_up(launch), "its launch was interrupted")
            raise
        finally:
            self._fleet.end_launch(launch)

    def _check_not_condemned(self, worker_id: str) -> None:
        """A kill that is still pursued would kill the new worker too."""
        unconfirmed = self._kills.pursuit.unconfirmed()
        told = unconfirmed.get(worker_id) or unconfirmed.get(FLEET)
        if told is not None:
            whom = "the whole fleet" if told.worker_id == FLEET else f"worker {told.worker_id}"
            raise KillPending(
                f"worker {worker_id} was not launched: the kill of {whom} ({told.reason}) is not confirmed: {told.why}"
            )

    def _send_until_answered(self, manifest: ManifestShape, launch: Launch, request: Request) -> ContainerRecord:
        deadline = Deadline(self._seconds)
        trouble: Optional[str] = None
        for pause in growing_pauses(_FIRST_PAUSE_S, _LONGEST_PAUSE_S):
            try:
                answer = self._transport.send(request, deadline)
            except NotSent as error:
                if trouble is None:
                    raise ServiceUnreachable(f"worker {launch.worker_id} was not launched: {error}") from error
            except AnswerLost as error:
                trouble = str(error)
            else:
                record = self._read(manifest, launch, answer)
                if record is not None:
                    return record
                trouble = f"status {answer.status} from something that is not the service"
            if launch.overtaken.is_set() or deadline.left() <= pause or launch.overtaken.wait(pause):
                break
        self._kills.kill(_given_up(launch))
        raise LaunchGivenUp(
            f"worker {launch.worker_id}: whether it runs could not be learned, so it is being killed: {trouble}"
        )

    def _read(self, manifest: ManifestShape, launch: Launch, answer: Answer) -> Optional[ContainerRecord]:
        """The record; None where the answer is none of the service's. Raises what the service refused with."""
        if answer.status in (200, 201):
            wire = answer.json_object() or {}
            return launched_record(manifest, wire) if wire_worker_id(wire) == launch.worker_id else None
        if answer.problem is None:
            return None
        refusal = refusal_of(answer)
        if refusal.status >= 500 and refusal.code not in _LEAVES_NOTHING:
            self._kills.kill(_given_up(launch))
        raise refusal

    def _take_in(self, launch: Launch, record: ContainerRecord) -> None:
        """A kill that came while the launch was on its way is carried out on what it brought."""
        if self._fleet.launched(launch, record):
            return
        self._kills.kill(_given_up(launch))
        detail = f"worker {launch.worker_id} was killed while it was launched ({launch.kill_reason})"
        raise WorkerKilled(409, {"code": "worker_killed", "detail": detail})


def _given_up(launch: Launch) -> KillOrder:
    return KillOrder(launch.worker_id, launch.kill_reason, after_lost_launch=True)
