"""A client of an endpoint on this machine: what fails is tried again, what was answered is kept, the key is secret."""

import email.utils
import json
import signal
import threading
import time
from types import SimpleNamespace

import pytest

from fake_endpoint import Endpoint, chosen, failed
from whoknows import WhoknowsError
from whoknows.stages import endpoint as client
from whoknows.stages.endpoint import LIMITED, LONGEST, TRIES, WORKERS, Missed, Request

KEY = "SOME_KEY"
SECRET = "sk-0123456789abcdef"


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv(KEY, SECRET)


def ask(url, log, count=3, **options):
    """What is said to so many questions."""
    requests = [
        Request(f"{i}", f"id{i}", options | {"messages": [{"role": "user", "content": f"q{i}"}]}) for i in range(count)
    ]
    return client.Endpoint(url, "grid, here", KEY).ask(requests, log, lambda said: said.content, "asking")


def kept(log):
    return dict(map(json.loads, log.read_text().splitlines()))


def first_fails(*answer, times=1):
    return lambda text, count: answer if count <= times else (200, f"on {text}")


def test_requests_go_side_by_side_and_replies_keep_the_order_of_the_requests(endpoint, tmp_path):
    """All but the first request are open at once, or none of them is answered; the last one is answered first."""
    together, log, alone = threading.Barrier(WORKERS), tmp_path / "log", []

    def reply(text, count):
        at = int(text[1:])
        if at == 0:
            time.sleep(0.05)
            alone.append(len(endpoint.asked))
        else:
            together.wait(20)
        while 0 < at < WORKERS and f'["{at + 1}", "' not in log.read_text():
            time.sleep(0.01)
        return 200, f"on {text}"

    endpoint.reply = reply
    assert ask(endpoint.url, log, WORKERS + 1) == [f"on q{i}" for i in range(WORKERS + 1)]
    assert alone == [1] and len(endpoint.asked) == WORKERS + 1
    assert [*kept(log)] == ["0", *(f"{i}" for i in range(WORKERS, 0, -1))]


NOW, BACKOFF = 1_800_000_000, pytest.approx(1, abs=0.5)


def after(**more):
    more = {key: at if isinstance(at, str) else email.utils.formatdate(at, usegmt=True) for key, at in more.items()}
    return 429, failed("slow down"), more


@pytest.mark.parametrize(
    "answer, seconds",
    [
        (after(**{"Retry-After": "7"}), 7),
        (after(**{"Retry-After": "0.25"}), 0.25),
        (after(**{"Retry-After": NOW + 60}), 60),
        (after(**{"Retry-After": "86400"}), LONGEST),
        (after(**{"Retry-After": "soon"}), BACKOFF),
        (after(**{"Retry-After": NOW - 60}), BACKOFF),
        (after(), BACKOFF),
        ((503, failed("busy"), {"Retry-After": "7"}), 7),
        ((500, "<html>"), BACKOFF),
        ((408, ""), BACKOFF),
        ((200, b'{"choices": [{"message": {"cont', {"Content-Length": "1000"}), BACKOFF),
        ((200, b"", {"Content-Length": "1000"}), BACKOFF),
        ((200, b"<html>ok</html>"), BACKOFF),
        ((200, b"\xff\xfe"), BACKOFF),
        ((200, b"[" * 10**5), BACKOFF),
        ((200, {"choices": []}), BACKOFF),
        ((200, failed("upstream")), BACKOFF),
        ((200, {"choices": [{"message": None}]}), BACKOFF),
        ((200, {"choices": [{"error": {"code": 502}, "message": {"content": ""}}]}), BACKOFF),
        ((200, chosen(["a list"])), BACKOFF),
    ],
)
def test_what_passes_is_waited_for(endpoint, tmp_path, monkeypatch, answer, seconds):
    stands = SimpleNamespace(time=lambda: NOW, monotonic=lambda: 0)  # so that a wait is as long as it was made
    monkeypatch.setattr(client, "time", stands)
    endpoint.reply = first_fails(*answer)
    assert ask(endpoint.url, tmp_path / "log") == ["on q0", "on q1", "on q2"]
    assert len(endpoint.asked) == 4 and len(endpoint.waits) == 3, "what was asked too soon holds up the others, too"
    assert all(wait == seconds for wait in endpoint.waits)


def test_each_wait_is_longer_than_the_one_before_up_to_a_bound_and_not_the_same_for_all(
    endpoint, tmp_path, monkeypatch
):
    monkeypatch.setattr(client, "time", SimpleNamespace(monotonic=lambda: 0))
    monkeypatch.setattr(client.random, "uniform", lambda least, most: most)
    endpoint.reply = first_fails(429, "", times=LIMITED - 1)
    ask(endpoint.url, tmp_path / "log", 1)
    assert endpoint.waits == [min(1.5 * 2**tries, LONGEST) for tries in range(LIMITED - 1)]
    monkeypatch.undo()
    assert len({client.random.uniform(0.5, 1.5) for _ in range(9)}) > 1


def sentence(endpoint, why):
    return (
        f"grid, here: {endpoint.url} {why} when it was asked about id1; "
        f"check the address, the model's name and the key in {KEY}; what was answered is kept"
    )


@pytest.mark.parametrize(
    "answer, tries, why",
    [
        ((429, failed("no quota")), LIMITED, "answered 429 Too Many Requests (no quota)"),
        ((404, failed("no model m")), 1, "answered 404 Not Found (no model m)"),
        ((401, failed("wrong key sk-0123")), 1, "answered 401 Unauthorized"),
        ((403, failed("wrong key sk-0123")), 1, "answered 403 Forbidden"),
        ((402, failed("pay")), 1, "answered 402 Payment Required (pay)"),
    ],
)
def test_what_concerns_every_request_is_one_sentence_and_what_was_answered_is_kept(
    endpoint, tmp_path, answer, tries, why
):
    endpoint.reply = lambda text, count: (200, f"on {text}") if text == "q0" else answer
    with pytest.raises(WhoknowsError) as raised:
        ask(endpoint.url, tmp_path / "log", 2)
    assert str(raised.value) == sentence(endpoint, why)
    assert endpoint.texts == ["q0"] + ["q1"] * tries and kept(tmp_path / "log") == {"0": "on q0"}


FILTERED = {"choices": [{"message": {"content": None}, "finish_reason": "content_filter"}]}


@pytest.mark.parametrize(
    "answer, tries, why",
    [
        ((500, failed("out of memory")), TRIES, "answered 500 Internal Server Error (out of memory)"),
        ((200, b"{"), TRIES, "answered what is no chat completion"),
        ((200, {"choices": []}), TRIES, "answered what is no chat completion"),
        ((400, {"detail": "too long"}), 1, "answered 400 Bad Request (too long)"),
        ((413, ""), 1, "answered 413 Request Entity Too Large"),
        ((451, failed("no")), 1, "answered 451 Unavailable For Legal Reasons (no)"),
        ((200, FILTERED), 1, "left out the answer (content_filter)"),
        ((200, b"", {"Content-Length": "1000"}), TRIES, "answered what is no chat completion"),
        ((799, ""), TRIES, "answered 799"),
    ],
)
def test_a_request_that_is_missed_has_an_error_in_its_place_and_is_asked_again_in_the_next_run(
    endpoint, tmp_path, answer, tries, why
):
    endpoint.reply = lambda text, count: answer if text == "q1" else (200, f"on {text}")
    first, missed, last = ask(endpoint.url, tmp_path / "log", 3)
    assert (first, last) == ("on q0", "on q2") and isinstance(missed, Missed)
    assert (missed.why, str(missed)) == (why, sentence(endpoint, why))
    assert endpoint.texts.count("q1") == tries and {*kept(tmp_path / "log")} == {"0", "2"}
    endpoint.reply = lambda text, count: (200, f"at last {text}")
    assert ask(endpoint.url, tmp_path / "log", 3) == ["on q0", "at last q1", "on q2"]


@pytest.mark.parametrize("answer", [(400, failed("no model m")), (503, "")])
def test_where_all_of_the_first_requests_are_missed_no_other_is_asked(endpoint, tmp_path, answer):
    endpoint.reply = lambda text, count: answer
    with pytest.raises(WhoknowsError, match=f"answered {answer[0]} "):
        ask(endpoint.url, tmp_path / "log", 1000)
    assert len({*endpoint.texts}) <= 3 * WORKERS


def test_many_missed_requests_one_after_the_other_do_not_end_it_if_another_is_still_answered(endpoint, tmp_path):
    """A filter may refuse all questions of a topic, which stand together, and the next run asks for them alone."""
    endpoint.reply = lambda text, count: (200, text) if int(text[1:]) in (0, 99) else (400, failed("filtered"))
    for _ in range(2):
        said = ask(endpoint.url, tmp_path / "log", 100)
        assert [said[0], said[99]] == ["q0", "q99"] and all(isinstance(one, Missed) for one in said[1:99])
    assert {*kept(tmp_path / "log")} == {"0", "99"} and 2 < endpoint.texts.count("q0") + endpoint.texts.count("q99")


def test_where_what_was_answered_before_is_not_answered_again_it_ends(endpoint, tmp_path):
    endpoint.reply = lambda text, count: (200, text) if count <= 20 else (400, failed("no credit"))
    with pytest.raises(WhoknowsError, match=r"answered 400 Bad Request \(no credit\) .* what was answered is kept$"):
        ask(endpoint.url, tmp_path / "log", 1000)
    assert len(endpoint.asked) < 20 + 5 * WORKERS and len(kept(tmp_path / "log")) == 20


def test_without_a_connection_it_ends_with_the_first_request(tmp_path, endpoint):
    with pytest.raises(WhoknowsError, match=r"gave no answer \(ConnectionRefusedError\) when it was asked about id0"):
        ask("http://127.0.0.1:9/v1", tmp_path / "log", 100)


def test_after_a_failure_nothing_new_is_asked_and_what_was_asked_is_kept(endpoint, tmp_path):
    is_asked = threading.Event()

    def reply(text, count):
        if text == "q1":
            assert is_asked.wait(20)
            return 401, ""
        if text == "q2":
            is_asked.set()
            time.sleep(0.3)  # q1 has failed by now
        return 200, f"on {text}"

    endpoint.reply = reply
    with pytest.raises(WhoknowsError, match="about id1"):
        ask(endpoint.url, tmp_path / "log", 3)
    assert kept(tmp_path / "log") == {"0": "on q0", "2": "on q2"}


def test_one_wrong_key_is_one_request(endpoint, tmp_path):
    endpoint.reply = lambda text, count: (401, "")
    with pytest.raises(WhoknowsError):
        ask(endpoint.url, tmp_path / "log", 100)
    assert endpoint.texts == ["q0"]


def test_a_slow_endpoint_is_asked_again(endpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(client, "TIMEOUT", 0.5)
    monkeypatch.setattr(client, "TRIES", 3)
    awake = threading.Event()
    endpoint.reply = lambda text, count: (awake.wait(20) if count == 1 else None) or (200, f"on {text}")
    assert ask(endpoint.url, tmp_path / "log", 1) == ["on q0"] and len(endpoint.asked) > 1
    awake.clear()
    endpoint.reply = lambda text, count: (awake.wait(20), (200, ""))[1]
    assert ask(endpoint.url, tmp_path / "other", 1)[0].why == "gave no answer (TimeoutError)"
    awake.set()


@pytest.mark.parametrize(
    "name, status, message",
    [
        ("logprobs", 400, "Extra inputs are not permitted"),
        ("logprobs", 422, ""),
        ("logprobs", 403, "You are not allowed to request Logprobs from this model."),
        ("logprobs", 500, "logprobs is not supported for models created with logits_all=False"),
        ("temperature", 400, "Unsupported value: 'temperature' does not support 0 with this model."),
        ("max_tokens", 400, "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."),
    ],
)
def test_an_option_that_is_refused_is_left_out_and_that_is_said_once(endpoint, tmp_path, name, status, message):
    options = {"logprobs": True, "temperature": 0, "max_tokens": 5}
    endpoint.reply = lambda text, count: (
        (status, failed(message)) if name in endpoint.bodies[count - 1] else (200, f"on {text}")
    )
    with pytest.warns(UserWarning, match=f"^{endpoint.url} refuses {name}: ") as warned:
        assert ask(endpoint.url, tmp_path / "log", **options) == ["on q0", "on q1", "on q2"]
    assert len(warned) == 1 and endpoint.waits == []
    instead = {"max_completion_tokens": 5} if name == "max_tokens" else {}
    assert endpoint.texts[:2] == ["q0", "q0"] and len(endpoint.asked) == 4
    for body in endpoint.bodies[1:]:
        del body["messages"]
        assert body == {option: value for option, value in options.items() if option != name} | instead


def test_options_are_not_to_blame_for_every_error(endpoint, tmp_path, recwarn):
    endpoint.reply = first_fails(429, failed("too many; lower max_tokens"))
    ask(endpoint.url, tmp_path / "log", 1, max_tokens=5)
    assert "max_tokens" in endpoint.bodies[1]
    endpoint.reply = lambda text, count: (400, failed("too long a question"))
    (missed,) = ask(endpoint.url, tmp_path / "other", 1, max_tokens=5, logprobs=True)
    assert missed.why == "answered 400 Bad Request (too long a question)"
    assert len(endpoint.asked) == 4 and len(recwarn) == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_key_is_not_taken_to_another_host(endpoint, tmp_path, status):
    other = Endpoint()
    threading.Thread(target=other.serve_forever, args=[0.05], daemon=True).start()
    endpoint.reply = lambda text, count: (status, "", {"Location": f"{other.url}/chat/completions"})
    with pytest.raises(WhoknowsError, match=f"answered {status} .*, a redirect, which is not followed when"):
        ask(endpoint.url, tmp_path / "log")
    other.shutdown()
    other.server_close()
    assert other.asked == [] and len(endpoint.asked) == 1


def test_the_key_is_in_one_header_and_nowhere_else(endpoint, tmp_path, monkeypatch, recwarn):
    def reply(text, count):
        authorization = endpoint.asked[-1][1]["Authorization"]
        return (200, f"you sent {authorization}") if text == "q0" else (400, failed(f"{authorization} is wrong"))

    endpoint.reply = reply
    monkeypatch.setenv(KEY, f"{SECRET}\n")
    missed = ask(endpoint.url, tmp_path / "log", 2)[1]
    assert missed.why == "answered 400 Bad Request (Bearer *** is wrong)"
    path, headers, body = endpoint.asked[0]
    assert path == "/v1/chat/completions" and headers["Authorization"] == f"Bearer {SECRET}"
    assert headers["User-Agent"] == "whoknows", "Python's own name is turned away by some"
    others = [path, json.dumps(body), *(value for name, value in headers.items() if name != "Authorization")]
    said = [str(missed), repr(missed.__context__), (tmp_path / "log").read_text(), *map(str, recwarn)]
    assert [text for text in others + said if SECRET in text] == []
    assert kept(tmp_path / "log") == {"0": "you sent Bearer ***"}


def test_a_key_in_escapes_or_in_tokens_is_found_too(endpoint, tmp_path, monkeypatch):
    key = "sk-ab/cd-0123"
    monkeypatch.setenv(KEY, key)
    said = json.dumps(chosen(f"it is {key}", [("it is ", -1), ("sk-ab/", -1), ("cd-0123", -1)])).replace("/", "\\/")
    endpoint.reply = lambda text, count: (200, said.encode())
    requests = [Request("0", "id0", {"messages": [{"role": "user", "content": "q0"}]})]
    replies = client.Endpoint(endpoint.url, "grid, here", KEY).ask(requests, tmp_path / "log", tuple, "asking")
    assert replies == [("it is ***", False, [])] and "cd-0123" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_key_there_is_no_header(endpoint, tmp_path, monkeypatch, value):
    monkeypatch.delenv(KEY) if value is None else monkeypatch.setenv(KEY, value)
    ask(endpoint.url, tmp_path / "log", 1)
    assert endpoint.asked[0][1]["Authorization"] is None


def test_a_short_key_is_no_secret_and_may_be_a_word_of_an_answer(endpoint, tmp_path, monkeypatch):
    monkeypatch.setenv(KEY, "ollama")
    endpoint.reply = lambda text, count: (200, "an ollama")
    assert ask(endpoint.url, tmp_path / "log", 1) == ["an ollama"]


@pytest.mark.parametrize("value", ["sk-01234\n56789", "sk-ключ01234"])
def test_a_key_that_no_header_takes(endpoint, tmp_path, monkeypatch, value):
    monkeypatch.setenv(KEY, value)
    with pytest.raises(WhoknowsError, match=f"^{KEY}: this environment variable") as raised:
        ask(endpoint.url, tmp_path / "log", 1)
    assert value[:8] not in str(raised.value) and endpoint.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "http://me:hunter2@127.0.0.1/v1",
        "http://127.0.0.1/v1?key=hunter2",
        "http://127.0.0.1/v1#hunter2",
        "file:///hunter2",
        "http://",
        "http:///hunter2",
        "http://127.0.0.1:port/hunter2",
        "http://[hunter2",
        "http://127.0.0.1/\x1b[2Jhunter2",
        "127.0.0.1/hunter2",
    ],
)
def test_an_address_that_is_none_or_holds_a_secret(tmp_path, url):
    with pytest.raises(WhoknowsError, match="^grid, here: an address is wanted like http://") as raised:
        ask(url, tmp_path / "log")
    assert "hunter2" not in str(raised.value) and KEY in str(raised.value)


def test_a_run_that_was_stopped_asks_only_what_is_left(endpoint, tmp_path):
    log = tmp_path / "folder" / "log"
    endpoint.reply = lambda text, count: (200, f"on {text}") if count < 3 else (401, "")
    with pytest.raises(WhoknowsError):
        ask(endpoint.url, log, 5)
    done = len(kept(log))
    assert done == 2
    with open(log, "a") as file:
        file.write('["9", "killed in the mid')
    endpoint.asked.clear()
    endpoint.reply = lambda text, count: (200, f"later on {text}")
    said = ask(endpoint.url, log, 5)
    assert sorted(one.startswith("later") for one in said) == [False] * 2 + [True] * 3 and len(endpoint.asked) == 3
    assert ask(endpoint.url, log, 5) == said and len(endpoint.asked) == 3


def test_the_same_request_is_sent_once(endpoint, tmp_path):
    request = Request("same", "id", {"messages": [{"role": "user", "content": "q"}]})
    here = client.Endpoint(endpoint.url, "grid, here", KEY)
    assert here.ask([request] * 3, tmp_path / "log", lambda said: said.is_cut, "asking") == [False] * 3
    assert len(endpoint.asked) == 1


def test_ctrl_c_ends_at_once_and_keeps_what_is_there(endpoint, tmp_path, monkeypatch):
    monkeypatch.undo()  # of what makes waiting take no time
    never, main, before = threading.Event(), threading.main_thread().ident, {*threading.enumerate()}

    def reply(text, count):
        if text in ("q0", "q1"):
            return 200, f"on {text}"
        if text == "q2":  # others wait for an answer, or to be allowed to ask
            while (tmp_path / "log").read_text().count("\n") < 2:
                time.sleep(0.05)
            threading.Timer(0.3, signal.pthread_kill, [main, signal.SIGINT]).start()
            return 429, "", {"Retry-After": "60"}
        never.wait(20)
        return 200, ""

    endpoint.reply = reply
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        ask(endpoint.url, tmp_path / "log", 50)
    assert time.monotonic() - start < 10 and kept(tmp_path / "log") == {"0": "on q0", "1": "on q1"}
    left = [thread for thread in {*threading.enumerate()} - before if not thread.daemon]
    assert left == [], "nothing keeps the process from ending"
    time.sleep(0.2)
    asked = len(endpoint.asked)
    never.set()
    time.sleep(0.3)
    assert len(endpoint.asked) == asked < 50, "nothing more is asked"


def test_what_others_say_moves_no_cursor_and_is_one_short_line(endpoint, tmp_path):
    endpoint.reply = lambda text, count: (400, failed("\x1b[2J\n\u202eno\ud800" + "x" * 999))
    request = Request("0", "id\n\x1b[31m", {"messages": [{"role": "user", "content": "q"}]})
    (missed,) = client.Endpoint(endpoint.url, "grid, here", KEY).ask([request], tmp_path / "log", str, "asking")
    assert "about id [31m; " in str(missed) and str(missed).isprintable() and len(str(missed)) < 600
    assert missed.why.isprintable() and len(missed.why) < 300


def test_half_of_a_surrogate_pair_is_a_question_mark(endpoint, tmp_path):
    endpoint.reply = lambda text, count: (200, chosen("a\ud800b"))
    assert ask(endpoint.url, tmp_path / "log", 1) == ["a?b"]
