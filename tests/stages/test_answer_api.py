"""Answers of an endpoint on this machine: what it is asked, how its answers are read and graded, what is missing."""

import json
import re

import jupytext
import numpy as np
import pandas as pd
import pytest
import test_answer

from fake_endpoint import chosen, failed
from whoknows import WhoknowsError
from whoknows.data.files import ROOT
from whoknows.data.prompts import BRIEF
from whoknows.stages import answer_api
from whoknows.stages.answered import likelihood_rows, summary

NEW = 7
MEASURES = ["sum_logprob", "mean_logprob", "min_logprob", "tokens"]


def asked(count=6):
    """Questions of two interleaved tasks, the second with a gold answer of its own, and their examples."""
    table = test_answer.questions(count)
    table["gold"] = [["YES", "yes", "x"] if split == "shot" else ["rain"] for split in table["split"]]
    return table


def both(endpoint, folder, questions=None, new=NEW, **api):
    """The answers, and the questions without one."""
    api = {"url": endpoint.url, "model": "wise"} | api
    return answer_api.run(api, asked() if questions is None else questions, new, str(folder / "wise.parquet"))


def run(endpoint, folder, questions=None, new=NEW, **api):
    answers, missed = both(endpoint, folder, questions, new, **api)
    assert missed.empty
    return answers


def read(endpoint, folder, *replies):
    """The answers, where the replies come in turn and then the last one again and again."""
    endpoint.reply = lambda text, count: (200, replies[min(count, len(replies)) - 1])
    return run(endpoint, folder, asked(len(replies)))


def test_every_question_is_asked_after_the_examples_of_its_own_task(endpoint, tmp_path, monkeypatch):
    monkeypatch.setenv(answer_api.KEY, "of the answers")
    endpoint.reply = lambda text, count: (200, f"rain on {text}" if "river" in text else "snow")
    table, questions = run(endpoint, tmp_path), asked()
    plain = questions[questions["split"] != "shot"].reset_index(drop=True)
    pd.testing.assert_frame_equal(table[list(plain)], plain)
    assert table["answer"].tolist() == [f"rain on {q}" if "river" in q else "snow" for q in plain["question"]]
    assert table["correct"].tolist() == ["river" in q for q in plain["question"]] and table["correct"].dtype == bool
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "wise.parquet"), table)
    by_question = dict(zip(endpoint.texts, endpoint.bodies))
    for row in plain.itertuples():
        turns = [f"What {row.task} 0?", "yes", f"What {row.task} 1?", "yes", row.question]
        turns[0] = f"{BRIEF}\n\n{turns[0]}"
        messages = [{"role": role, "content": text} for role, text in zip(["user", "assistant"] * 3, turns)]
        options = {"model": "wise", "temperature": 0, "max_tokens": NEW, "logprobs": True}
        assert by_question[row.question] == options | {"messages": messages}
    assert endpoint.asked[0][1]["Authorization"] == "Bearer of the answers"


def test_without_examples_a_question_is_asked_alone(endpoint, tmp_path):
    questions = asked()
    run(endpoint, tmp_path, questions[questions["split"] != "shot"])
    (message,) = endpoint.bodies[0]["messages"]
    assert message == {"role": "user", "content": f"{BRIEF}\n\n{questions['question'][0]}"}


SURE = [("ra", -0.5), ("in", -1.5)]


@pytest.mark.parametrize(
    "content, tokens, logprobs",
    [
        ("rain", SURE, [-0.5, -1.5]),
        ("rain", [*SURE, ("<|im_end|>", -9.0)], [-0.5, -1.5]),
        ("rain\nIt falls", [*SURE, ("\n", -9.0), ("It", -9.0)], [-0.5, -1.5]),
        ("rain\n", [SURE[0], ("in\n", -1.0)], [-0.5, -1.0]),
        ("rain\rIt", [*SURE, ("\rIt", -9.0)], [-0.5, -1.5]),
        ("\n\n rain", [("\n\n", -9.0), (" ra", -0.5), ("in", -1.0)], [-0.5, -1.0]),
        ("rain", [("rain", 1e-6)], [0.0]),
        ("Zürich", [(b" Z\xc3", -0.5), (b"\xbcrich", -1.0)], [-0.5, -1.0]),
        ("東", [(b"\xe6\x9d", -0.5), (b"\xb1", -1.0)], [-0.5, -1.0]),
        ("", [("<|im_end|>", -0.5)], [-0.5]),
        ("", [("I", -0.5), (" think", -1.0)], []),
        ("rain", [("snow", -0.5)], []),
        ("rain", [("ra", -0.5), ("in", None)], []),
        ("rain", [("ra", -0.5), ("in", -9999.0)], []),
        ("rain", [("ra", -0.5), ("in", float("nan"))], []),
        ("rain", [("ra", -0.5), ("in", 0.7)], []),
        ("rain", [("ra", -0.5), ("in", "-1.5")], []),
        ("rain", [], []),
        ("rain", None, []),
    ],
)
def test_log_probabilities_are_those_of_the_tokens_that_spell_the_answer(endpoint, tmp_path, content, tokens, logprobs):
    table = read(endpoint, tmp_path, chosen(content, tokens))
    assert table["answer"][0] == re.split("[\r\n]", content.strip())[0]
    if logprobs:
        expected = [sum(logprobs), np.mean(logprobs), min(logprobs), len(logprobs)]
        assert table.loc[0, MEASURES].tolist() == pytest.approx(expected)
    else:
        assert table[MEASURES].isna().all(axis=None)
    assert {*table[MEASURES[:3]].dtypes} == {np.dtype("float32")}


@pytest.mark.parametrize(
    "logprobs",
    [None, {}, {"content": None}, {"content": [{}]}, {"content": [None]}, {"tokens": ["rain"], "token_logprobs": [-1]},
     {"content": [{"token": {}, "logprob": -1}]}, {"content": [{"token": "rain", "bytes": [999], "logprob": -1}]}, "?"],
)  # fmt: skip
def test_log_probabilities_of_another_shape_are_none(endpoint, tmp_path, logprobs):
    reply = chosen("rain")
    reply["choices"][0]["logprobs"] = logprobs
    table = read(endpoint, tmp_path, reply)
    assert table["correct"].tolist() == [True] and table[MEASURES].isna().all(axis=None)


def test_an_answer_is_its_first_line_and_an_empty_one_is_wrong(endpoint, tmp_path):
    nothing = {"choices": [{"message": {"role": "assistant"}}]}
    contents = [chosen("snow \nrain"), chosen(""), chosen(None), nothing, chosen(" \n "), chosen("\n rain\r\nsnow")]
    table = read(endpoint, tmp_path, *contents)
    assert sorted(table["answer"]) == ["", "", "", "", "rain", "snow"] and table["correct"].sum() == 1
    assert len(endpoint.asked) == 6 and endpoint.waits == []


THOUGHT = "<think>\nrain?\n</think>"


def test_thoughts_before_an_answer_are_none_of_it_and_have_no_log_probability(endpoint, tmp_path):
    begun = chosen(f"{THOUGHT}\n\nrain", [*zip(["<think>", "\nrain", "?\n", "</think>", "\n\n", "rain"], [-1] * 6)])
    by_template = chosen("rain? Yes.</think>rain", [("rain", -1), ("? Yes.</think>", -1), ("rain", -1)])
    apart = chosen("rain", [("rain", -1), ("? Yes.", -1), ("rain", -1)])
    apart["choices"][0]["message"]["reasoning_content"] = "rain? Yes."
    table = read(endpoint, tmp_path, begun, by_template, apart, chosen(THOUGHT))
    assert sorted(table["answer"]) == ["", "rain", "rain", "rain"] and table["correct"].sum() == 3
    assert table[MEASURES].isna().all(axis=None)


@pytest.mark.parametrize(
    "content, finish", [(None, "length"), ("\n", "length"), (THOUGHT, "length"), ("<think>rain", "stop")]
)
def test_a_reply_that_was_cut_before_its_answer_began_is_missing_and_not_asked_for_again(
    endpoint, tmp_path, content, finish
):
    endpoint.reply = lambda text, count: (200, chosen(content, finish=finish) if count % 3 else chosen("rain"))
    for _ in range(2):
        with pytest.warns(UserWarning, match="^answer: 4 of 6 questions have no answer"):
            answers, missed = both(endpoint, tmp_path)
        assert answers["correct"].all() and missed["why"].tolist() == [answer_api.CUT] * 4
    assert len(endpoint.asked) == 6
    with pytest.raises(WhoknowsError, match="raise answer.max_new_tokens"):
        endpoint.reply = lambda text, count: (200, chosen(content, finish=finish))
        both(endpoint, tmp_path / "none")


def test_a_refusal_is_missing_as_what_a_filter_took_away(endpoint, tmp_path):
    refused, filtered = chosen(None), chosen("", finish="content_filter")
    refused["choices"][0]["message"]["refusal"] = "I can't help with that."
    endpoint.reply = lambda text, count: (200, [chosen("rain"), refused, filtered][count % 3])
    with pytest.warns(UserWarning, match="4 of 6"):
        answers, missed = both(endpoint, tmp_path)
    assert len(answers) == 2
    assert {*missed["why"]} == {f"left out the answer ({why})" for why in ("refusal", "content_filter")}


@pytest.mark.parametrize(
    "content, finish, is_cut",
    [("rain", "length", True), ("rain", "stop", False), ("rain\nIt", "length", False), ("rain\rIt", "length", False)],
)
def test_an_answer_that_was_cut_is_marked(endpoint, tmp_path, content, finish, is_cut):
    assert read(endpoint, tmp_path, chosen(content, finish=finish))["is_cut"].tolist() == [is_cut]


def test_hostile_answers_are_kept_as_text(endpoint, tmp_path):
    texts = ["=1+1", "<script>alert(1)</script>", "\x1b[2Jgone", "nul\0", "\u202etxt", "half \ud800"]
    table = read(endpoint, tmp_path, *map(chosen, texts))
    written = pd.read_parquet(tmp_path / "wise.parquet")["answer"]
    assert written.tolist() == table["answer"].tolist() and {*written} == {*texts[:-1], "half ?"}
    assert (tmp_path / "wise.jsonl").read_text().replace("\n", "").isprintable()


def test_where_no_log_probability_is_said_there_are_no_likelihood_rows(endpoint, tmp_path):
    table = pd.concat(
        [read(endpoint, tmp_path / "some", chosen("rain", SURE), chosen("snow"), chosen("rain", SURE))] * 30
    )
    rows = likelihood_rows("wise", table)
    assert len(rows) == 60 and rows["logit"].notna().all()
    counted = summary(table, table)
    assert counted.loc[:, "AUROC of likelihood"].isna().all(), "all rated answers are right"
    none = likelihood_rows("wise", read(endpoint, tmp_path / "none", chosen("rain")))
    assert len(none) == 0 and none.columns.equals(rows.columns)
    assert none.dtypes[["seed", "logit", "correct"]].equals(rows.dtypes[["seed", "logit", "correct"]])
    assert counted.loc["a", "answers"] + counted.loc["b", "answers"] == 90


def test_an_answer_is_paid_for_once_and_what_changed_is_asked_anew(endpoint, tmp_path):
    first, questions = run(endpoint, tmp_path), asked()
    assert len(endpoint.asked) == 6 and run(endpoint, tmp_path).equals(first) and len(endpoint.asked) == 6
    questions.loc[questions["question_id"] == "q3", "question"] = "What is new?"
    run(endpoint, tmp_path, questions)
    assert endpoint.texts[6:] == ["What is new?"]
    for change in ({"new": 8}, {"model": "wiser"}, {"url": f"{endpoint.url}/other"}):
        before = len(endpoint.asked)
        run(endpoint, tmp_path, questions, **change)
        assert len(endpoint.asked) == before + 6
    questions.loc[questions["question_id"] == "sa0", "question"] = "Another example?"
    before = len(endpoint.asked)
    run(endpoint, tmp_path, questions)
    assert len(endpoint.asked) == before + 3, "its task's questions come after another example"


def test_a_stopped_run_goes_on_with_the_questions_that_are_left(endpoint, tmp_path):
    said = {}
    endpoint.reply = lambda text, count: (200, said.setdefault(text, chosen("rain", SURE))) if count < 4 else (403, "")
    sentence = (
        r"grid, models\[\].api.url: .* answered 403 .* about q\d; .* the key in WHOKNOWS_API_KEY; what was answered"
    )
    with pytest.raises(WhoknowsError, match=sentence):
        run(endpoint, tmp_path)
    assert not (tmp_path / "wise.parquet").exists() and len(said) == 3
    endpoint.asked.clear()
    endpoint.reply = lambda text, count: (200, chosen("snow"))
    table = run(endpoint, tmp_path)
    assert {*endpoint.texts} == {*table["question"]} - {*said} and len(endpoint.asked) == 3
    assert table["correct"].tolist() == [q in said for q in table["question"]]
    assert table["sum_logprob"].notna().tolist() == table["correct"].tolist(), "they are in the log, too"
    assert len([*map(json.loads, (tmp_path / "wise.jsonl").read_text().splitlines())]) == 6


def test_refused_log_probabilities_are_missing(endpoint, tmp_path):
    endpoint.reply = lambda text, count: (400, "") if "logprobs" in endpoint.bodies[count - 1] else (200, "rain")
    with pytest.warns(UserWarning, match="refuses logprobs: its answers have no log-probabilities"):
        table = run(endpoint, tmp_path)
    assert table["correct"].all() and table[MEASURES].isna().all(axis=None) and len(endpoint.asked) == 7


WHY = "answered 400 Bad Request (<b>filtered</b>)"


def test_a_question_that_the_endpoint_refuses_is_missing_and_counted_with_the_reason(endpoint, tmp_path):
    plain = asked()[asked()["split"] != "shot"]
    refused, other = plain["question"].iloc[[0, 3]]

    def reply(text, count):
        if text == refused:
            return 400, failed("<b>filtered</b>")
        return (500, "") if text == other else (200, chosen("rain", SURE))

    endpoint.reply = reply
    with pytest.warns(
        UserWarning, match="^answer: 2 of 6 questions have no answer .* the first one: .* 400 Bad Request"
    ):
        answers, missed = both(endpoint, tmp_path)
    kept = plain[~plain["question"].isin([refused, other])]
    assert answers["question_id"].tolist() == kept["question_id"].tolist() and answers["correct"].all()
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "wise.parquet"), answers)
    without = plain[plain["question"].isin([refused, other])]
    assert missed["question_id"].tolist() == without["question_id"].tolist()
    assert missed["task"].tolist() == without["task"].tolist()
    assert missed["why"].tolist() == [WHY, "answered 500 Internal Server Error"]
    html = answer_api.missed_html(missed)
    assert "2 questions have no answer, and are missing from its results" in html
    assert "<b>" not in html and "answered 400 Bad Request (&lt;b&gt;filtered&lt;/b&gt;)" in html
    assert answer_api.counts(answers, missed, asked())["answers"].sum() == 4
    assert "every question" in answer_api.missed_html(missed[:0])
    endpoint.reply = lambda text, count: (200, chosen("snow"))
    assert len(run(endpoint, tmp_path)) == 6, "another run asks for them again"


def test_a_question_without_an_answer_is_none_without_a_verdict(endpoint, tmp_path):
    kind = f"judge {endpoint.url} wise"
    first = asked()["question"][asked()["split"] != "shot"].iloc[0]
    endpoint.reply = lambda text, count: (400, "") if text == first else (200, "yes")
    with pytest.warns(UserWarning, match="1 of 6"):
        answers, missed = both(endpoint, tmp_path, asked().assign(kind=kind))
    table = answer_api.counts(answers, missed, asked().assign(kind=kind))
    assert table["answers"].sum() == 5 and table["without a verdict"].sum() == 0


def test_where_no_question_has_an_answer_the_stage_ends(endpoint, tmp_path):
    endpoint.reply = lambda text, count: (400, failed("no model wise"))
    with pytest.raises(WhoknowsError, match=r"answered 400 Bad Request \(no model wise\)"):
        both(endpoint, tmp_path)
    assert not (tmp_path / "wise.parquet").exists()


def test_nothing_to_ask(endpoint, tmp_path):
    with pytest.raises(WhoknowsError, match="no question beside its few-shot examples"):
        run(endpoint, tmp_path, asked(0))
    assert endpoint.asked == []


def test_the_notebook_asks_shows_and_writes_rows(endpoint, tmp_path):
    endpoint.reply = lambda text, count: (200, chosen("rain", SURE) if count % 2 else chosen("", finish="stop"))
    asked().to_parquet(tmp_path / "questions.parquet")
    cells = jupytext.read(ROOT / "notebooks/answer_api.py", fmt="py:percent").cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    names = {"model": "hosted", "api": {"url": endpoint.url, "model": "wise"}, "max_new_tokens": NEW}
    names |= {"questions": str(tmp_path / "questions.parquet"), "out": str(tmp_path / "out.parquet")}
    names["rows_out"] = str(tmp_path / "rows.parquet")
    for source in code[1:-2]:
        exec(source, names)
    table = eval(code[-2].splitlines()[-1], (exec(code[-2], names), names)[1])
    assert table["empty"].sum() == table["with a probability"].sum() == 3
    exec(code[-1], names)
    assert len(pd.read_parquet(tmp_path / "out.parquet")) == 6
    assert set(pd.read_parquet(tmp_path / "rows.parquet")["scored"]) == {"hosted"}
