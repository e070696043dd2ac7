"""A stand-in for the replication package's in-process SandboxOrchestrator, over the sandbox-orchestrator service."""

from .errors import (
    Closed,
    InvalidManifest,
    KillPending,
    KillSwitchEngaged,
    LaunchGivenUp,
    ManifestRefused,
    Mistake,
    OrchestratorError,
    Refused,
    ServiceUnreachable,
    WorkerExists,
    WorkerKilled,
)
from .event_log import LoggerShape
from .kills import KILL_SWITCH
from .manifest import Manifest, ManifestShape, NetworkPolicy, ResourceSpec, ResourcesShape, manifest_body
from .orchestrator import SandboxOrchestrator
from .pursuit import UnconfirmedKill
from .record import ContainerRecord

__all__ = [
    "KILL_SWITCH",
    "Closed",
    "ContainerRecord",
    "InvalidManifest",
    "KillPending",
    "KillSwitchEngaged",
    "LaunchGivenUp",
    "LoggerShape",
    "Manifest",
    "ManifestRefused",
    "ManifestShape",
    "Mistake",
    "NetworkPolicy",
    "OrchestratorError",
    "Refused",
    "ResourceSpec",
    "ResourcesShape",
    "SandboxOrchestrator",
    "ServiceUnreachable",
    "UnconfirmedKill",
    "WorkerExists",
    "WorkerKilled",
    "manifest_body",
]
