"""A judge behind an endpoint on this machine: what it is asked, what is kept, and what goes wrong."""

import hashlib
import json

import pytest

from fake_endpoint import chosen
from made_up import answers, mixed
from whoknows import WhoknowsError
from whoknows.stages import judge


@pytest.fixture(autouse=True)
def wise(endpoint):
    endpoint.reply = lambda text, count: (200, "Yes." if "Proposed answer: the sun" in text else "no")


FRAME = answers(["the sun", "A", "moon"], split=["test", "train", "test"])


def test_test_answers_are_judged_and_nothing_is_asked_twice(endpoint, tmp_path, monkeypatch):
    monkeypatch.setenv(judge.KEY, "secret")
    log = tmp_path / "folder" / "log.jsonl"
    table = judge.grade(FRAME, endpoint.url, "wise", log)
    assert table.to_dict("list") == {"question_id": ["q0", "q2"], "right": [True, False]}
    path, headers, body = endpoint.asked[0]
    assert path == "/v1/chat/completions" and headers["Authorization"] == "Bearer secret"
    asked = judge.ASKED.format(question=FRAME["question"][0], gold="the sun", answer="the sun")
    messages = [{"role": "user", "content": asked}]
    assert body == {"model": "wise", "temperature": 0, "max_tokens": 8, "messages": messages}
    name = hashlib.sha256(f"{endpoint.url}\nwise\n{asked}".encode()).hexdigest()
    assert json.loads(log.read_text().splitlines()[0]) == [name, True], "logs of earlier versions are read"
    assert judge.grade(FRAME, endpoint.url, "wise", log).equals(table) and len(endpoint.asked) == 2
    judge.grade(FRAME, endpoint.url, "wiser", log)
    assert len(endpoint.asked) == 4, "another judge is asked anew"


def test_each_answer_is_judged_beside_its_own_question_and_its_own_accepted_answers(endpoint, tmp_path):
    frame = mixed(24)["two"]
    frame["gold"] = [[*gold, f"{gold[0]} too"] for gold in frame["gold"]]
    endpoint.reply = lambda text, count: (200, "yes" if "Proposed answer: it is" in text else "no")
    table, test = judge.grade(frame, endpoint.url, "wise", tmp_path / "log"), frame[frame["split"] == "test"]
    texts = [
        f"Question: {row.question}\nAccepted answers: {'; '.join(row.gold)}\nProposed answer: {row.answer}\n"
        for row in test.itertuples()
    ]
    assert sorted(text.partition("\n\n")[0] + "\n" for text in endpoint.texts) == sorted(texts)
    assert (
        table["question_id"].tolist() == test["question_id"].tolist()
        and table["right"].tolist() == test["correct"].tolist()
    )
    judge.grade(frame, f"{endpoint.url}/", "wise", tmp_path / "log")
    assert len(endpoint.asked) == 2 * len(test), "a judge at another address is asked anew"


def test_what_was_judged_before_a_failure_is_kept(endpoint, tmp_path):
    good = endpoint.reply
    endpoint.reply = lambda text, count: good(text, count) if count == 1 else (401, "")
    sentence = (
        r"grid, judge.url: http://127.0.0.1:\d+/v1 answered 401 Unauthorized when it was asked about q2; "
        "check .* the key in WHOKNOWS_JUDGE_KEY; what was answered is kept"
    )
    with pytest.raises(WhoknowsError, match=sentence):
        judge.grade(FRAME, endpoint.url, "wise", tmp_path / "log")
    endpoint.reply = good
    assert judge.grade(FRAME, endpoint.url, "wise", tmp_path / "log")["right"].tolist() == [True, False]
    assert len(endpoint.asked) == 3


def test_a_busy_endpoint_is_asked_again(endpoint, tmp_path):
    good = endpoint.reply
    endpoint.reply = lambda text, count: (503, "") if count < 3 else good(text, count)
    assert judge.grade(FRAME, endpoint.url, "wise", tmp_path / "log")["right"].tolist() == [True, False]


def test_a_judge_that_says_something_else(endpoint, tmp_path):
    endpoint.reply = lambda text, count: (200, "It depends.")
    with pytest.raises(WhoknowsError, match="was asked for yes or no and said 'It depends.'"):
        judge.grade(FRAME, endpoint.url, "wise", tmp_path / "log")


def test_no_endpoint(tmp_path):
    with pytest.raises(WhoknowsError, match="gave no answer .ConnectionRefusedError.* check the address"):
        judge.grade(FRAME, "http://127.0.0.1:9/v1", "wise", tmp_path / "log")


def test_a_judge_that_says_nothing(endpoint, tmp_path):
    endpoint.reply = lambda text, count: (200, chosen(None))
    with pytest.raises(WhoknowsError, match="was asked for yes or no and said ''"):
        judge.grade(FRAME, endpoint.url, "wise", tmp_path / "log")
