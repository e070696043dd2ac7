"""Against servers that misbehave: a kill is bounded and never raises, a launch is never lost."""

from __future__ import annotations

import socket
import subprocess
import sys
import textwrap
import threading
import time
import unittest
from typing import Callable, List
from unittest import mock

import source_path
from calling import Calling, run_together, wait_until
from live_service import LiveService
from misbehaving_server import (
    Behaviour,
    MisbehavingServer,
    answer,
    closed_port_url,
    kill_report,
    read_request,
)
from shapes import BrokenLogger, StructuredLogger, new_manifest

from sandbox_orchestrator_client import (
    KillPending,
    LaunchGivenUp,
    Refused,
    SandboxOrchestrator,
    ServiceUnreachable,
    UnconfirmedKill,
    WorkerKilled,
)

KILL_TIMEOUT = 0.3
#: What a loaded machine may add.
SLACK = 1.0

PROBLEM_404 = {"code": "worker_not_found", "status": 404, "detail": "not known"}


class Misbehaving(unittest.TestCase):
    def setUp(self) -> None:
        self.logger = StructuredLogger()

    def server(self, behave: Behaviour) -> MisbehavingServer:
        server = MisbehavingServer(behave)
        self.addCleanup(server.stop)
        return server

    def client(self, url: str, owns_fleet: bool = False, launch_timeout: float = 0.5) -> SandboxOrchestrator:
        client = SandboxOrchestrator(
            url,
            logger=self.logger,
            owns_fleet=owns_fleet,
            kill_timeout=KILL_TIMEOUT,
            launch_timeout=launch_timeout,
            request_timeout=KILL_TIMEOUT,
        )
        self.addCleanup(client.close)
        return client

    def assert_bounded(self, seconds: float, call: Callable[[], object]) -> None:
        began = time.monotonic()
        call()
        self.assertLess(time.monotonic() - began, seconds + SLACK)


def never_answer(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def trickle(connection: socket.socket) -> None:
    """A byte now and then: each step is quick, the whole never ends."""
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"x")
        time.sleep(0.02)


def trickle_body(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(0.02)


def saying(*answers: bytes) -> Behaviour:
    """Each connection gets these, one a request, and is closed then."""

    def behave(connection: socket.socket) -> None:
        for each in answers:
            if not read_request(connection):
                return
            connection.sendall(each)

    return behave


NOT_A_DEATH = {
    "closes at once": saying(b""),
    "closes in its headers": saying(b"HTTP/1.1 200 OK\r\ncontent-le"),
    "closes in its body": saying(b'HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{"complete": true'),
    "closes in a chunk": saying(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\n{"),
    "speaks no HTTP": saying(b"\x16\x03\x01\x02\x00garbage\x00\r\n\r\n"),
    "sends an empty page": saying(answer(200, b"")),
    "sends a page of its own": saying(answer(200, b"<h1>Welcome</h1>", "text/html")),
    "sends another's report": saying(answer(200, kill_report("another"))),
    "sends an incomplete report": saying(answer(200, {**kill_report("w"), "complete": False})),
    "sends a list": saying(answer(200, ["w"])),
    "sends deep JSON": saying(answer(200, b"[" * 200_000)),
    "sends no UTF-8": saying(answer(200, b"\xff\xfe{")),
    "redirects": saying(answer(302, b"")),
    "is a proxy without a route": saying(answer(404, b"not here", "text/html")),
    "is a service without this route": saying(answer(404, {"code": "route_not_found"})),
    "is a proxy without a service": saying(answer(502, b"bad gateway", "text/html")),
    "says unconfirmed": saying(answer(504, {"code": "kill_unconfirmed", "detail": "it lives"})),
    "refuses the token": saying(answer(401, {"code": "unauthorized", "detail": "who are you"})),
    "sends a report that is none": saying(answer(504, {"code": "kill_unconfirmed", "report": {"killed": 7}})),
    "sends headers for ever": saying(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 5000),
    "never answers": never_answer,
    "answers a byte at a time": trickle,
    "answers its body a byte at a time": trickle_body,
}


class KillsNeverRaise(Misbehaving):
    def test_whatever_answers(self) -> None:
        for name, behave in NOT_A_DEATH.items():
            with self.subTest(name):
                self.logger = StructuredLogger()
                client = self.client(self.server(behave).url)
                self.assert_bounded(KILL_TIMEOUT, lambda: client.kill_worker("w", "drift"))
                self.assertEqual(client.unconfirmed["w"].reason, "drift")
                self.assertTrue(client.unconfirmed["w"].why)
                (told,) = self.logger.named("kill_unconfirmed")
                self.assertEqual((told["worker_id"], told["reason"]), ("w", "drift"))
                self.assertEqual(self.logger.named("container_killed"), [])
                client.close()

    def test_a_kill_switch_that_nobody_answers(self) -> None:
        for name in ("closes at once", "never answers", "is a proxy without a service", "refuses the token"):
            with self.subTest(name):
                client = self.client(self.server(NOT_A_DEATH[name]).url, owns_fleet=True)
                self.assert_bounded(KILL_TIMEOUT, lambda: client.kill_worker("w", "kill_switch"))
                self.assertIn("w", client.unconfirmed)
                self.assert_bounded(KILL_TIMEOUT, lambda: client.kill_all("kill_switch"))
                client.close()

    def test_nobody_listens(self) -> None:
        client = self.client(closed_port_url())
        self.assert_bounded(0, lambda: client.kill_worker("w", "drift"))
        self.assertIn("no connection", client.unconfirmed["w"].why)

    def test_no_such_host(self) -> None:
        client = self.client("http://no-such-host.invalid:1")
        client.kill_worker("w", "drift")
        self.assertIn("w", client.unconfirmed)

    def test_no_one_accepts(self) -> None:
        # A full backlog: the connection is never made, nor refused.
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            address = listener.getsockname()
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(address)
            client = self.client(f"http://127.0.0.1:{address[1]}")
            self.assert_bounded(KILL_TIMEOUT, lambda: client.kill_worker("w", "drift"))
            self.assertIn("w", client.unconfirmed)
            for filler in fillers:
                filler.close()

    def test_tls_that_never_shakes_hands(self) -> None:
        server = self.server(never_answer)
        client = self.client(server.url.replace("http:", "https:"))
        self.assert_bounded(KILL_TIMEOUT, lambda: client.kill_worker("w", "drift"))
        self.assertIn("w", client.unconfirmed)

    def test_a_logger_and_a_callback_that_fail(self) -> None:
        def fail(_kill: UnconfirmedKill) -> None:
            raise RuntimeError("the pager is off")

        url = closed_port_url()
        client = SandboxOrchestrator(url, logger=BrokenLogger(), on_unconfirmed=fail, kill_timeout=KILL_TIMEOUT)
        self.addCleanup(client.close)
        with self.assertLogs("sandbox_orchestrator_client", "ERROR"):
            client.kill_worker("w", "drift")
        self.assertIn("w", client.unconfirmed)

    def test_a_bug_in_this_client(self) -> None:
        client = self.client(closed_port_url())
        with mock.patch("sandbox_orchestrator_client.kills.verdict_of", side_effect=ZeroDivisionError("oops")):
            with mock.patch("sandbox_orchestrator_client.transport.Transport.send"):
                client.kill_worker("w", "drift")
        self.assertEqual(client.unconfirmed["w"].why, "ZeroDivisionError: oops")

    def test_no_thread_can_be_started(self) -> None:
        client = self.client(closed_port_url())
        with mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("at interpreter shutdown")):
            client.kill_worker("w", "drift")
        self.assertIn("w", client.unconfirmed)

    def test_while_the_interpreter_ends(self) -> None:
        killed: List[bytes] = []

        def behave(connection: socket.socket) -> None:
            killed.append(read_request(connection).split(b"?")[0])

        script = f"""
            import atexit, sys, threading, time
            sys.path.insert(0, {str(source_path.ROOT / "clients/python/src")!r})
            from sandbox_orchestrator_client import SandboxOrchestrator
            client = SandboxOrchestrator({self.server(behave).url!r}, kill_timeout=0.3)
            class Late:
                def __del__(self):
                    client.kill_worker("in-teardown", "r")
            late = Late()
            atexit.register(client.kill_worker, "at-exit", "r")
            threading.Thread(target=lambda: (time.sleep(0.05), client.kill_worker("in-thread", "r"))).start()
        """
        ended = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=30, check=False
        )
        self.assertEqual((ended.returncode, ended.stdout), (0, ""))
        self.assertNotIn("Traceback", ended.stderr)
        expected = {f"DELETE /workers/{each}".encode() for each in ("in-thread", "at-exit", "in-teardown")}
        wait_until(lambda: set(killed) == expected)

    def test_ctrl_c_passes_and_the_kill_goes_on(self) -> None:
        client = self.client(closed_port_url())
        with mock.patch("sandbox_orchestrator_client.transport.Transport.send", side_effect=KeyboardInterrupt):
            with self.assertRaises(KeyboardInterrupt):
                client.kill_worker("w", "drift")
        self.assertIn("w", client.unconfirmed)

    def test_a_kill_switch_gets_to_its_last_worker(self) -> None:
        server = self.server(never_answer)
        with mock.patch("sandbox_orchestrator_client.orchestrator._HURRIED_KILL_S", 0.01):
            client = self.client(server.url)

        def kill_switch() -> None:
            for number in range(50):
                client.kill_worker(f"w{number}", "kill_switch")

        self.assert_bounded(KILL_TIMEOUT + 50 * 0.01, kill_switch)
        self.assertEqual(len(client.unconfirmed), 50)


class Pursuing(Misbehaving):
    def test_until_it_is_confirmed(self) -> None:
        answers = iter([b"", answer(502, b""), answer(200, kill_report("w"))])

        def behave(connection: socket.socket) -> None:
            if read_request(connection):
                connection.sendall(next(answers))

        client = self.client(self.server(behave).url)
        client.kill_worker("w", "drift")
        self.assertIn("w", client.unconfirmed)
        self.assertTrue(client.wait_until_confirmed(10))
        self.assertEqual(self.logger.named("container_killed"), [{"worker_id": "w", "reason": "drift"}])
        self.assertEqual(len(self.logger.named("kill_unconfirmed")), 1)

    def test_a_service_that_comes_back_without_the_worker_confirms_it(self) -> None:
        answers = iter([b"", answer(404, PROBLEM_404)])

        def behave(connection: socket.socket) -> None:
            if read_request(connection):
                connection.sendall(next(answers))

        client = self.client(self.server(behave).url)
        client.kill_worker("w", "drift")
        self.assertTrue(client.wait_until_confirmed(10))

    def test_doubt_that_comes_late_is_no_news(self) -> None:
        """The background's answer comes after another kill has confirmed the death."""
        asked: List[bytes] = []
        confirmed = threading.Event()

        def behave(connection: socket.socket) -> None:
            while True:
                request = read_request(connection)
                if not request:
                    return
                asked.append(request)
                if len(asked) == 3:
                    connection.sendall(answer(200, kill_report("w")))
                    continue
                if len(asked) == 2:
                    confirmed.wait(5)
                connection.sendall(answer(504, {"code": "kill_unconfirmed", "detail": "it lives"}))

        client = self.client(self.server(behave).url)
        client.kill_worker("w", "drift")
        wait_until(lambda: len(asked) == 2)
        client.kill_worker("w", "drift")
        self.assertEqual(client.unconfirmed, {})
        confirmed.set()
        wait_until(lambda: not any(thread.name == "kill-pursuit" for thread in threading.enumerate()))
        self.assertEqual(client.unconfirmed, {})
        self.assertEqual(len(self.logger.named("kill_unconfirmed")), 1)

    def test_a_line_of_descent_is_pursued_though_its_head_is_dead(self) -> None:
        requests: List[bytes] = []

        def behave(connection: socket.socket) -> None:
            requests.append(read_request(connection).split(b" ")[1])
            if len(requests) > 1:
                connection.sendall(answer(200, kill_report("w")))

        client = self.client(self.server(behave).url)
        client.kill_worker("w", "drift", cascade=True)
        client.kill_worker("w", "drift")
        self.assertIn("w", client.unconfirmed)
        self.assertTrue(client.wait_until_confirmed(10))
        self.assertEqual([b"cascade" in request for request in requests], [True, False, True])

    def test_one_that_hangs_does_not_hold_up_the_others(self) -> None:
        first: List[bytes] = []

        def behave(connection: socket.socket) -> None:
            while True:
                request = read_request(connection)
                if not request:
                    return
                worker_id = request.split(b"/workers/")[1].split(b"?")[0]
                if worker_id == b"stuck" or worker_id not in first:
                    first.append(worker_id)
                    never_answer(connection)
                    return
                connection.sendall(answer(200, kill_report(worker_id.decode())))

        client = self.client(self.server(behave).url)
        for worker_id in ("stuck", "a", "b"):
            client.kill_worker(worker_id, "drift")
        self.assert_bounded(2, lambda: wait_until(lambda: set(client.unconfirmed) == {"stuck"}))

    def test_a_worker_under_pursuit_is_not_launched(self) -> None:
        server = self.server(saying(b""))
        client = self.client(server.url)
        manifest = new_manifest()
        client.kill_worker(manifest.worker_id, "drift")
        with self.assertRaises(KillPending):
            client.launch_worker(manifest)

    def test_close_ends_it(self) -> None:
        client = self.client(closed_port_url())
        client.kill_worker("w", "drift")
        self.assert_bounded(0.1, lambda: client.close(wait=0.1))
        self.assertIn("w", client.unconfirmed)
        wait_until(lambda: not any(thread.name == "kill-pursuit" for thread in threading.enumerate()))


class Connections(Misbehaving):
    def test_are_reused(self) -> None:
        def behave(connection: socket.socket) -> None:
            while read_request(connection):
                connection.sendall(answer(404, PROBLEM_404))

        server = self.server(behave)
        client = self.client(server.url)
        for number in range(20):
            client.kill_worker(f"w{number}", "drift")
        self.assertEqual((server.connections, client.unconfirmed), (1, {}))
        run_together([lambda: client.kill_worker("w", "drift")] * 20)
        self.assertEqual(client.unconfirmed, {})

    def test_a_stale_one_is_replaced_within_the_same_kill(self) -> None:
        server = self.server(saying(answer(200, kill_report("a")), b""))
        client = self.client(server.url)
        client.kill_worker("a", "drift")
        client.kill_worker("a", "drift")
        self.assertEqual((server.connections, client.unconfirmed), (2, {}))

    def test_one_that_was_closed_is_not_even_tried(self) -> None:
        closed = threading.Event()

        def behave(connection: socket.socket) -> None:
            read_request(connection)
            connection.sendall(answer(200, kill_report("a")))
            connection.shutdown(socket.SHUT_RDWR)
            closed.set()

        server = self.server(behave)
        client = self.client(server.url)
        for _ in range(3):
            closed.clear()
            client.kill_worker("a", "drift")
            self.assertTrue(closed.wait(5))
        self.assertEqual(client.unconfirmed, {})

    def test_an_answer_that_nobody_asked_for_proves_nothing(self) -> None:
        first_is_over, stray_is_sent = threading.Event(), threading.Event()

        def behave(connection: socket.socket) -> None:
            read_request(connection)
            connection.sendall(answer(200, kill_report("a")))
            first_is_over.wait(5)
            connection.sendall(answer(404, PROBLEM_404))
            stray_is_sent.set()
            never_answer(connection)

        client = self.client(self.server(behave).url)
        client.kill_worker("a", "drift")
        first_is_over.set()
        self.assertTrue(stray_is_sent.wait(5))
        client.kill_worker("b", "drift")
        self.assertEqual(set(client.unconfirmed), {"b"})

    def test_may_be_closed_with_the_answer(self) -> None:
        long_report = {**kill_report("a"), "new_member": "x" * 100_000}
        closing = answer(200, long_report).replace(b"\r\n", b"\r\nconnection: close\r\n", 1)
        client = self.client(self.server(saying(closing)).url)
        for _ in range(2):
            client.kill_worker("a", "drift")
        self.assertEqual(client.unconfirmed, {})

    def test_the_token_is_sent_and_never_a_line_break(self) -> None:
        heads: List[bytes] = []

        def behave(connection: socket.socket) -> None:
            heads.append(read_request(connection))
            connection.sendall(answer(404, PROBLEM_404))

        with SandboxOrchestrator(self.server(behave).url + "/prefix/", token="s3cret") as client:
            client.kill_worker("w", "a b")
        self.assertIn(b"DELETE /prefix/workers/w?reason=a%20b HTTP/1.1\r\n", heads[0])
        self.assertIn(b"authorization: Bearer s3cret\r\n", heads[0])
        for token in ("", "a\r\nx: y", "a b", "ü"):
            with self.assertRaises(ValueError):
                SandboxOrchestrator("http://localhost", token=token)
        for url in ("localhost:3000", "ftp://x", "http://", "http://u:p@x", "http://x?y=1"):
            with self.assertRaises(ValueError):
                SandboxOrchestrator(url)


class Launches(Misbehaving):
    service: LiveService

    @classmethod
    def setUpClass(cls) -> None:
        cls.service = LiveService()
        cls.addClassCleanup(cls.service.stop)

    def losing(self, lost: int, sent: List[bytes], instead: bytes = b"") -> MisbehavingServer:
        """Hands launches to the real service, and loses the first answers."""

        def behave(connection: socket.socket) -> None:
            while True:
                request = read_request(connection)
                if not request:
                    return
                reply = self.relay(request)
                if request.startswith(b"POST /workers "):
                    sent.append(request)
                    if len(sent) <= lost:
                        connection.sendall(instead)
                        return
                connection.sendall(reply)

        return self.server(behave)

    def relay(self, request: bytes) -> bytes:
        host, port = self.service.url[len("http://") :].split(":")
        with socket.create_connection((host, int(port))) as upstream:
            upstream.sendall(request.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1))
            received = b"".join(iter(lambda: upstream.recv(65536), b""))
        return received.replace(b"Connection: close\r\n", b"").replace(b"connection: close\r\n", b"")

    def test_one_whose_answer_was_lost_is_sent_again_byte_for_byte(self) -> None:
        for instead in (b"", b"HTTP/1.1 201 Cre", answer(502, b"bad gateway"), answer(201, b"{}")):
            sent: List[bytes] = []
            manifest = new_manifest()
            after = self.service.newest_event()
            client = self.client(self.losing(2, sent, instead).url, launch_timeout=20)
            client.launch_worker(manifest)
            self.assertEqual(len(sent), 3)
            self.assertEqual(len({request.partition(b"\r\n\r\n")[2] for request in sent}), 1)
            self.assertEqual(len(self.service.events("container_launched", after)), 1)
            self.assertEqual(list(client.containers), [manifest.worker_id])
            client.kill_worker(manifest.worker_id, "over")
            self.assertEqual(self.service.status_of(manifest.worker_id), "killed")

    def test_one_that_is_given_up_is_killed(self) -> None:
        sent: List[bytes] = []
        manifest = new_manifest()
        client = self.client(self.losing(1000, sent).url, launch_timeout=0.5)
        with self.assertRaisesRegex(LaunchGivenUp, "being killed"):
            client.launch_worker(manifest)
        self.assertTrue(client.wait_until_confirmed(10))
        self.assertEqual(self.service.status_of(manifest.worker_id), "killed")
        self.assertEqual(len(client.containers), 0)

    def test_one_that_hangs_is_bounded_and_its_kill_pursued(self) -> None:
        client = self.client(self.server(never_answer).url, launch_timeout=0.3)
        manifest = new_manifest()

        def launch() -> None:
            with self.assertRaises(LaunchGivenUp):
                client.launch_worker(manifest)

        self.assert_bounded(0.3 + KILL_TIMEOUT, launch)
        self.assertIn(manifest.worker_id, client.unconfirmed)

    def test_not_known_is_asked_more_than_once_after_a_lost_launch(self) -> None:
        kills = 0

        def behave(connection: socket.socket) -> None:
            nonlocal kills
            while True:
                request = read_request(connection)
                if not request.startswith(b"DELETE"):
                    return
                kills += 1
                connection.sendall(answer(404, PROBLEM_404))

        client = self.client(self.server(behave).url, launch_timeout=0.2)
        with self.assertRaises(LaunchGivenUp):
            client.launch_worker(new_manifest())
        self.assertEqual(len(client.unconfirmed), 1)
        self.assertTrue(client.wait_until_confirmed(10))
        self.assertEqual(kills, 4)

    def test_one_that_was_never_sent_is_said_at_once(self) -> None:
        client = self.client(closed_port_url())
        with self.assertRaises(ServiceUnreachable):
            client.launch_worker(new_manifest())
        self.assertEqual((client.unconfirmed, len(client.containers)), ({}, 0))

    def test_a_locked_service_is_asked_once(self) -> None:
        for code in ("kill_all_in_progress", "locked_down"):
            sent: List[bytes] = []

            def behave(connection: socket.socket) -> None:
                while True:
                    request = read_request(connection)
                    if not request:
                        return
                    sent.append(request)
                    connection.sendall(answer(423, {"code": code, "detail": "no"}))

            client = self.client(self.server(behave).url)
            with self.assertRaises(Refused) as caught:
                client.launch_worker(new_manifest())
            self.assertEqual((caught.exception.code, len(sent)), (code, 1))

    def test_a_refusal_that_leaves_doubt_is_followed_by_a_kill(self) -> None:
        manifest = new_manifest()
        requests: List[bytes] = []
        replies = {
            b"POST": answer(504, {"code": "kill_unconfirmed", "detail": "half of it lives"}),
            b"DELETE": answer(200, kill_report(manifest.worker_id)),
        }

        def behave(connection: socket.socket) -> None:
            while True:
                request = read_request(connection)
                if not request:
                    return
                requests.append(request)
                connection.sendall(replies[request.split()[0]])

        client = self.client(self.server(behave).url)
        with self.assertRaises(Refused):
            client.launch_worker(manifest)
        self.assertEqual([request.split()[0] for request in requests], [b"POST", b"DELETE"])

    def test_a_kill_that_overtakes_a_launch_on_its_way_is_carried_out_when_it_arrives(self) -> None:
        for kill_all in (False, True):
            manifest = new_manifest()
            launching, killed = threading.Event(), threading.Event()
            kills: List[bytes] = []
            before = answer(200, kill_report()) if kill_all else answer(404, PROBLEM_404)
            after = answer(200, kill_report(manifest.worker_id))

            def behave(connection: socket.socket) -> None:
                while True:
                    request = read_request(connection)
                    if not request:
                        return
                    if request.startswith(b"POST /workers"):
                        launching.set()
                        killed.wait(5)
                        record = {"manifest": {"worker_id": manifest.worker_id}, "status": "running"}
                        connection.sendall(answer(201, record))
                    else:
                        kills.append(request)
                        connection.sendall(before if len(kills) == 1 else after)
                        killed.set()

            client = self.client(self.server(behave).url, owns_fleet=True, launch_timeout=5)
            launch = Calling(lambda: client.launch_worker(manifest))
            self.assertTrue(launching.wait(5))
            if kill_all:
                client.kill_all("drift")
            else:
                client.kill_worker(manifest.worker_id, "drift")
            self.assertIsInstance(launch.error(), WorkerKilled)
            self.assertEqual((len(kills), len(client.containers), client.unconfirmed), (2, 0, {}))
            self.assertIn(b"/workers/%s?reason=drift" % manifest.worker_id.encode(), kills[1])

    def test_ctrl_c_leaves_no_worker_behind(self) -> None:
        manifest = new_manifest()
        client = self.client(self.service.url)
        with mock.patch("sandbox_orchestrator_client.launches.launched_record", side_effect=KeyboardInterrupt):
            with self.assertRaises(KeyboardInterrupt):
                client.launch_worker(manifest)
        self.assertTrue(client.wait_until_confirmed(10))
        self.assertEqual(self.service.status_of(manifest.worker_id), "killed")


class TheControllersLoop(Misbehaving):
    def test_reaches_every_worker(self) -> None:
        """As the package has it: under its lock, and an exception would end it."""
        service = LiveService(SIMULATED_KILL_FAILURE_RATE="0.5", SIMULATED_SEED="7")
        self.addCleanup(service.stop)
        client = SandboxOrchestrator(service.url, logger=self.logger)
        self.addCleanup(client.close)
        registry = {each.worker_id: each for each in (new_manifest() for _ in range(20))}
        for manifest in registry.values():
            client.launch_worker(manifest)
        for worker_id in list(registry):
            client.kill_worker(worker_id, reason="kill_switch")
            del registry[worker_id]
        self.assertEqual(registry, {})
        self.assertTrue(client.wait_until_confirmed(30))
        self.assertEqual(service.living(), 0)
        self.assertEqual(len(self.logger.named("container_killed")), 20)


if __name__ == "__main__":
    unittest.main()
