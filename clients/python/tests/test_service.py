"""Against the real service, as the replication package uses the in-process class."""

from __future__ import annotations

import unittest
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import List, Optional

import source_path  # noqa: F401
from calling import Calling, run_together, wait_until
from live_service import LiveService
from shapes import BareResourceSpec, BrokenLogger, NetworkPolicy, ResourceSpec, StructuredLogger, new_manifest

from sandbox_orchestrator_client import (
    Closed,
    KillSwitchEngaged,
    LaunchGivenUp,
    ManifestRefused,
    OrchestratorError,
    Refused,
    SandboxOrchestrator,
    WorkerExists,
    WorkerKilled,
)


class AgainstService(unittest.TestCase):
    """`settings` are the service's environment."""

    settings = {"SIMULATED_SEED": "1"}
    service: LiveService

    @classmethod
    def setUpClass(cls) -> None:
        cls.service = LiveService(**cls.settings)
        cls.addClassCleanup(cls.service.stop)

    def setUp(self) -> None:
        self.logger = StructuredLogger()
        self.orchestrator = self.client()

    def client(
        self, logger: Optional[StructuredLogger] = None, owns_fleet: bool = False, launch_timeout: float = 35.0
    ) -> SandboxOrchestrator:
        client = SandboxOrchestrator(
            self.service.url,
            logger=logger or self.logger,
            owns_fleet=owns_fleet,
            launch_timeout=launch_timeout,
        )
        self.addCleanup(client.close)
        return client


class TheSeed(AgainstService):
    def test_usage_of_the_in_process_class(self) -> None:
        orchestrator = self.orchestrator
        manifest = new_manifest(resources=ResourceSpec(0.5, 256, NetworkPolicy(allow_external=True)))
        orchestrator.launch_worker(manifest)
        self.assertEqual(len(orchestrator.containers), 1)
        record = orchestrator.containers[manifest.worker_id]
        self.assertIs(record.manifest, manifest)
        self.assertIs(record.resources, manifest.resources)
        self.assertEqual((record.status, record.reason), ("running", None))
        assert record.started_at is not None
        self.assertLess(abs(datetime.now(timezone.utc) - record.started_at), timedelta(minutes=1))

        orchestrator.enforce_resource_bounds(manifest.worker_id)
        orchestrator.kill_worker(manifest.worker_id, reason="test")
        self.assertEqual(len(orchestrator.containers), 0)
        self.assertNotIn(manifest.worker_id, orchestrator.containers)
        self.assertEqual(self.service.status_of(manifest.worker_id), "killed")
        worker_id = manifest.worker_id
        launched = {
            "worker_id": worker_id,
            "parent_id": None,
            "cpu_limit": 0.5,
            "memory_limit_mb": 256,
            "allow_external": True,
        }
        self.assertEqual(
            self.logger.events,
            [("container_launched", launched), ("container_killed", {"worker_id": worker_id, "reason": "test"})],
        )
        labels = {"worker_id": worker_id, "cpu": "0.5", "memory": "256"}
        self.assertEqual(self.logger.metrics, [("resource_enforced", 1, labels)])

    def test_the_events_are_the_services_own(self) -> None:
        after = self.service.newest_event()
        manifest = new_manifest(resources=ResourceSpec(1.0, 256))
        self.orchestrator.launch_worker(manifest)
        self.orchestrator.enforce_resource_bounds(manifest.worker_id)
        self.orchestrator.kill_worker(manifest.worker_id, "drift")
        for name, fields in self.logger.events:
            (event,) = self.service.events(name, after)
            self.assertEqual(fields, {field: event[field] for field in fields})
        (metric,) = self.service.events("resource_enforced", after)
        ((_name, value, labels),) = self.logger.metrics
        self.assertEqual({"value": value, **labels}, {field: metric[field] for field in ("value", *labels)})
        self.assertEqual(labels["cpu"], "1.0")

    def test_unknown_workers_are_nobodys_business(self) -> None:
        for worker_id in ("never-launched", "", "..", "a/b", "ü", "\ud800", "None", "*", "x" * 300):
            self.orchestrator.kill_worker(worker_id, "test")
            self.assertIs(self.orchestrator.enforce_resource_bounds(worker_id), False)
        self.assertEqual((self.logger.events, self.logger.metrics), ([], []))
        self.assertEqual(self.orchestrator.unconfirmed, {})

    def test_any_reason_kills(self) -> None:
        for reason in ("", "a b&c=d#e", "ü\n\ud800", "x" * 100_000, None):
            manifest = new_manifest()
            self.orchestrator.launch_worker(manifest)
            self.orchestrator.kill_worker(manifest.worker_id, reason)  # type: ignore[arg-type]
            self.assertEqual(self.service.status_of(manifest.worker_id), "killed")
        self.assertEqual(self.orchestrator.unconfirmed, {})

    def test_kill_all_kills_what_this_object_launched(self) -> None:
        other = self.client(StructuredLogger())
        foreign, mine = new_manifest(), [new_manifest() for _ in range(5)]
        other.launch_worker(foreign)
        for manifest in mine:
            self.orchestrator.launch_worker(manifest)
        self.orchestrator.kill_all("maintenance")
        self.assertEqual(len(self.orchestrator.containers), 0)
        self.assertEqual(len(self.logger.named("container_killed")), 5)
        self.assertEqual(self.service.status_of(foreign.worker_id), "running")
        other.kill_all("over")

    def test_a_network_policy_may_be_missing(self) -> None:
        manifest = new_manifest(resources=BareResourceSpec(0.25, 64))
        self.orchestrator.launch_worker(manifest)
        self.assertEqual(self.logger.named("container_launched")[0]["allow_external"], False)
        self.orchestrator.kill_worker(manifest.worker_id, "over")

    def test_a_logger_that_fails_changes_nothing(self) -> None:
        manifest = new_manifest()
        broken = SandboxOrchestrator(self.service.url, logger=BrokenLogger())
        self.addCleanup(broken.close)
        with self.assertLogs("sandbox_orchestrator_client", "ERROR"):
            broken.launch_worker(manifest)
            broken.enforce_resource_bounds(manifest.worker_id)
            broken.kill_worker(manifest.worker_id, "over")
        self.assertEqual(self.service.status_of(manifest.worker_id), "killed")

    def test_without_a_logger_events_are_log_lines(self) -> None:
        with SandboxOrchestrator(self.service.url) as orchestrator:
            manifest = new_manifest()
            with self.assertLogs("sandbox_orchestrator_client", "INFO") as lines:
                orchestrator.launch_worker(manifest)
                orchestrator.kill_worker(manifest.worker_id, "over")
        self.assertIn(f"container_killed worker_id={manifest.worker_id} reason=over", lines.output[1])


class Launching(AgainstService):
    def test_a_repeated_launch_is_one_worker(self) -> None:
        manifest = new_manifest()
        self.orchestrator.launch_worker(manifest)
        self.orchestrator.launch_worker(manifest)
        self.assertEqual(len(self.orchestrator.containers), 1)
        self.orchestrator.kill_worker(manifest.worker_id, "over")

    def test_refusals_are_typed_and_carry_the_problem(self) -> None:
        manifest = new_manifest(resources=ResourceSpec(-1.0, 0), depth=3)
        with self.assertRaises(ManifestRefused) as caught:
            self.orchestrator.launch_worker(manifest)
        error = caught.exception
        self.assertEqual((error.status, error.code), (400, "manifest_invalid"))
        self.assertTrue(error.detail)
        pointers = {mistake.pointer for mistake in error.errors}
        self.assertEqual(pointers, {"#/depth", "#/resources/cpu_limit", "#/resources/memory_limit_mb"})
        self.assertIn("#/resources/cpu_limit", str(error))
        self.assertNotIn(manifest.worker_id, self.orchestrator.containers)

        running = new_manifest()
        self.orchestrator.launch_worker(running)
        with self.assertRaises(WorkerExists):
            self.orchestrator.launch_worker(new_manifest(worker_id=running.worker_id))
        self.assertEqual(self.service.status_of(running.worker_id), "running")
        self.orchestrator.kill_worker(running.worker_id, "over")

    def test_after_close_kills_work_and_launches_do_not(self) -> None:
        manifest = new_manifest()
        self.orchestrator.launch_worker(manifest)
        self.orchestrator.close()
        with self.assertRaises(Closed):
            self.orchestrator.launch_worker(new_manifest())
        self.orchestrator.kill_worker(manifest.worker_id, "over")
        self.assertEqual(self.service.status_of(manifest.worker_id), "killed")

    def test_many_threads_share_one_object(self) -> None:
        manifests = [new_manifest() for _ in range(40)]
        run_together(partial(self.orchestrator.launch_worker, each) for each in manifests)
        self.assertEqual(set(self.orchestrator.containers), {each.worker_id for each in manifests})
        run_together(partial(self.orchestrator.kill_worker, each.worker_id, "over") for each in manifests)
        self.assertEqual(len(self.orchestrator.containers), 0)
        self.assertEqual(len(self.logger.named("container_killed")), 40)


class Cascades(AgainstService):
    def test_a_line_of_descent_dies_together(self) -> None:
        root = new_manifest()
        child, sibling = new_manifest(root), new_manifest(root)
        grandchild = new_manifest(child)
        for manifest in (root, child, sibling, grandchild):
            self.orchestrator.launch_worker(manifest)
        self.orchestrator.kill_worker(child.worker_id, "drift", cascade=True)
        self.assertEqual(set(self.orchestrator.containers), {root.worker_id, sibling.worker_id})
        killed = {fields["worker_id"] for fields in self.logger.named("container_killed")}
        self.assertEqual(killed, {child.worker_id, grandchild.worker_id})
        self.orchestrator.kill_worker(root.worker_id, "over", cascade=True)
        self.assertEqual(len(self.orchestrator.containers), 0)


class Refreshing(AgainstService):
    def test_what_another_killed_goes_and_is_told(self) -> None:
        mine, kept = new_manifest(), new_manifest()
        self.orchestrator.launch_worker(mine)
        self.orchestrator.launch_worker(kept)
        self.client(StructuredLogger()).kill_worker(mine.worker_id, "by hand")
        self.assertIn(mine.worker_id, self.orchestrator.containers)
        self.orchestrator.refresh()
        self.assertEqual(set(self.orchestrator.containers), {kept.worker_id})
        told = self.logger.named("container_killed")
        self.assertEqual(told, [{"worker_id": mine.worker_id, "reason": "by hand"}])
        self.orchestrator.kill_worker(kept.worker_id, "over")

    def test_who_owns_the_fleet_takes_in_what_lives(self) -> None:
        manifests = [new_manifest(state_snapshot={"x": 1.0}) for _ in range(3)]
        for manifest in manifests:
            self.orchestrator.launch_worker(manifest)
        restarted = self.client(StructuredLogger(), owns_fleet=True)
        restarted.refresh()
        self.assertEqual(set(restarted.containers), {each.worker_id for each in manifests})
        record = restarted.containers[manifests[0].worker_id]
        self.assertEqual(record.manifest.issued_at, manifests[0].issued_at)
        self.assertEqual(repr(record.resources.cpu_limit), "1.0")
        restarted.kill_all("over")
        self.assertEqual((len(restarted.containers), self.service.living()), (0, 0))


class KillSwitch(AgainstService):
    def test_one_call_kills_an_owned_fleet(self) -> None:
        fleet = self.client(owns_fleet=True)
        manifests = [new_manifest() for _ in range(10)]
        for manifest in manifests:
            fleet.launch_worker(manifest)
        after = self.service.newest_event()
        for manifest in manifests:
            fleet.kill_worker(manifest.worker_id, reason="kill_switch")
            self.assertEqual((len(fleet.containers), self.service.living()), (0, 0))
        self.assertEqual(len(self.service.events("kill_all", after)), 1)
        self.assertEqual(len(self.logger.named("container_killed")), 10)

        later = new_manifest()
        fleet.launch_worker(later)
        for manifest in (*manifests, later):
            fleet.kill_worker(manifest.worker_id, "kill_switch")
        self.assertEqual(self.service.status_of(later.worker_id), "killed")
        self.assertEqual(len(self.service.events("kill_all", after)), 2)

    def test_an_id_that_was_launched_again_is_killed_again(self) -> None:
        fleet = self.client(owns_fleet=True)
        manifest = new_manifest()
        for _ in range(2):
            fleet.launch_worker(manifest)
            fleet.kill_worker(manifest.worker_id, "kill_switch")
            self.assertEqual(self.service.status_of(manifest.worker_id), "killed")

    def test_workers_that_it_never_launched_die_too(self) -> None:
        manifest = new_manifest()
        self.client(StructuredLogger()).launch_worker(manifest)
        fleet = self.client(owns_fleet=True)
        for worker_id in ("gone", manifest.worker_id):
            fleet.kill_worker(worker_id, "kill_switch")
        self.assertEqual(self.service.status_of(manifest.worker_id), "killed")

    def test_others_keep_their_workers_unless_the_fleet_is_owned(self) -> None:
        foreign, mine = new_manifest(), new_manifest()
        self.client(StructuredLogger()).launch_worker(foreign)
        self.orchestrator.launch_worker(mine)
        self.orchestrator.kill_worker(mine.worker_id, "kill_switch")
        self.assertEqual(self.service.status_of(foreign.worker_id), "running")
        self.orchestrator.kill_worker(foreign.worker_id, "over")


class SlowLaunches(AgainstService):
    settings = {"SIMULATED_LAUNCH_MS": "400"}

    def test_a_launch_that_takes_too_long_is_killed(self) -> None:
        impatient, manifest = self.client(launch_timeout=0.1), new_manifest()
        with self.assertRaises(LaunchGivenUp):
            impatient.launch_worker(manifest)
        self.assertEqual(self.service.status_of(manifest.worker_id), "killed")
        self.assertEqual((impatient.unconfirmed, len(impatient.containers)), ({}, 0))

    def test_a_kill_overtakes_a_launch(self) -> None:
        manifest = new_manifest()
        launching = Calling(lambda: self.orchestrator.launch_worker(manifest))
        wait_until(lambda: self.service.count("pending") == 1)
        self.orchestrator.kill_worker(manifest.worker_id, "overtaken")
        self.assertIsInstance(launching.error(), WorkerKilled)
        self.assertEqual(self.service.status_of(manifest.worker_id), "killed")
        self.assertNotIn(manifest.worker_id, self.orchestrator.containers)

    def test_kill_all_reaches_what_is_being_launched(self) -> None:
        manifest = new_manifest()
        launching = Calling(lambda: self.orchestrator.launch_worker(manifest))
        wait_until(lambda: self.service.count("pending") == 1)
        self.orchestrator.kill_all("overtaken")
        self.assertIsInstance(launching.error(), WorkerKilled)
        self.assertEqual(self.service.living(), 0)


class SlowKills(AgainstService):
    settings = {"SIMULATED_KILL_MS": "400"}

    def test_a_launch_that_the_kill_switch_refused_is_not_sent_again(self) -> None:
        fleet = self.client(owns_fleet=True)
        victim = new_manifest()
        fleet.launch_worker(victim)
        killing = Calling(lambda: fleet.kill_worker(victim.worker_id, "kill_switch"))
        wait_until(lambda: self.service.count("killing") == 1)
        refused = new_manifest()
        with self.assertRaises(KillSwitchEngaged) as caught:
            self.client(StructuredLogger()).launch_worker(refused)
        self.assertEqual((caught.exception.status, caught.exception.code), (423, "kill_all_in_progress"))
        self.assertIsNone(killing.error())
        rejected = [event["worker_id"] for event in self.service.events("launch_rejected")]
        self.assertEqual(rejected, [refused.worker_id])
        self.assertEqual(self.service.living(), 0)


class UnreliableKills(AgainstService):
    settings = {"SIMULATED_KILL_FAILURE_RATE": "0.6", "SIMULATED_SEED": "3"}

    def test_a_kill_that_fails_is_pursued_until_it_is_confirmed(self) -> None:
        manifests = [new_manifest() for _ in range(10)]
        for manifest in manifests:
            self.orchestrator.launch_worker(manifest)
        for manifest in manifests:
            self.orchestrator.kill_worker(manifest.worker_id, "drift")
        self.assertNotEqual(self.logger.named("kill_unconfirmed"), [])
        for fields in self.logger.named("kill_unconfirmed"):
            self.assertIn("504 kill_unconfirmed", fields["detail"])
        self.assertTrue(self.orchestrator.wait_until_confirmed(20))
        self.assertEqual((len(self.orchestrator.containers), self.service.living()), (0, 0))
        killed = [fields["worker_id"] for fields in self.logger.named("container_killed")]
        self.assertEqual(sorted(killed), sorted(each.worker_id for each in manifests))

    def test_of_a_line_of_descent_only_the_living_are_pursued(self) -> None:
        root = new_manifest()
        family = [root, *(new_manifest(root) for _ in range(8))]
        for manifest in family:
            self.orchestrator.launch_worker(manifest)
        self.orchestrator.kill_worker(root.worker_id, "drift", cascade=True)
        self.assertTrue(self.orchestrator.wait_until_confirmed(20))
        self.assertEqual((len(self.orchestrator.containers), self.service.living()), (0, 0))
        self.assertEqual(len(self.logger.named("container_killed")), 9)


class ImpossibleKills(AgainstService):
    settings = {"SIMULATED_KILL_FAILURE_RATE": "1", "KILL_TIMEOUT_MS": "300"}

    def test_an_incomplete_kill_all_leaves_doubt_and_no_exception(self) -> None:
        told: List[str] = []
        fleet = SandboxOrchestrator(
            self.service.url,
            logger=self.logger,
            owns_fleet=True,
            on_unconfirmed=lambda kill: told.append(kill.worker_id),
        )
        self.addCleanup(fleet.close)
        manifests = [new_manifest() for _ in range(3)]
        for manifest in manifests:
            fleet.launch_worker(manifest)
        for manifest in manifests:
            fleet.kill_worker(manifest.worker_id, "kill_switch")
        expected = {"*", *(each.worker_id for each in manifests)}
        self.assertEqual(set(fleet.unconfirmed), expected)
        self.assertEqual(set(told), expected)
        self.assertEqual(len(told), len(expected))
        statuses = {(record.status, record.reason) for record in fleet.containers.values()}
        self.assertEqual(statuses, {("killing", "kill_switch")})
        with self.assertRaisesRegex(OrchestratorError, "the whole fleet .*not confirmed"):
            fleet.launch_worker(new_manifest())
        self.assertEqual(self.logger.named("container_killed"), [])


class MortalWorkers(AgainstService):
    settings = {"SIMULATED_EXIT_RATE": "0.999999"}

    def test_a_worker_that_ended_by_itself_is_not_told_as_killed(self) -> None:
        manifest = new_manifest()
        self.orchestrator.launch_worker(manifest)
        wait_until(lambda: self.service.status_of(manifest.worker_id) == "exited")
        self.orchestrator.kill_worker(manifest.worker_id, "late")
        self.assertEqual(self.logger.named("container_killed"), [])
        self.assertEqual(len(self.orchestrator.containers), 0)

    def test_refresh_tells_of_an_exit(self) -> None:
        manifest = new_manifest()
        self.orchestrator.launch_worker(manifest)
        wait_until(lambda: self.service.status_of(manifest.worker_id) == "exited")
        self.orchestrator.refresh()
        (told,) = self.logger.named("container_exited")
        (event,) = [each for each in self.service.events("container_exited") if each["worker_id"] == manifest.worker_id]
        self.assertEqual(told, {field: event[field] for field in told})
        self.assertIs(self.orchestrator.enforce_resource_bounds(manifest.worker_id), False)


class Drifting(AgainstService):
    settings = {"SIMULATED_DRIFT_RATE": "1"}

    def test_what_drifted_is_repaired(self) -> None:
        manifest = new_manifest()
        self.orchestrator.launch_worker(manifest)
        self.assertIs(self.orchestrator.enforce_resource_bounds(manifest.worker_id), True)
        self.assertEqual(len(self.logger.metrics), 1)
        self.orchestrator.kill_worker(manifest.worker_id, "over")


class FailingLaunches(AgainstService):
    settings = {"SIMULATED_LAUNCH_FAILURE_RATE": "1"}

    def test_a_launch_that_failed_leaves_nothing(self) -> None:
        manifest = new_manifest()
        with self.assertRaises(Refused) as caught:
            self.orchestrator.launch_worker(manifest)
        self.assertEqual((caught.exception.status, caught.exception.code), (502, "launch_failed"))
        self.assertEqual((len(self.orchestrator.containers), self.orchestrator.unconfirmed), (0, {}))


if __name__ == "__main__":
    unittest.main()
