"""A server of confidence over HTTP, for this machine and, if it is told so, for others.

Requests are read and answered by a thread each; the main thread alone uses the model and the tokenizer, on all requests
that wait together. A client learns what is wrong with its request, and nothing of this machine.
"""

import io
import json
import queue
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from threading import BoundedSemaphore, Thread
from time import monotonic

from whoknows import WhoknowsError
from whoknows.use import outputs, predict

BODY = 4 * 2**20  # bytes of a request, at most
ROWS = 1000  # of a request, at most
REQUESTS = 64  # at the same time, at most
SECONDS = 30  # in which a request has to arrive, from its connection on
WAIT = 300  # seconds in which it has to be answered
ENDING = 2  # seconds for requests that are being answered when the server ends
PATHS = {"/score": "POST", "/health": "GET"}


class Refused(Exception):
    """What a client is told instead of an answer: a status of HTTP and a sentence."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status = status


BUSY = 503, "the server is busy; try again later"
LOADING = 503, "the estimator is being loaded; try again soon"
STOPPING = 503, "the server is stopping"
FAILED = 500, "this could not be answered; the server's log has the reason"


class Server(ThreadingTCPServer):
    """Listens at once, and answers when `serve_forever` and `work` run, each in a thread.

    Raises:
        WhoknowsError: the address cannot be used.
    """

    allow_reuse_address = daemon_threads = True
    request_queue_size = REQUESTS

    def __init__(self, host: str, port: int):
        self.about: dict = {}  # what `/health` says; empty until the estimator is there
        self.jobs: queue.SimpleQueue = queue.SimpleQueue()  # rows that wait, and where their confidence goes
        self.free = BoundedSemaphore(REQUESTS)  # requests that may still come
        # Connections; as many as there are requests are there to say that it is busy, and for `/health`.
        self.open = BoundedSemaphore(2 * REQUESTS)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), Handler)
        except OSError as error:
            raise WhoknowsError(
                f"{host}:{port}: the server cannot listen there ({error.strerror}); give another --host or --port"
            ) from None

    @property
    def url(self) -> str:
        host, port = self.server_address[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def verify_request(self, request, client_address) -> bool:
        """Whether a connection gets a thread; if not, it ends at once."""
        return self.open.acquire(blocking=False)

    def process_request_thread(self, request, client_address) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.open.release()

    def score(self, rows: list[tuple[str, dict]]) -> list[dict]:
        """The rows, each after its place in the request, such as "line 3: ", with their confidence, in their order.

        Called by the thread of a request; raises Refused if a row is bad, or there is no answer in time, and whatever
        was raised when they were scored.
        """
        answer: Future = Future()
        self.jobs.put((rows, answer))
        try:
            return answer.result(WAIT)
        except TimeoutError:
            answer.cancel()
            raise Refused(*BUSY) from None

    def work(self, estimator: predict.Estimator) -> None:
        """Scores what waits, together as far as it is no more than a request may have; until it is interrupted."""
        jobs: list[tuple] = []
        try:
            while True:
                jobs = [self.jobs.get()]
                while sum(len(rows) for rows, _ in jobs) < ROWS and not self.jobs.empty():
                    jobs.append(self.jobs.get())
                _answer(estimator, [(rows, answer) for rows, answer in jobs if answer.set_running_or_notify_cancel()])
        finally:
            while not self.jobs.empty():
                jobs.append(self.jobs.get())
            for _, answer in jobs:
                if not answer.done():
                    answer.set_exception(Refused(*STOPPING))

    def close(self) -> None:
        """Ends within ENDING seconds; is not called by the thread that `serve_forever` runs in."""
        self.shutdown()
        self.server_close()
        end = monotonic() + ENDING
        for _ in range(REQUESTS):
            self.free.acquire(timeout=max(0, end - monotonic()))


def _answer(estimator: predict.Estimator, jobs: list[tuple]) -> None:
    """Scores the rows of some jobs together; what is wrong with a row is raised where its job waits, and only there.

    If they cannot be scored together, each job is scored alone: one text may be what there was no memory for.
    """
    known = []
    for rows, answer in jobs:
        try:
            known.append((rows, answer, [_example(estimator, *row) for row in rows]))
        except Exception as error:
            answer.set_exception(error)
    try:
        logits = estimator.of_examples([example for *_, examples in known for example in examples])
    except Exception as error:  # the next request may fare better
        for rows, answer, _ in known:
            if len(known) > 1:
                _answer(estimator, [(rows, answer)])
            else:
                answer.set_exception(error)
        return
    for (rows, answer, _), mine in zip(known, logits.split([len(rows) for rows, *_ in known])):
        try:
            answer.set_result([row | predict.confidence(logit) for (_, row), logit in zip(rows, mine)])
        except Exception as error:
            answer.set_exception(error)


def _example(estimator: predict.Estimator, place: str, row: dict):
    try:
        return estimator.example(*predict.texts(row))
    except predict.Mistake as error:
        raise Refused(400, f"{place}{error}") from None


class _InTime(io.RawIOBase):
    """What a connection brings until `end`; Refused if more is wanted then, however slowly it was coming."""

    def __init__(self, connection: socket.socket, end: float):
        self.connection, self.end = connection, end

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        try:
            if (left := self.end - monotonic()) <= 0:
                raise TimeoutError
            self.connection.settimeout(left)
            return self.connection.recv_into(buffer)
        except TimeoutError:
            raise Refused(408, f"the request did not arrive within {SECONDS} seconds") from None


class Handler(BaseHTTPRequestHandler):
    """Answers one request; the connection then ends."""

    server: Server
    server_version, sys_version = "whoknows", ""
    requestline = ""  # for the log, until it is there

    def setup(self) -> None:
        super().setup()
        self.end = monotonic() + SECONDS
        self.rfile = io.BufferedReader(_InTime(self.connection, self.end))

    def handle(self) -> None:
        self.is_busy = not self.server.free.acquire(blocking=False)  # before the headers, which may come slowly
        try:
            super().handle()
        except Refused as late:
            self.send_error(late.status, str(late))
        finally:
            if not self.is_busy:
                self.server.free.release()

    def do_GET(self) -> None:
        self._reply(self._health)

    def do_POST(self) -> None:
        if self.is_busy:
            self._refuse(*BUSY)
        else:
            self._reply(self._score)

    def send_error(self, code, message=None, explain=None) -> None:
        """What is found wrong before any of these methods is called."""
        self.request_version = self.protocol_version  # without one, there would be no headers
        self._refuse(405 if code == 501 else code, message or "this is no good request")

    def _reply(self, work: Callable[[], tuple[str, list]]) -> None:
        try:
            path = self.path.partition("?")[0]
            if path not in PATHS:
                raise Refused(404, f"there is nothing here; ask for {' or '.join(PATHS)}")
            if PATHS[path] != self.command:
                raise Refused(405, f"use {PATHS[path]} here")
            self._send(200, *work())
        except Refused as refused:
            self._refuse(refused.status, str(refused))
        except Exception:
            traceback.print_exc()
            self._refuse(*FAILED)

    def _health(self) -> tuple[str, list]:
        if not self.server.about:
            raise Refused(*LOADING)
        return "application/json", [self.server.about]

    def _score(self) -> tuple[str, list]:
        body = self._body()
        try:
            whole = json.loads(body, parse_constant=lambda _: None)  # NaN is no JSON to write
        except (ValueError, RecursionError):
            whole = None
        if isinstance(whole, dict):
            rows = [("", whole)]
        elif isinstance(whole, list):
            rows = [(f"item {at}: ", row if isinstance(row, dict) else {}) for at, row in enumerate(whole, start=1)]
        else:
            rows = list(_lines(body))
        if not rows:
            raise Refused(400, f"there is nothing to score; send lines such as {predict.EXAMPLE}")
        if len(rows) > ROWS:
            raise Refused(413, f"these are {len(rows)} rows; send no more than {ROWS} at once")
        scored = self.server.score(rows)
        if isinstance(whole, list):
            return "application/json", [scored]
        return "application/json" if isinstance(whole, dict) else "application/x-ndjson", scored

    def _body(self) -> bytes:
        """What a request brings; refused if it is too long, does not say how long it is, or comes too late."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal()):
            raise Refused(411, "say how long the body is, with Content-Length")
        size = int(length) if len(length) < 20 else BODY + 1
        if size > BODY:
            raise Refused(413, f"the body is too long; send no more than {BODY} bytes at once")
        body = self.rfile.read(size)
        if len(body) < size:
            raise Refused(400, "the body is shorter than its Content-Length")
        return body

    def _refuse(self, status: int, sentence: str) -> None:
        self._send(status, "application/json", [{"error": sentence}])

    def _send(self, status: int, kind: str, objects: list) -> None:
        """A reply of some JSON objects, one a line, after which the connection ends."""
        body = "".join(outputs.as_lines(objects)).encode("utf-8", "backslashreplace")
        self.close_connection = True
        try:
            self.connection.settimeout(SECONDS)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            if status == 405:
                self.send_header("Allow", PATHS.get(self.path.partition("?")[0], "GET, POST"))
            self.end_headers()
            self.wfile.write(body)
            if status != 200:
                self._linger()
        except OSError:
            pass  # nobody waits for it any more

    def _linger(self) -> None:
        """Takes what the client still sends: if the connection just ended, it would not see the reply."""
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(ENDING)
        left = 16 * BODY
        while left > 0 and monotonic() < self.end + ENDING and (piece := self.connection.recv(2**16)):
            left -= len(piece)


def _lines(body: bytes) -> Iterator[tuple[str, dict]]:
    """The JSON objects of a body that has one a line, each after its place."""
    for number, raw in enumerate(body.split(b"\n"), start=1):
        if raw.strip():
            try:
                yield f"line {number}: ", predict.parse(raw)
            except predict.Mistake as error:
                raise Refused(400, f"line {number}: {error}") from None


def run(host: str, port: int, load: Callable[[], predict.Estimator]) -> None:
    """Serves an estimator until the process is interrupted, or told to terminate."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = Server(host, port)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        estimator = load()
        names = ("method", "reader", "trained_on", "tasks")
        server.about = {"status": "ok"} | {name: estimator.card[name] for name in names}
        print(f"Listening at {server.url}; Ctrl-C ends it.", file=sys.stderr, flush=True)
        server.work(estimator)
    except KeyboardInterrupt:
        print("The server has ended.", file=sys.stderr)
    finally:
        server.close()
