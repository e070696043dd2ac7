"""What the stand-in raises. A kill raises none of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Type

from .answer import Answer


class OrchestratorError(Exception):
    """Every error of this package that a caller can act on."""


class InvalidManifest(OrchestratorError, ValueError):
    """A manifest that cannot be sent as its signature saw it. Nothing was sent."""


class ServiceUnreachable(OrchestratorError):
    """No usable answer came. Of a launch: nothing of the request was sent, so nothing runs because of it."""


class LaunchGivenUp(OrchestratorError):
    """Whether the worker runs could not be learned in time, or its launch was cut short: it is being killed."""


class KillPending(OrchestratorError):
    """A kill that covers this launch is not confirmed yet (see `unconfirmed`); nothing was sent."""


class Closed(OrchestratorError):
    """The stand-in was closed: it launches nothing any more."""


@dataclass(frozen=True)
class Mistake:
    """One mistake in a request body: what is wrong, and where as a JSON pointer (`#/resources/cpu_limit`)."""

    detail: str
    pointer: str


class Refused(OrchestratorError):
    """The service refused. Decide by `code`; expect codes that this version does not know.

    `status`: the HTTP status. `code`, `detail`: the Problem's (of an answer that is no Problem, `http_<status>` and
    the start of its text). `errors`: every mistake in the body. `retry_after_s`: seconds, where waiting can cure it.
    `problem`: all members.
    """

    def __init__(self, status: int, problem: Mapping[str, Any], retry_after_s: Optional[int] = None) -> None:
        self.status = status
        self.problem: Dict[str, Any] = dict(problem)
        self.code = str(problem.get("code", f"http_{status}"))
        self.detail = str(problem.get("detail", ""))
        self.errors: List[Mistake] = _mistakes_of(problem)
        self.retry_after_s = retry_after_s
        super().__init__(": ".join([f"{status} {self.code}", self.detail] + [_shown(each) for each in self.errors]))


class KillSwitchEngaged(Refused):
    """423: a kill switch refused the launch. Never sent again by this package, and not to be by its caller."""


class WorkerKilled(Refused):
    """409 `worker_killed`: a kill overtook the launch; the worker does not run."""


class WorkerExists(Refused):
    """409 `worker_exists`: the id runs with another manifest."""


class ManifestRefused(Refused):
    """400 `manifest_invalid` or `limit_not_enforceable`: `errors` and `detail` say what would be right."""


_BY_CODE: Mapping[str, Type[Refused]] = {
    "worker_killed": WorkerKilled,
    "worker_exists": WorkerExists,
    "manifest_invalid": ManifestRefused,
    "limit_not_enforceable": ManifestRefused,
}


def refusal_of(answer: Answer) -> Refused:
    """The error that an answer other than success stands for."""
    problem = answer.problem or {"detail": answer.text(200)}
    if answer.status == 423:
        kind: Type[Refused] = KillSwitchEngaged
    else:
        kind = _BY_CODE.get(str(problem.get("code")), Refused)
    return kind(answer.status, problem, answer.retry_after_s)


def _mistakes_of(problem: Mapping[str, Any]) -> List[Mistake]:
    given = problem.get("errors")
    entries = given if isinstance(given, list) else []
    return [
        Mistake(detail=str(entry.get("detail", "")), pointer=str(entry.get("pointer", "")))
        for entry in entries
        if isinstance(entry, dict)
    ]


def _shown(mistake: Mistake) -> str:
    return f"{mistake.pointer} {json.dumps(mistake.detail)}"
