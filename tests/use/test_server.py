"""`whoknows serve` answers what `whoknows score` answers, and tells a client no more than it needs to know."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from concurrent.futures import Future
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
import torch
from test_predict import Run
from test_score import Fake

import waiting
from whoknows import WhoknowsError, __main__
from whoknows.use import predict, server

ROOT = Path(__file__).parents[2]
until = partial(waiting.until, seconds=20)
ROWS = [{"question": f"Why {i}?", "answer": "so " * i, "id": i} for i in range(12)]


class Slow(Fake):
    """Scores nothing until it is let go; then as `Fake`, but whatever is scored together."""

    def __init__(self):
        super().__init__()
        self.go, self.began = threading.Event(), threading.Event()
        self.go.set()

    def of_examples(self, examples, done=None):
        self.began.set()
        assert self.go.wait(20)
        if any(answer == "broken" for _, answer in examples):
            raise ValueError("/secret/path")
        return super().of_examples(examples) - len(examples) / 1000


@pytest.fixture
def served():
    """A server that works, and its estimator."""
    with closing(server.Server("127.0.0.1", 0)) as one:
        one.about, estimator = {"status": "ok"}, Slow()
        for work in (one.serve_forever, lambda: one.work(estimator)):
            threading.Thread(target=work, daemon=True).start()
        yield one, estimator
        estimator.go.set()


def ask(one, body=None, path="/score", method=None):
    """Status, kind and body of a reply."""
    request = urllib.request.Request(f"{one.url}{path}", body, method=method or ("POST" if body is not None else "GET"))
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, reply.headers["Content-Type"], reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read()


def raw(one, text: bytes) -> bytes:
    """What comes back of bytes that are no request of urllib's."""
    with socket.create_connection(one.server_address[:2], timeout=30) as connection:
        connection.sendall(text)
        return b"".join(iter(lambda: connection.recv(2**16), b""))


def as_lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def expected(rows):
    return [len(row["question"]) - len(row["answer"]) / 7 for row in rows]


def test_lines_a_list_and_an_object_come_back_as_they_came_in_order(served):
    one, _ = served
    status, kind, body = ask(one, b"\r\n\n" + as_lines(ROWS).replace(b"\n", b"\r\n\r\n"))
    rows = [json.loads(line) for line in body.splitlines()]
    assert (status, kind) == (200, "application/x-ndjson")
    assert [{name: row[name] for name in ROWS[0]} for row in rows] == ROWS
    assert [row["logit"] for row in rows] == pytest.approx(expected(ROWS), abs=1e-5)
    assert [row["p_correct"] for row in rows] == pytest.approx(1 / (1 + np.exp(-np.array(expected(ROWS)))), abs=1e-6)
    status, kind, body = ask(one, json.dumps(ROWS, indent=2).encode())
    assert (status, kind, json.loads(body)) == (200, "application/json", rows)
    status, kind, body = ask(one, json.dumps(ROWS[3], indent=2).encode(), path="/score?x=1")
    assert (status, kind, json.loads(body)) == (200, "application/json", rows[3])
    half = {"question": "Why?", "answer": "", "x": "Zürich \ud83d"}
    assert json.loads(ask(one, as_lines([half]))[2])["x"] == half["x"]


@pytest.mark.parametrize("form", ["{}", "[{}]", "{}\n{}"])
def test_nan_in_another_column_comes_back_as_null(served, form):
    status, _, body = ask(served[0], form.replace("{}", '{"question": "Why?", "answer": "", "x": NaN}').encode())
    assert status == 200 and b'"x": null' in body and b"NaN" not in body


def test_requests_that_wait_together_are_scored_together_each_with_its_own_answer(served):
    one, estimator = served
    estimator.go.clear()
    answers = {}
    threads = [threading.Thread(target=lambda i=i: answers.update({i: ask(one, as_lines(ROWS[i:]))})) for i in range(5)]
    threads[0].start()
    estimator.began.wait(20)
    for thread in threads[1:]:
        thread.start()
    until(lambda: one.jobs.qsize() == 4)
    estimator.go.set()
    for thread in threads:
        thread.join()
    assert [len(chunk) for chunk in estimator.seen] == [12, 11 + 10 + 9 + 8]
    for i, (status, _, body) in answers.items():
        logits = [json.loads(line)["logit"] for line in body.splitlines()]
        assert status == 200 and logits == pytest.approx(expected(ROWS[i:]), abs=1e-5)


@pytest.mark.parametrize(
    "row, status, sentence",
    [
        ({"question": "long", "answer": ""}, 400, "line 2: question and answer make 9 tokens; shorten them"),
        ({"question": "Why?", "answer": "broken"}, 500, server.FAILED[1]),
    ],
)
def test_a_bad_request_among_those_that_wait_spoils_no_other(served, row, status, sentence):
    one, estimator = served
    bad = [ROWS[0], row]
    estimator.go.clear()
    answers, bodies = {}, [as_lines(ROWS), as_lines(bad), as_lines(ROWS[:2])]
    threads = [threading.Thread(target=lambda i=i: answers.update({i: ask(one, bodies[i])})) for i in range(3)]
    for at, thread in enumerate(threads):
        thread.start()
        until(estimator.began.is_set if at == 0 else lambda: one.jobs.qsize() == at)
    estimator.go.set()
    for thread in threads:
        thread.join()
    assert [answers[i][0] for i in range(3)] == [200, status, 200]
    assert json.loads(answers[1][2])["error"] == sentence


def test_a_confidence_that_is_no_number_spoils_no_other():
    jobs = [([("", row)], Future()) for row in ROWS[:3]]

    class Broken(Fake):
        def of_examples(self, examples, done=None):
            return torch.tensor([1.0, float("nan"), 2.0])

    server._answer(Broken(), jobs)
    first, bad, last = (answer for _, answer in jobs)
    assert first.result()[0]["logit"] == 1 and last.result()[0]["logit"] == 2
    assert "not a finite number" in str(bad.exception())


@pytest.mark.parametrize(
    "body, sentence",
    [
        (as_lines(ROWS[:2]) + b"\noops\n", "line 4: this is no JSON; write one object a line"),
        (as_lines(ROWS[:1]) + b"[" * 100_000, "line 2: this is no JSON"),
        (b"[" * 100_000, "line 1: this is no JSON"),
        (as_lines(ROWS[:1]) + b"[1]", "line 2: this is no JSON object"),
        (as_lines([ROWS[0], {"question": "Why?"}]), "line 2: `answer` is missing or no text"),
        (as_lines([{"question": "\ud800", "answer": ""}]), "`question` is missing or no text"),
        (json.dumps([ROWS[0], 7]).encode(), "item 2: `question` is missing or no text"),
        (b"\xff", "line 1: this is no JSON"),
        (b" \n", "there is nothing to score"),
        (b"[]", "there is nothing to score"),
    ],
)
def test_a_bad_body_is_one_sentence_with_the_line(served, body, sentence):
    status, kind, reply = ask(served[0], body)
    assert (status, kind) == (400, "application/json") and json.loads(reply)["error"].startswith(sentence)


def test_there_are_limits(served, monkeypatch):
    one, estimator = served
    monkeypatch.setattr(server, "ROWS", 3)
    monkeypatch.setattr(server, "BODY", 10_000)
    assert ask(one, as_lines(ROWS[:3]))[0] == 200
    status, _, reply = ask(one, as_lines(ROWS[:4]))
    assert status == 413 and json.loads(reply)["error"] == "these are 4 rows; send no more than 3 at once"
    status, _, reply = ask(one, b" " * 100_000)  # all of which is sent before the reply is read
    assert status == 413 and json.loads(reply)["error"] == "the body is too long; send no more than 10000 bytes at once"
    monkeypatch.setattr(server, "SECONDS", 0.1)
    reply = raw(one, b"POST /score HTTP/1.1\r\nContent-Length: 100\r\n\r\n{")
    assert b" 408 " in reply.splitlines()[0] and b"did not arrive within 0.1 seconds" in reply
    monkeypatch.setattr(server, "WAIT", 0.1)
    estimator.go.clear()
    for _ in range(2):
        status, _, reply = ask(one, as_lines(ROWS[:1]))
        assert status == 503 and json.loads(reply)["error"] == "the server is busy; try again later"
    estimator.go.set()
    monkeypatch.setattr(server, "WAIT", 20)
    assert ask(one, as_lines(ROWS[:2]))[0] == 200
    assert [len(chunk) for chunk in estimator.seen if chunk] == [3, 1, 2], "what nobody waits for is not scored"


def test_the_limits_are_those_that_the_page_names():
    page = (ROOT / "book/use.md").read_text()
    for sentence in (
        f"within {server.SECONDS} seconds",
        f"longer than {server.BODY // 2**20} MiB, or has more than {server.ROWS:,} rows",
        f"{server.REQUESTS} requests are waiting, or there was no answer within {server.WAIT} seconds",
        f"more than {2 * server.REQUESTS} connections at once",
    ):
        assert sentence in page


def test_no_more_requests_than_it_can_hold(served, monkeypatch):
    one, _ = served
    held = [one.free.acquire(blocking=False) for _ in range(server.REQUESTS)]
    assert all(held) and ask(one, as_lines(ROWS))[0] == 503 and ask(one, path="/health")[0] == 200
    for _ in held:
        one.free.release()
    for _ in range(server.REQUESTS + 1):
        assert ask(one, b"oops")[0] == 400
    assert ask(one, as_lines(ROWS))[0] == 200


@pytest.mark.parametrize("start", [b"", b"POST /sc", b"POST /score HTTP/1.1\r\nX: ", b"GET /health HTTP/1.1\r\nX: "])
def test_a_request_that_trickles_is_ended(served, monkeypatch, start):
    monkeypatch.setattr(server, "SECONDS", 0.5)
    with socket.create_connection(served[0].server_address[:2]) as connection:
        connection.sendall(start)
        connection.settimeout(0.05)
        end, reply = monotonic() + 20, b""
        while not reply and monotonic() < end:
            try:
                reply = connection.recv(2**16)
            except TimeoutError:
                connection.sendall(b"a" if start else b"")
    assert b" 408 " in reply.splitlines()[0]
    until(lambda: served[0].free._value == server.REQUESTS)


def test_requests_count_while_their_headers_arrive(served):
    one, _ = served
    with ExitStack() as stack:

        def begin():
            connection = stack.enter_context(socket.create_connection(one.server_address[:2], timeout=20))
            connection.sendall(b"POST /score HTTP/1.1\r\nX: ")
            return connection

        for _ in range(server.REQUESTS):
            begin()
        until(lambda: one.free._value == 0)
        assert ask(one, as_lines(ROWS))[0] == 503 and ask(one, path="/health")[0] == 200
        until(lambda: one.open._value == server.REQUESTS)
        for _ in range(server.REQUESTS):
            begin()
        until(lambda: one.open._value == 0)
        assert raw(one, b"") == b"", "this one has no thread"
    until(lambda: one.open._value == 2 * server.REQUESTS)
    assert ask(one, as_lines(ROWS))[0] == 200


@pytest.mark.parametrize(
    "path, method, status",
    [
        ("/", "GET", 404),
        ("/score/../etc/passwd", "POST", 404),
        ("/score", "GET", 405),
        ("/health", "POST", 405),
        ("/score", "PUT", 405),
        ("/score", "DELETE", 405),
    ],
)
def test_other_paths_and_methods(served, path, method, status):
    code, kind, reply = ask(served[0], b"" if method in ("POST", "PUT") else None, path, method)
    assert (code, kind) == (status, "application/json") and json.loads(reply).keys() == {"error"}


@pytest.mark.parametrize(
    "text, status",
    [
        (b"POST /score HTTP/1.1\r\n\r\n", b"411"),
        (b"POST /score HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"411"),
        (b"POST /score HTTP/1.1\r\nContent-Length: " + b"9" * 6000 + b"\r\n\r\n", b"413"),
        (b"POST /score HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"411"),
        (b"\x1b[31m<b> oops\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"GET /health HTTP/9.9\r\n\r\n", b"505"),
    ],
)
def test_what_is_no_good_request_gets_json_too(served, text, status, capsys):
    reply = raw(served[0], text)
    head, _, body = reply.partition(b"\r\n\r\n")
    assert head.split()[1] == status and b"application/json" in head and json.loads(body).keys() == {"error"}
    assert "\x1b" not in capsys.readouterr().err


def test_a_fault_of_ours_tells_the_client_nothing_and_the_log_all(served, capsys):
    one, _ = served
    status, _, reply = ask(one, as_lines([{"question": "Why?", "answer": "broken"}]))
    assert status == 500 and json.loads(reply)["error"] == "this could not be answered; the server's log has the reason"
    assert "ValueError: /secret/path" in capsys.readouterr().err
    assert ask(one, as_lines(ROWS))[0] == 200


def test_a_path_in_the_reason_for_a_row_stays_here(served, monkeypatch, capsys):
    def example(question, answer):
        raise WhoknowsError("the tokenizer of /secret/path does not keep it apart")

    monkeypatch.setattr(served[1], "example", example)
    status, _, reply = ask(served[0], as_lines(ROWS))
    assert status == 500 and b"secret" not in reply and "/secret/path" in capsys.readouterr().err


def test_a_client_that_goes_away_is_no_error(served, capsys):
    one, estimator = served
    estimator.go.clear()
    with socket.create_connection(one.server_address[:2]) as connection:
        body = as_lines(ROWS)
        connection.sendall(b"POST /score HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        until(estimator.began.is_set)
    estimator.go.set()
    until(lambda: one.free._value == server.REQUESTS)
    assert ask(one, as_lines(ROWS))[0] == 200 and "Traceback" not in capsys.readouterr().err


def test_health_before_the_estimator_is_there_and_what_waits_when_it_ends():
    with closing(server.Server("127.0.0.1", 0)) as one:
        threading.Thread(target=one.serve_forever, daemon=True).start()
        assert ask(one, path="/health")[0] == 503
        waiting = []
        asking = threading.Thread(target=lambda: waiting.append(ask(one, as_lines(ROWS))))
        asking.start()
        until(lambda: not one.jobs.empty())
        one.about = {"status": "ok"}
        assert json.loads(ask(one, path="/health")[2]) == {"status": "ok"}

        class Ended(Fake):
            def of_examples(self, examples, done=None):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            one.work(Ended())
        asking.join(10)
        assert waiting[0][0] == 503 and json.loads(waiting[0][2])["error"] == "the server is stopping"


def test_an_address_that_is_taken_is_one_sentence(monkeypatch, capsys):
    with closing(server.Server("127.0.0.1", 0)) as one:
        threading.Thread(target=one.serve_forever, daemon=True).start()
        port = one.server_address[1]
        monkeypatch.setattr(predict, "load", lambda *_: 1 / 0)
        assert __main__.main(["serve", "--estimator", "x", "--port", str(port)]) == 2
    assert f"127.0.0.1:{port}: the server cannot listen there (Address already in use)" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        __main__.main(["serve", "--estimator", "x", "--port", "65536"])


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_as_a_process_it_says_what_score_says_whatever_is_batched_and_ends_at_once(mistral, tmp_path, ending):
    run = Run(mistral, tmp_path)
    estimator, (_, questions, answers) = run.load("lora_prompt"), run.expected("lora_prompt", "two")
    rows = [{"question": q, "answer": a} for q, a in zip(questions, answers)]
    command = [sys.executable, "-m", "whoknows", "serve", "--estimator", str(tmp_path / "lora_prompt"), "--port", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "lib"), "OMP_NUM_THREADS": "2"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        said = [process.stderr.readline() for _ in range(2)]

        class At:
            url = said[1].split()[2].rstrip(";")

        assert said[0].startswith("lora_prompt: reader r") and At.url.startswith("http://127.0.0.1:")
        about = json.loads(ask(At, path="/health")[2])
        assert about == {
            "status": "ok",
            "method": "lora_prompt",
            "reader": "r",
            "trained_on": "one",
            "tasks": ["made_up"],
        }
        expected = [line["logit"] for line in predict.stream(estimator, enumerate(rows, start=1), "in", 7)]
        together = [json.loads(line)["logit"] for line in ask(At, as_lines(rows * 9))[2].splitlines()]
        alone = [json.loads(ask(At, as_lines([row]))[2])["logit"] for row in rows]
        np.testing.assert_allclose(together, expected * 9, atol=1e-4)
        np.testing.assert_allclose(alone, expected, atol=1e-4)
        assert torch.tensor(expected).std() > 0.01
        began = monotonic()
        process.send_signal(ending)
        _, rest = process.communicate(timeout=60)
    assert process.returncode == 0 and monotonic() - began < 20
    assert rest.splitlines()[-1] == "The server has ended." and "Traceback" not in rest
