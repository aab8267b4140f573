"""The same answers graded in other ways: what changes, and what may not."""

import numpy as np
import pandas as pd
import pytest

from made_up import answers, make_rows
from whoknows.data import files
from whoknows.report.pages import grading

TASKS = [{"name": "made_up", "role": "train"}]


@pytest.mark.parametrize(
    "answer, f1", [("the sun", 1.0), ("Sun!", 1.0), ("a red sun", 2 / 3), ("sun sun", 2 / 3), ("moon", 0.0), ("", 0.0)]
)
def test_token_f1_by_hand(answer, f1):
    assert grading.token_f1(answer, ["moonlight", "the sun"]) == pytest.approx(f1)


def test_an_accepted_answer_without_words_is_right_as_it_stands_under_each_grading(tmp_path):
    files.write_parquet(
        tmp_path / "a.parquet",
        answers(["A", "", "“the sun”"], [True, False, True]).assign(gold=[["A"], ["A"], ["The Sun"]]),
    )
    table = grading.grades({"a": str(tmp_path / "a.parquet")})
    for name in ("exact", "f1"):
        assert table[name].tolist() == [True, False, True]


def graded(tmp_path, judged=None, times=1, **columns):
    texts = ["the sun", "it is the sun", "the red sun of morning and evening", "sunny", ""] * times
    frame = answers(texts, [True, True, True, False, False] * times).assign(**columns)
    files.write_parquet(tmp_path / "a.parquet", frame)
    return grading.grades({"a": str(tmp_path / "a.parquet"), "b": str(tmp_path / "none.parquet")}, judged)


def test_grades_by_hand(tmp_path):
    table = graded(tmp_path)
    assert table["contains"].tolist() == [True, True, True, False, False]
    assert table["exact"].tolist() == [True, False, False, False, False]
    assert table["f1"].tolist() == [True, True, False, False, False]
    assert set(table["scored"]) == {"a"} and "judge" not in table


@pytest.mark.parametrize("kind", ["choice", "name"])
def test_choices_and_names_have_one_grading(tmp_path, kind):
    table = graded(tmp_path, kind=kind)
    assert table["exact"].equals(table["contains"].rename("exact")) and table["f1"].equals(
        table["contains"].rename("f1")
    )


def test_the_judge_is_taken_for_what_it_read(tmp_path):
    folder = tmp_path / "judged"
    files.write_parquet(folder / "a.parquet", pd.DataFrame({"question_id": ["q0", "q4"], "right": [False, True]}))
    assert graded(tmp_path, str(folder))["judge"].tolist() == [False, True, True, False, True]


def test_tasks_that_the_judge_grades_keep_its_grades_and_the_page_says_so(tmp_path):
    table = graded(tmp_path, kind="judge http://localhost/v1 <b>wise</b>", correct=[False, True, False, True, False])
    for name in ("exact", "f1"):
        assert table[name].equals(table["contains"].rename(name))
    answers = {"a": str(tmp_path / "a.parquet"), "b": str(tmp_path / "none.parquet")}
    sentence = " A judge graded the answers to `made_up` for the run: here they keep its grades in each grading."
    assert grading.judged_sentence(answers) == sentence
    graded(tmp_path)
    assert grading.judged_sentence(answers) == ""


def test_agreement_counts_test_answers(tmp_path):
    table = graded(tmp_path, split=["test", "test", "test", "train", "train"])
    line = grading.agreement(table, TASKS).iloc[0]
    assert (line["answers"], line["contains"], line["exact"], line["f1"]) == (3, 3, 1, 2) and line[
        "all agree"
    ] == pytest.approx(1 / 3)
    assert "33.3%" in grading.agreement_html(grading.agreement(table, TASKS))


def test_what_the_question_holds_is_counted(tmp_path):
    asked = ["Who sees the sun?", "Is it the sun\nor the moon?", "Where is it?", "A sun or a moon?", "The sun?"]
    table = graded(tmp_path, question=asked, correct=[False, True, True, False, False])
    assert table["held"].tolist() == [True, True, False, True, True] and table["echo"].tolist() == [
        True,
        False,
        False,
        False,
        False,
    ]
    assert (
        grading.held_sentences(table) == "Of 5 test questions, 4 hold an accepted answer themselves. "
        "Answers that hold no other one, and count as wrong for it: 1 of a."
    )
    assert not graded(tmp_path, question=asked, kind="choice")[["held", "echo"]].any(axis=None)


def test_another_name_that_the_question_holds_is_right_in_no_grading(tmp_path):
    table = graded(tmp_path, question="What is Sol, or the sun?", gold=[["Helios", "the sun"]] * 5, correct=False)
    assert not table[["contains", "exact", "f1"]].any(axis=None) and table["echo"].tolist() == [
        True,
        True,
        True,
        False,
        False,
    ]


def test_the_heatmaps_follow_the_grades_and_the_estimators_stay(tmp_path):
    logit = [3.0, 2.0, 1.0, 0.0, -1.0] * 25
    rows = make_rows(
        logit, [True, True, True, False, False] * 25, "made_up", reader="a", trained_on="a", scored="a"
    ).assign(question_id=[f"q{i}" for i in range(125)])
    rows["correct"] = np.array([False, True, True, True, False] * 25)  # whatever the rows say, the grades decide
    table = grading.heatmaps_under(rows, graded(tmp_path, times=25), ["a"], TASKS)
    cells = table[(table["method"] == "probe") & (table["reading"] == "A")].set_index("grading")
    assert cells["n_right"].to_dict() == {
        grading.GRADINGS["contains"]: 75,
        grading.GRADINGS["exact"]: 25,
        grading.GRADINGS["f1"]: 50,
    }
    assert (cells["auroc"] == 1.0).all() and "pooled_auroc" not in table, "without an interval no metric stands there"
    assert "they move by +0.00 on average" in grading.grading_sentences(table)
