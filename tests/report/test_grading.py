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


def verdicts(folder, **right):
    files.write_parquet(folder / "a.parquet", pd.DataFrame({"question_id": [*right], "right": [*right.values()]}))
    return str(folder)


MISSING = pd.NA


def test_the_judge_is_taken_for_what_it_read_and_for_nothing_else(tmp_path):
    judge = verdicts(tmp_path / "judged", q0=False, q3=True, q4=True)
    table = graded(tmp_path, judge)
    assert table["judge"].tolist() == [False, MISSING, MISSING, True, True], "of five test answers it read three"
    assert table["contains"].tolist() == [True, True, True, False, False]
    table = graded(tmp_path, judge, split=["test", "test", "train", "validation", "test"])
    assert table["judge"].tolist() == [False, MISSING, True, False, True], "it reads test answers alone"
    kinds = ["choice", "open", "name", "judge http://localhost/v1 wise", "open"]
    assert graded(tmp_path, judge, kind=kinds)["judge"].tolist() == [True, MISSING, True, False, True]
    assert "judge" not in graded(tmp_path, str(tmp_path / "nowhere"))


def test_answers_without_a_verdict_are_counted_and_left_out_of_the_agreement(tmp_path):
    table = graded(tmp_path, verdicts(tmp_path / "judged", q0=True, q1=True, q4=True), split=["test"] * 4 + ["train"])
    line = grading.agreement(table, TASKS).iloc[0]
    # q0 is right in all four gradings, q1 in all but exact match; q2 and q3 have no verdict.
    assert (line["answers"], line["contains"], line["exact"], line["f1"], line["judge"]) == (2, 2, 1, 2, 2)
    assert line["all agree"] == 0.5
    sentence = (
        " The judge gave no verdict on 2 of 4 test answers (2 of a). They are left out of its heatmaps and of the "
        "table of agreement."
    )
    assert grading.judged_sentences(table) == sentence
    mine = grading.judged_sentences(table.assign(in_the_run=["a judge model", *[grading.OPEN] * 4]))
    assert mine.endswith(sentence.replace("2 of 4", "2 of 3")), "on those that it graded it is not compared"
    two = pd.concat([table, table.assign(scored="b", judge=True), table[:3].assign(scored="c")])
    assert "on 3 of 11 test answers (2 of a and 1 of c)" in grading.judged_sentences(two)
    assert grading.judged_sentences(table.assign(judge=True)) == grading.judged_sentences(graded(tmp_path)) == ""


def test_the_files_of_answers_are_read_once(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(grading.files, "read_parquet", lambda path: read.append(path) or pd.read_parquet(path))
    grading.judged_sentences(graded(tmp_path, kind="judge http://localhost/v1 wise"))
    assert read == [tmp_path / "a.parquet"]


def test_tasks_that_the_judge_grades_keep_its_grades_and_the_page_says_so(tmp_path):
    table = graded(tmp_path, kind="judge http://localhost/v1 <b>wise</b>", correct=[False, True, False, True, False])
    for name in ("exact", "f1"):
        assert table[name].equals(table["contains"].rename(name))
    sentence = (
        " The run has graded the answers to `made_up` by a judge model. Only answers to questions that are graded by "
        "exact match or containment are graded in other ways here; all others keep the run's grades."
    )
    assert grading.run_sentences(table, TASKS) == sentence and grading.judged_sentences(table) == ""


def test_the_page_names_the_grading_that_each_task_has(tmp_path):
    kinds = {
        "open": "exact match or containment",
        "name": "the name before the first comma or bracket",
        "exact": "exact match",
        "f1": "token F1 of one half or more",
        "choice": "the letter of the choice",
        "number 0.5": "the first number",
        "judge http://localhost/v1 wise": "a judge model",
    }
    for kind, how in kinds.items():
        said = grading.run_sentences(graded(tmp_path, kind=kind), TASKS)
        assert said.startswith(f" The run has graded the answers to `made_up` by {how}.")
        assert ("Only answers" in said) == (kind != "open")
    several = {"task": ["a", "mmlu_x", "mmlu_y", "b", "c"], "kind": ["open", "choice", "choice", "open", "number"]}
    table = graded(tmp_path, **several, split=["test"] * 4 + ["train"])
    assert grading.run_sentences(table, [{"name": name, "role": "train"} for name in ("a", "b", "c", "mmlu")]) == (
        " The run has graded the answers to `a`, `b` by exact match or containment; the answers to `mmlu` by the "
        "letter of the choice. Only answers to questions that are graded by exact match or containment are graded in "
        "other ways here; all others keep the run's grades."
    )
    assert "containment" not in "".join(grading.GRADINGS.values()), "of some tasks it would not be true"


def test_grades_that_came_with_the_answers_are_not_said_to_be_the_runs(tmp_path):
    table = graded(tmp_path, given=[True, False, True, True, False], task=["x", "x", "y", "x", "x"])
    assert grading.run_sentences(table, [{"name": name, "role": "train"} for name in "xy"]) == (
        " The run has graded the answers of a to `x`, `y` by the grades that came with them; "
        "the answers to `x` by exact match or containment."
    )
    assert grading.held_sentences(table).startswith("Of 2 open test questions")
    assert grading.held_sentences(table.assign(given=True)).startswith("The run has graded no answer to an open")


def test_agreement_counts_test_answers(tmp_path):
    table = graded(tmp_path, split=["test", "test", "test", "train", "train"])
    line = grading.agreement(table, TASKS).iloc[0]
    assert (line["answers"], line["contains"], line["exact"], line["f1"]) == (3, 3, 1, 2) and line[
        "all agree"
    ] == pytest.approx(1 / 3)
    assert "33.3\u00a0%" in grading.agreement_html(grading.agreement(table, TASKS))


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
    other = table[:2].assign(question_id=["x", "y"], in_the_run="exact match", held=False, echo=False)
    assert (
        grading.held_sentences(pd.concat([table, other]))
        == "Of 5 open test questions, 4 hold an accepted answer themselves. "
        "Answers that hold no other one, and count as wrong for it: 1 of a."
    )
    choices = graded(tmp_path, question=asked, kind="choice")
    assert not choices[["held", "echo"]].any(axis=None)
    assert grading.held_sentences(choices) == (
        "The run has graded no answer to an open test question, so that this does not apply here."
    )


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
    assert "they move by 0.00 on average" in grading.grading_sentences(table)


def test_where_no_cell_has_enough_answers_no_number_is_said_and_one_model_has_no_reading(tmp_path):
    rows = make_rows(np.arange(5), [True] * 3 + [False] * 2, "made_up", reader="a", trained_on="a", scored="a")
    rows = rows.assign(question_id=[f"q{i}" for i in range(5)])
    said = grading.grading_sentences(grading.heatmaps_under(rows, graded(tmp_path), ["a"], TASKS))
    assert said == "On in-distribution test questions, no cell has a value with the run's own grades."


def test_an_answer_without_a_verdict_is_in_no_cell_of_the_judge(tmp_path):
    """Where it counted with the run's grade, the judge's cell would not be perfect."""
    logit = [3.0, 2.0, 1.0, 0.0, -1.0] * 60
    rows = make_rows(
        logit, [True, True, True, False, False] * 60, "made_up", reader="a", trained_on="a", scored="a"
    ).assign(question_id=[f"q{i}" for i in range(300)])
    # The judge finds the first two of each five right, the last wrong, and reads neither the third nor the fourth.
    right = {f"q{at}": at % 5 < 2 for at in range(300) if at % 5 in (0, 1, 4)}
    table = grading.heatmaps_under(
        rows, graded(tmp_path, verdicts(tmp_path / "judged", **right), times=60), ["a"], TASKS
    )
    cells = table[(table["method"] == "probe") & (table["reading"] == "A")].set_index("grading")
    judge, usual = cells.loc[grading.GRADINGS["judge"]], cells.loc[grading.GRADINGS["contains"]]
    assert (judge["n"], judge["n_right"], judge["auroc"]) == (180, 120, 1.0) and usual["n"] == 300


def test_a_model_without_the_file_of_its_verdicts_has_none(tmp_path):
    right = [True, False] * 60
    parts = [make_rows([1.0, 0.0] * 60, right, "made_up", scored=scored, reader="a") for scored in ("a", "b")]
    frame = answers(["the sun", "moon"] * 60, right).assign(question_id=parts[0]["question_id"])
    for name in ("a", "b"):
        files.write_parquet(tmp_path / f"{name}.parquet", frame)
    paths = {name: str(tmp_path / f"{name}.parquet") for name in ("a", "b")}
    table = grading.grades(paths, verdicts(tmp_path / "judged", **dict(zip(frame["question_id"], right))))
    assert table["judge"].isna().tolist() == [False] * 120 + [True] * 120
    assert "no verdict on 120 of 240 test answers (120 of b)" in grading.judged_sentences(table)
    cells = grading.heatmaps_under(pd.concat(parts, ignore_index=True), table, ["a", "b"], TASKS)
    mine = cells[(cells["grading"] == grading.GRADINGS["judge"]) & (cells["reading"] == "A")].set_index("model")
    assert mine.query("method == 'probe' and trained_on == 'a'")["auroc"].fillna(-1).to_dict() == {"a": 1.0, "b": -1.0}
