"""Answers that a user brings in a file: matched to the questions, graded, and every mistake in them a sentence."""

import csv
import json

import numpy as np
import pandas as pd
import pytest

from whoknows import WhoknowsError
from whoknows.data import files
from whoknows.stages import answer_file
from whoknows.stages.answered import likelihood_rows, summary

SPLITS = ["shot", "train", "train", "validation", "validation", "test", "test", "test"]
QUESTIONS = pd.DataFrame({
    "question_id": [f"t-{i}" for i in range(8)], "task": "t", "split": SPLITS,
    "question": [f"What is number {i}?" for i in range(8)], "gold": [[str(i)] for i in range(8)], "kind": "open",
})  # fmt: skip
GOOD = [{"question": f"what is NUMBER {i}", "answer": str(i) if i % 2 else "no idea"} for i in range(8)]


def read(tmp_path, rows, columns=None, questions=QUESTIONS):
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return answer_file.read(questions, str(tmp_path / "a.jsonl"), columns or {})


def test_answers_are_matched_by_their_questions_words_and_graded(tmp_path):
    answers, sentence = read(tmp_path, GOOD[::-1])
    assert answers["question_id"].tolist() == [f"t-{i}" for i in range(1, 8)], "in the order of the questions"
    assert answers["correct"].tolist() == [True, False] * 3 + [True] and "sum_logprob" not in answers
    assert sentence == (
        "The file has answers to 7 of 7 questions. "
        "Answers graded in the file: 0; graded here: 7; with a logprob: 0. So there is no likelihood for this model."
    ), "the few-shot example is no question to it"


def test_an_answer_to_a_question_with_another_sign_matches_none(tmp_path):
    others = [{"question": f"What is number {sign}?", "answer": "no"} for sign in ("-5", "5%", ".5")]
    answers, sentence = read(tmp_path, GOOD[:5] + others)
    assert "t-5" not in {*answers["question_id"]} and "left out: 3." in sentence


def test_an_empty_answer_is_wrong_and_a_missing_one_is_missing(tmp_path):
    rows = GOOD[:5] + [{"question": "What is number 5?", "answer": ""}, {"question": "What is number 6?"}]
    answers, sentence = read(tmp_path, rows)
    assert answers["question_id"].tolist() == [f"t-{i}" for i in range(1, 6)]
    assert answers["answer"].iloc[-1] == "" and not answers["correct"].iloc[-1]
    assert "answers to 5 of 7 questions. The other 2 are missing" in sentence


def test_an_empty_cell_is_missing_unless_it_is_graded(tmp_path):
    lines = [f"What is number {i}?,{'' if i > 4 else i},{'FALSE' if i in (1, 3, 5) else ''}" for i in range(8)]
    (tmp_path / "a.csv").write_text("\n".join(["question,answer,correct", *lines]))
    answers, sentence = answer_file.read(QUESTIONS, str(tmp_path / "a.csv"), {})
    assert answers["answer"].tolist() == ["1", "2", "3", "4", ""] and not answers["correct"].iloc[-1]
    assert "answers to 5 of 7 questions" in sentence and "graded in the file: 3; graded here: 2;" in sentence


def test_an_id_beside_words_that_are_no_question_counts(tmp_path):
    rows = [{"question_id": f"t-{i}", "question": "" if i % 2 else "What?", "answer": str(i % 2 * i)} for i in range(8)]
    assert read(tmp_path, rows)[0]["answer"].tolist() == ["1", "0", "3", "0", "5", "0", "7"]


def test_answers_that_name_no_letter_are_counted(tmp_path):
    choices = QUESTIONS.assign(kind="choice", gold=[["B"]] * 8)
    rows = [row | {"answer": "I think B" if n % 2 else "iron"} for n, row in enumerate(GOOD)]
    answers, sentence = read(tmp_path, [*rows[:7], rows[7] | {"correct": True, "answer": "iron"}], questions=choices)
    assert answers["correct"].tolist() == [True, False] * 3 + [True]
    assert sentence.endswith("no likelihood for this model. Answers that name no letter of a choice, and are wrong: 3.")
    with pytest.raises(WhoknowsError, match="no right .* Answers that name no letter of a choice, and are wrong: 7"):
        read(tmp_path, [row | {"answer": "iron"} for row in rows], questions=choices)


YES_NO = "yes No,TRUE false,1 0,WAHR FALSCH,VRAI faux,Y n,t F,1.00 0.00"


@pytest.mark.parametrize("yes, no", [(True, False), (1, 0), *map(str.split, YES_NO.split(","))])
def test_grades_and_log_probabilities_in_the_file_stand(tmp_path, yes, no):
    grades = [no, yes, no, yes, no, yes, no, None]
    rows = [
        {"question_id": f"t-{i}", "reply": str(i), "ok": grade, "lp": -i / 2 if i < 6 else None}
        for i, grade in enumerate(grades)
    ]
    answers, sentence = read(tmp_path, rows, {"answer": "reply", "correct": "ok", "logprob": "lp"})
    assert answers["correct"].tolist() == [True, False] * 3 + [True], "the last one was graded here"
    assert answers["given"].tolist() == [True] * 6 + [False]
    assert answers["correct"].dtype == bool
    np.testing.assert_array_equal(answers["sum_logprob"], np.float32([-0.5, -1, -1.5, -2, -2.5, np.nan, np.nan]))
    assert "graded in the file: 6; graded here: 1; with a logprob: 5." in sentence
    assert likelihood_rows("m", answers)["question_id"].tolist() == ["t-3", "t-4", "t-5"], "missing is missing"
    assert likelihood_rows("m", answers.drop(columns="sum_logprob")).empty
    assert summary(answers.drop(columns="sum_logprob"), answers)["AUROC of likelihood"].isna().all()


def test_columns_in_capitals_count_as_ours(tmp_path):
    lines = [f"What is number {i}?;{i};{'FALSE' if i % 2 else 'TRUE'};-1" for i in range(8)]
    (tmp_path / "a.csv").write_text("\r\n".join(["\ufeffQuestion;Answer;Correct;LogProb", *lines, ";;;", ""]))
    answers, sentence = answer_file.read(QUESTIONS, str(tmp_path / "a.csv"), {})
    assert answers["correct"].tolist() == [False, True] * 3 + [False] and (answers["sum_logprob"] == -1).all()
    assert "graded in the file: 7; graded here: 0; with a logprob: 7." in sentence


BIG = 121932631112635269  # has more digits than a float


def test_numbers_are_texts_and_half_a_surrogate_harms_nobody(tmp_path):
    rows = [
        {"question_id": f"t-{i}", "answer": answer} for i, answer in enumerate([9, 1, 2.5, 3, "\ud800=1", BIG, 6, 7])
    ]
    answers, _ = read(tmp_path, rows)
    assert answers["answer"].tolist() == ["1", "2.5", "3", "?=1", str(BIG), "6", "7"] and answers["correct"].iloc[0]
    files.write_parquet(tmp_path / "out.parquet", answers)


def without(rows, **changes):
    return [row | changes if at == 1 else row for at, row in enumerate(rows)]


@pytest.mark.parametrize(
    "rows, sentence",
    [
        ([*GOOD, {"question": "What is number 6?", "answer": "6"}], ", line 9: line 7 has another answer to the same"),
        (without(GOOD, question_id="t-9\x1b[31m"), ", line 2: there is no question_id 't-9\\x1b[31m'; take those of"),
        (
            without(GOOD, question_id="1001"),
            ", line 2: there is no question_id '1001'; take those of questions"
            ".parquet, or rename that column, so that the question counts.",
        ),
        (
            without(GOOD, question_id="t-2"),
            ", line 2: the question is that of the question_id 't-1', but the"
            " row has 't-2'; correct one of the two, or remove one of these columns.",
        ),
        (without(GOOD, question_id="t-0"), ", line 2: the question is that of the question_id 't-1', but"),
        (without(GOOD, question_id=["t-1"]), ", line 2: there is no question_id ['t-1']"),
        (without(GOOD, question=None), ", line 2: it has no question; write its words, or its question_id."),
        (without(GOOD, answer=["a"]), ", line 2: the answer ['a'] is no text; write it in quotes."),
        (without(GOOD, correct="maybe"), ", line 2: correct is 'maybe'; write true or false, or leave it empty"),
        (without(GOOD, logprob=0.1), ", line 2: logprob is 0.1; write a number of 0 or less, with a point, or"),
        (without(GOOD, logprob="-inf"), ", line 2: logprob is '-inf'; write a number of 0 or less"),
        (without(GOOD, logprob="-3,132"), ", line 2: logprob is '-3,132'; write a number of 0 or less, with a point"),
        (without(GOOD, logprob="−3.1"), ", line 2: logprob is '−3.1'; write a number"),
        (without(GOOD, logprob="-1_0"), ", line 2: logprob is '-1_0'; write a number"),
        (without(GOOD, logprob=True), ", line 2: logprob is True; write a number"),
        ([{"question": "Else?", "answer": "a"}], ": none of its answers is to a question of this grid; compare its"),
        ([{"answer": "a"}], ": it has neither a column question nor question_id; add one, or name it in columns."),
        ([{"question": "a"}], ": there is no column 'answer'; it has question."),
        ([row | {"correct": True} for row in GOOD], ": no wrong answer among the training answers, so nothing can be"),
        (GOOD[5:], ": no training answers, so nothing can be learned from them; add some, or correct grades."),
        (GOOD[:4], ": no wrong answer among the validation answers, so nothing"),
    ],
)
def test_a_mistake_is_one_sentence_with_the_line(tmp_path, rows, sentence):
    with pytest.raises(WhoknowsError) as caught:
        read(tmp_path, rows)
    assert str(caught.value).startswith(f"{tmp_path / 'a.jsonl'}{sentence}") and "\n" not in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_line_ends_within_cells_count_alike(tmp_path, end):
    rows = [row | {"answer": f"{row['answer']}{end}{end}so"} for row in GOOD]
    with open(tmp_path / "a.csv", "w", newline="") as file:
        csv.writer(file).writerows([["question", "answer"], *(row.values() for row in rows)])
    of_csv, _ = answer_file.read(QUESTIONS, str(tmp_path / "a.csv"), {})
    of_jsonl, _ = read(tmp_path, [*rows, rows[1] | {"answer": "1\n\nso"}])
    assert of_csv["answer"].tolist() == of_jsonl["answer"].tolist() and of_csv["answer"][0] == "1\n\nso"


def test_a_title_above_the_names_of_the_columns_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("Replies of GPT;\nquestion;answer\nWhat is number 1?;1\n")
    with pytest.raises(WhoknowsError) as caught:
        answer_file.read(QUESTIONS, str(tmp_path / "a.csv"), {"answer": "reply"})
    assert str(caught.value) == (
        f"{tmp_path / 'a.csv'}: there is no column 'reply'; its first line, which has to name the columns, has "
        "Replies of GPT. Put the names there, rename one, or write columns: {answer: NAME} in the grid."
    )


@pytest.mark.parametrize(
    "cell", ["#N/A", "#NAME?", "#DIV/0!", "#REF!", "#VALUE!", "#NUM!", "#NULL!", "Err:502", "######"]
)
def test_an_error_of_a_spreadsheet_is_no_answer_but_a_model_may_write_one(tmp_path, cell):
    lines = [f"What is number {i}?,{cell if i == 2 else i}" for i in range(8)]
    (tmp_path / "a.csv").write_text("\n".join(["question,answer", *lines]))
    with pytest.raises(WhoknowsError, match=r"a.csv, line 4: .* with an apostrophe before it\.$"):
        answer_file.read(QUESTIONS, str(tmp_path / "a.csv"), {})
    assert cell in read(tmp_path, [*GOOD[:7], GOOD[7] | {"answer": cell}])[0]["answer"].tolist()


def test_the_stage_writes_what_it_read_and_refuses_a_file_that_changed_since(tmp_path):
    read(tmp_path, GOOD)
    path, out = str(tmp_path / "a.jsonl"), tmp_path / "out.parquet"
    graded, _ = answer_file.run(QUESTIONS, path, {}, files.digest(path), str(out))
    written = pd.read_parquet(out)
    assert written["correct"].tolist() == graded["correct"].tolist() and written["answer"].tolist()[0] == "1"
    with pytest.raises(
        WhoknowsError, match="a.jsonl: this file was changed after the run began; run `make book` again."
    ):
        answer_file.run(QUESTIONS, path, {}, "another", str(out))
