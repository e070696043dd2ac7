"""The real service, in its simulation, on a free port."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import unittest
from typing import Any, Dict, List
from urllib.request import urlopen

from source_path import ROOT


class LiveService:
    """Runs from the checkout until `stop`."""

    def __init__(self, **settings: str) -> None:
        node = shutil.which("node")
        if node is None:
            raise unittest.SkipTest("node is not installed")
        environment = {**os.environ, "PORT": "0", "LOG_LEVEL": "info", **settings}
        self._process = subprocess.Popen(
            [node, "--import=tsx", "src/server.ts"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.url = self._read_address()

    def get(self, path: str) -> Any:
        with urlopen(self.url + path, timeout=10) as answer:
            return json.load(answer)

    def status_of(self, worker_id: str) -> str:
        return str(self.get(f"/workers/{worker_id}")["status"])

    def count(self, status: str) -> int:
        return int(self.get("/health")["workers"][status])

    def living(self) -> int:
        return sum(self.get("/health")["workers"].values())

    def events(self, name: str, after: int = 0) -> List[Dict[str, Any]]:
        page = self.get(f"/events?event={name}&limit=1000&after={after}")
        return [event for event in page["items"] if event["event"] == name]

    def newest_event(self) -> int:
        return int(self.get("/events?limit=1")["newest_seq"])

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read_address(self) -> str:
        assert self._process.stdout is not None
        lines: List[str] = []
        for line in self._process.stdout:
            lines.append(line)
            found = re.search(r"listening on (http://[^,\s]+)", line)
            if found is not None:
                return found.group(1)
        raise RuntimeError(f"the service did not start: {''.join(lines)}")
