#!/usr/bin/env python3
"""A controller at work: a replication tree of forty workers, a branch of it cut off, and the kill switch.

    npm start                                                # in one terminal
    python3 examples/controller.py http://localhost:3000     # in another

It kills everything that the service runs. Of its output:

    A root replicates, to depth 3
      9601c151
         5547b079
            648edf77  → edbcec77 0daa5d7e 89269b6a
            d18af457  → 8c8d33fb 255b70b6 29f3a415
            …
      40 workers run, by depth 1 + 3 + 9 + 27

    Some are held to their limits
      resource_enforced: 9601c151 holds 1.0 cores, 256 MiB
      …

    A branch drifts, and is cut off with all that descends from it
      5547b079 and its line of descent: 8.0 ms
      27 workers are left

    The kill switch: kill_worker for each, as the controller does it
      27 workers: 3.6 ms
      the service says: {'pending': 0, 'running': 0, 'killing': 0}, this client: 0 containers
      nothing lives
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections import Counter
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional
from urllib.request import urlopen

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "clients" / "python" / "src"))

from sandbox_orchestrator_client import (  # noqa: E402
    Manifest,
    OrchestratorError,
    Refused,
    ResourceSpec,
    SandboxOrchestrator,
    UnconfirmedKill,
)

#: One root, three children, nine grandchildren, and three each of those: forty.
CHILDREN = 3
MAX_DEPTH = 3


class Console:
    """Prints what the orchestrator tells, as the package's StructuredLogger would keep it."""

    def log(self, event: str, **fields: Any) -> None:
        if event not in ("container_launched", "container_killed", "kill_unconfirmed"):
            say(f"{event}: {fields}")

    def emit_metric(self, name: str, value: float, **labels: Any) -> None:
        say(f"{name}: {labels['worker_id']} holds {labels['cpu']} cores, {labels['memory']} MiB")


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("Usage: controller.py http://localhost:3000")
    url = sys.argv[1]
    with SandboxOrchestrator(url, logger=Console(), owns_fleet=True, on_unconfirmed=tell_unconfirmed) as orchestrator:
        try:
            run(orchestrator, url)
        except OrchestratorError as error:
            raise SystemExit(f"{type(error).__name__}: {error}") from error


def run(orchestrator: SandboxOrchestrator, url: str) -> None:
    title("A root replicates, to depth 3")
    tree = grow(orchestrator)
    print_tree(tree)
    say(f"{len(orchestrator.containers)} workers run, {generations(tree)}")

    title("Some are held to their limits")
    for manifest in tree[::13]:
        orchestrator.enforce_resource_bounds(manifest.worker_id)

    title("What may not run is refused")
    show_refusal(orchestrator)

    title("A branch drifts, and is cut off with all that descends from it")
    branch = next(each for each in tree if each.depth == 1)
    with timed(f"{branch.worker_id} and its line of descent"):
        orchestrator.kill_worker(branch.worker_id, reason="drift", cascade=True)
    say(f"{len(orchestrator.containers)} workers are left")

    title("The kill switch: kill_worker for each, as the controller does it")
    living = list(orchestrator.containers)
    with timed(f"{len(living)} workers"):
        for worker_id in living:
            orchestrator.kill_worker(worker_id, reason="kill_switch")
    verify(orchestrator, url)


def grow(orchestrator: SandboxOrchestrator) -> List[Manifest]:
    """Launches the tree, parents before their children."""
    tree = [issue(None)]
    for manifest in tree:
        orchestrator.launch_worker(manifest)
        if manifest.depth < MAX_DEPTH:
            tree.extend(issue(manifest) for _ in range(CHILDREN))
    return tree


def issue(parent: Optional[Manifest]) -> Manifest:
    """A manifest as the controller issues it: a child gets half of its parent's cores."""
    return Manifest(
        worker_id=secrets.token_hex(4),
        parent_id=parent.worker_id if parent else None,
        depth=parent.depth + 1 if parent else 0,
        state_snapshot={"goal": "count to ten"},
        issued_at=datetime.now(timezone.utc),
        resources=ResourceSpec(cpu_limit=parent.resources.cpu_limit / 2 if parent else 1.0, memory_limit_mb=256),
        signature="signed",
    )


def show_refusal(orchestrator: SandboxOrchestrator) -> None:
    root = issue(None)
    greedy = Manifest(root.worker_id, None, 7, {}, root.issued_at, ResourceSpec(-1.0, 256), "signed")
    try:
        orchestrator.launch_worker(greedy)
    except Refused as refusal:
        say(f"{refusal.status} {refusal.code}")
        for mistake in refusal.errors:
            say(f"  {mistake.pointer}: {mistake.detail}")


def verify(orchestrator: SandboxOrchestrator, url: str) -> None:
    """Asks the service itself, not this program's memory."""
    if orchestrator.unconfirmed:
        say(f"{len(orchestrator.unconfirmed)} kills are not confirmed: waiting for the background")
        orchestrator.wait_until_confirmed(60)
    workers: Dict[str, int] = get(f"{url}/health")["workers"]
    say(f"the service says: {workers}, this client: {len(orchestrator.containers)} containers")
    if any(workers.values()) or orchestrator.unconfirmed:
        raise SystemExit("SOMETHING LIVES")
    say("nothing lives")


def get(url: str) -> Any:
    with urlopen(url, timeout=10) as answer:
        return json.load(answer)


def print_tree(tree: List[Manifest]) -> None:
    for line in lines_of(tree, tree[0]):
        say(line)


def lines_of(tree: List[Manifest], manifest: Manifest) -> Iterator[str]:
    """A line a worker down to depth 2; the leaves stand behind their parent."""
    children = [each for each in tree if each.parent_id == manifest.worker_id]
    leaves = [each.worker_id for each in children if each.depth == MAX_DEPTH]
    yield f"{'   ' * manifest.depth}{manifest.worker_id}{'  → ' + ' '.join(leaves) if leaves else ''}"
    for child in children:
        if child.depth < MAX_DEPTH:
            yield from lines_of(tree, child)


def generations(tree: List[Manifest]) -> str:
    counts = Counter(each.depth for each in tree)
    return "by depth " + " + ".join(str(counts[depth]) for depth in sorted(counts))


@contextmanager
def timed(what: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    say(f"{what}: {1000 * (time.perf_counter() - began):.1f} ms")


def tell_unconfirmed(kill: UnconfirmedKill) -> None:
    say(f"NOT CONFIRMED DEAD: {kill.worker_id}: {kill.why}")


def title(text: str) -> None:
    print(f"\n{text}")


def say(text: str) -> None:
    print(f"  {text}")


if __name__ == "__main__":
    main()
