"""What is to be killed, how that is asked for, and what an answer to it proves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, List, Mapping, Sequence
from urllib.parse import quote, urlencode

from .answer import Answer, strings_in
from .connection import Request

#: Stands for every worker of the fleet, where a worker id stands otherwise. No worker id is spelt so.
FLEET = "*"
#: The service cuts a longer reason, but an address that is too long it has to refuse.
_LONGEST_REASON = 256


@dataclass(frozen=True)
class KillOrder:
    """One worker, one and all its descendants, or the whole fleet."""

    worker_id: str
    reason: str
    cascade: bool = False
    #: A launch that was given up may still be on its way, so that one "not known" proves little.
    after_lost_launch: bool = False

    @property
    def is_fleet(self) -> bool:
        return self.worker_id == FLEET

    def request(self) -> Request:
        reason = self.reason[:_LONGEST_REASON]
        if self.is_fleet:
            return Request("POST", "/kill-all", json.dumps({"reason": _sendable(reason)}).encode("ascii"))
        query = {"reason": reason, **({"cascade": "true"} if self.cascade else {})}
        target = f"/workers/{quote(self.worker_id, safe='', errors='surrogatepass')}"
        return Request("DELETE", f"{target}?{urlencode(query, errors='replace', quote_via=quote)}")


@dataclass(frozen=True)
class Verdict:
    """What is proven.

    `complete`: everything that the order covers is dead. `killed`: named as alive before and dead now. `already_ended`:
    named as dead before. `failed`: named as not confirmed dead. `absent`: the service knows no such worker. `refused`:
    the service will not do it, whoever waits. `why`: where not complete, for people.
    """

    complete: bool
    killed: List[str]
    already_ended: List[str]
    failed: Sequence[str] = ()
    absent: bool = False
    refused: bool = False
    why: str = ""


def no_verdict(why: str) -> Verdict:
    """Nothing is proven."""
    return Verdict(complete=False, killed=[], already_ended=[], why=why)


def verdict_of(order: KillOrder, answer: Answer) -> Verdict:
    """Believes nothing but a whole report, or a Problem that says the worker is not known."""
    if answer.status == 200:
        return _success(order, answer)
    problem = answer.problem
    if problem is None:
        return no_verdict(f"status {answer.status} from something that is not the service: {answer.text(100)}")
    code = problem["code"]
    if answer.status == 404 and code == "worker_not_found" and not order.is_fleet:
        return Verdict(complete=True, killed=[], already_ended=[], absent=True)
    given = problem.get("report")
    report = given if isinstance(given, dict) else {}
    return Verdict(
        complete=False,
        killed=strings_in(report.get("killed")),
        already_ended=strings_in(report.get("already_ended")),
        failed=_failed_in(report),
        refused=400 <= answer.status < 500,
        why=f"{answer.status} {code}: {problem.get('detail', '')}",
    )


def _success(order: KillOrder, answer: Answer) -> Verdict:
    report = answer.json_object() or {}
    killed = strings_in(report.get("killed"))
    already_ended = strings_in(report.get("already_ended"))
    if report.get("complete") is not True or report.get("failed") != []:
        return no_verdict(f"status 200 without a complete report: {answer.text(100)}")
    names_it = order.is_fleet or order.cascade or order.worker_id in killed + already_ended
    if not names_it:
        return no_verdict(f"status 200 with a report that does not name {order.worker_id}")
    return Verdict(complete=True, killed=killed, already_ended=already_ended)


def _failed_in(report: Mapping[str, Any]) -> List[str]:
    given = report.get("failed")
    entries = given if isinstance(given, list) else []
    return strings_in([entry.get("worker_id") for entry in entries if isinstance(entry, dict)])


def _sendable(text: str) -> str:
    """Without halves of surrogate pairs, which UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
