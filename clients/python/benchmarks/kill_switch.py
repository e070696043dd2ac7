"""How long a kill switch over a fleet takes, as the controller pulls it: `kill_worker` for one worker after the other.

    python3 clients/python/benchmarks/kill_switch.py http://localhost:3000 [workers]

The service must be nobody's: the fleet is killed. With `owns_fleet=True` the first call is a kill-all.
"""

from __future__ import annotations

import logging
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from sandbox_orchestrator_client import Manifest, ResourceSpec, SandboxOrchestrator  # noqa: E402

RUNS = 5


def main() -> None:
    url = sys.argv[1]
    workers = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    logging.disable()
    for title, owns_fleet in (("one by one", False), ("as one kill-all", True)):
        runs = sorted(milliseconds(url, workers, owns_fleet, run) for run in range(RUNS))
        print(f"{workers} workers {title}: median {runs[RUNS // 2]:.1f} ms, slowest {runs[-1]:.1f} ms of {RUNS} runs")


def milliseconds(url: str, workers: int, owns_fleet: bool, run: int) -> float:
    with SandboxOrchestrator(url, owns_fleet=owns_fleet) as orchestrator:
        ids = [f"bench-{owns_fleet}-{run}-{number}" for number in range(workers)]
        for worker_id in ids:
            orchestrator.launch_worker(manifest_of(worker_id))
        began = time.perf_counter()
        for worker_id in ids:
            orchestrator.kill_worker(worker_id, reason="kill_switch")
        took = 1000 * (time.perf_counter() - began)
        if orchestrator.unconfirmed or orchestrator.containers:
            raise SystemExit(f"not all are dead: {orchestrator.unconfirmed}")
        return took


def manifest_of(worker_id: str) -> Manifest:
    return Manifest(worker_id, None, 0, {}, datetime.now(timezone.utc), ResourceSpec(0.5, 256), "signed")


if __name__ == "__main__":
    main()
