"""Drives a service through the client that openapi-python-client made of its document."""

import sys
from datetime import datetime
from typing import TypeVar

from sandbox_client import Client
from sandbox_client.api.events import list_events
from sandbox_client.api.kill_all import kill_all
from sandbox_client.api.workers import (
    enforce_resource_bounds,
    get_worker,
    kill_worker,
    launch_worker,
    list_workers,
)
from sandbox_client.models import (
    ContainerRecord,
    EnforcementReport,
    EventPage,
    KillAllRequest,
    KillReport,
    ListWorkersStatus,
    Manifest,
    ManifestStateSnapshot,
    NetworkPolicy,
    Problem,
    ResourceSpec,
    WorkerPage,
)
from sandbox_client.types import UNSET

ISSUED_AT = "2026-01-06T09:30:00.120000+00:00"

Wanted = TypeVar("Wanted")


def expect(kind: type[Wanted], answer: object) -> Wanted:
    assert isinstance(answer, kind), answer
    return answer


def manifest(worker_id: str) -> Manifest:
    return Manifest(
        worker_id=worker_id,
        parent_id=None,
        depth=0,
        state_snapshot=ManifestStateSnapshot.from_dict({"goal": "count to ten"}),
        issued_at=ISSUED_AT,
        resources=ResourceSpec(
            cpu_limit=0.5, memory_limit_mb=256, network_policy=NetworkPolicy(allow_external=True)
        ),
        signature="signed",
    )


def done(step: str) -> None:
    print(f"ok {step}", flush=True)


def drive(client: Client) -> None:
    for worker_id in ("w1", "w2", "w3", "w4", "w5"):
        launched = launch_worker.sync_detailed(client=client, body=manifest(worker_id))
        assert launched.status_code == 201
        assert expect(ContainerRecord, launched.parsed).status == "running"
    done("launch")

    retried = launch_worker.sync_detailed(client=client, body=manifest("w1"), replace=False)
    assert retried.status_code == 200
    assert expect(ContainerRecord, retried.parsed).manifest == manifest("w1")
    done("retry")

    pages = []
    cursor: str | None = None
    while True:
        page = expect(
            WorkerPage,
            list_workers.sync(
                client=client,
                status=ListWorkersStatus.RUNNING,
                limit=2,
                cursor=UNSET if cursor is None else cursor,
            ),
        )
        pages.append([record.manifest.worker_id for record in page.items])
        cursor = page.next_cursor
        if cursor is None:
            break
    assert pages == [["w1", "w2"], ["w3", "w4"], ["w5"]], pages
    done("list")

    record = expect(ContainerRecord, get_worker.sync("w1", client=client))
    assert record.manifest == manifest("w1")
    assert record.resources.network_policy.allow_controller
    assert isinstance(record.started_at, datetime)
    assert record.cause is None
    done("get")

    enforced = expect(EnforcementReport, enforce_resource_bounds.sync("w1", client=client))
    assert enforced.enforced
    assert enforced.observed.cpu_limit == 0.5
    done("enforce")

    killed = expect(KillReport, kill_worker.sync("w1", client=client, reason="drift & doubt"))
    assert killed.killed == ["w1"]
    record = expect(ContainerRecord, get_worker.sync("w1", client=client))
    assert (record.status, record.cause, record.reason) == ("killed", "kill", "drift & doubt")
    done("kill")

    unknown = kill_worker.sync_detailed("unknown", client=client)
    assert unknown.status_code == 404
    assert expect(Problem, unknown.parsed).code == "worker_not_found"
    done("kill unknown")

    everyone = expect(KillReport, kill_all.sync(client=client, body=KillAllRequest(reason="red button")))
    assert everyone.complete
    assert sorted(everyone.killed) == ["w2", "w3", "w4", "w5"]
    assert expect(KillReport, kill_all.sync(client=client)).killed == []
    done("kill-all")

    wrong = manifest("w6")
    wrong.resources = ResourceSpec(cpu_limit=-1, memory_limit_mb=0)
    refused = expect(Problem, launch_worker.sync(client=client, body=wrong))
    assert (refused.status, refused.code) == (400, "manifest_invalid")
    pointers = sorted(mistake.pointer for mistake in refused.errors or [])
    assert pointers == ["#/resources/cpu_limit", "#/resources/memory_limit_mb"], pointers
    done("refusal")

    names: list[str] = []
    after, has_more = 0, True
    while has_more:
        events = expect(EventPage, list_events.sync(client=client, after=after, limit=3))
        assert len(events.items) <= 3
        names += [event.event for event in events.items]
        after, has_more = events.next_after, events.has_more
    assert names.count("container_launched") == 5
    assert names.count("kill_all") == 2
    done("events")


def drive_newer(client: Client) -> None:
    record = expect(ContainerRecord, get_worker.sync("w1", client=client))
    assert (record.status, record.cause) == ("frozen", "quota_exceeded")
    assert record["node"] == "rack-7"
    event = expect(EventPage, list_events.sync(client=client)).items[0]
    assert (event.event, event.worker_id) == ("container_frozen", "w1")
    assert event["zone"] == {"name": "north"}
    strange = expect(Problem, kill_worker.sync("w1", client=client))
    assert (strange.status, strange.code) == (451, "legal_hold")
    done("newer service")


url, newer_url = sys.argv[1:]
drive(Client(base_url=url))
drive_newer(Client(base_url=newer_url))
