"""Questions that users bring: what is read, what is left out, and what is refused before anything runs."""

import json

import pandas as pd
import pytest

from whoknows import WhoknowsError
from whoknows.data import questions
from whoknows.data.grading import canonical, named
from whoknows.data.question_files import LONGEST, advice, load

SHARES = {"train": 0.5, "validation": 0.2, "test": 0.3}
MANY = [{"question": f"Who made thing {n}?", "answer": f"Maker {n}"} for n in range(60)]


def task(path, rows: list[dict] | str, role: str = "train", **keys) -> dict:
    text = rows if isinstance(rows, str) else "\n".join(map(json.dumps, rows))
    file = path / ("mine.csv" if isinstance(rows, str) else "mine.jsonl")
    file.write_text(text, encoding="utf-8")
    return {"name": "mine", "role": role, "file": str(file)} | keys


def test_a_spreadsheet_of_questions(tmp_path):
    table = load(
        task(
            tmp_path,
            "\ufeffquestion;answers;id\r\n  Who   was she? ;Ada|Ada Lovelace;q1\r\nWhy?;;\r\n".replace(
                "Why?;;", "Why?;so;"
            ),
        )
    )
    assert table["question"].tolist() == ["Who was she?", "Why?"]
    assert table["gold"].tolist() == [["Ada", "Ada Lovelace"], ["so"]]
    assert table["kind"].tolist() == ["open", "open"] and table["id"].tolist() == ["q1", ""]


def test_numbers_are_answers_as_they_are_written(tmp_path):
    rows = [{"question": "How many?", "answer": 7}, {"question": "How much?", "answers": [0.5, "a half"]}]
    assert load(task(tmp_path, rows))["gold"].tolist() == [["7"], ["0.5", "a half"]]


def test_numbers_in_lists_of_parquet_are_answers_too(tmp_path):
    mine = task(tmp_path, MANY) | {"file": str(tmp_path / "mine.parquet")}
    pd.DataFrame({"question": ["How many?", "How much?"], "answers": [[4, 5], [6]]}).to_parquet(mine["file"])
    assert load(mine)["gold"].tolist() == [["4", "5"], ["6"]]
    pd.DataFrame({"question": ["How much?"], "answers": [[0.5, 4.0]]}).to_parquet(mine["file"])
    assert load(mine)["gold"].tolist() == [["0.5", "4"]]


def test_what_is_one_number_is_a_number(tmp_path):
    texts = [
        "1,500",
        "1/2",
        "-.5",
        "50 %",
        "$5",
        "3e8",
        "1.5E+3",
        "\uff15",
        "-3 kWh-eq/m",
        "US$ 5",
        "2½",
        "–5",
        "10³ m",
        "minus 5",
        "2 1/2 cups",
        "8.1 billion",
        "300 K",
    ]
    rows = [{"question": f"How many {n}?", "answer": text} for n, text in enumerate(texts)]
    assert [*load(task(tmp_path, rows, grading="number"))["gold"]] == [[text] for text in texts]


@pytest.mark.parametrize("ours, other", [("answers", "answer"), ("answers", "Answer"), ("answer", "answers")])
def test_where_one_column_of_answers_is_named_the_other_is_taken_only_if_it_is_named_too(tmp_path, ours, other):
    rows = [{"question": "Who?", "gold": "Ada", other: "Bob"}]
    assert load(task(tmp_path, rows, columns={ours: "gold"}))["gold"].tolist() == [["Ada"]]
    both = load(task(tmp_path, rows, columns={ours: "gold", other.lower(): other}))
    assert sorted(both["gold"][0]) == ["Ada", "Bob"]


def test_columns_in_capitals_count_as_ours(tmp_path):
    rows = "Question;Answer;Split;ID\r\nWho?;Ada;test;7\r\nWhy?;so;train;8\r\n"
    table = load(task(tmp_path, rows))
    assert table["split"].tolist() == ["test", "train"] and table["id"].tolist() == ["7", "8"]


def test_all_are_asked_where_the_grid_names_no_size_and_few_are_examples(tmp_path):
    table = questions.build([task(tmp_path, MANY)], SHARES, shots=16)
    assert len(table) == 60 and (table["split"] == "shot").sum() == 60 // questions.FEW
    assert {*table["split"]} == {"train", "validation", "test", "shot"}
    assert len(questions.build([task(tmp_path, MANY[:3], "shift")], SHARES, shots=16)) == 3
    assert (questions.build([task(tmp_path, MANY, size=20)], SHARES, 2)["split"] != "shot").sum() == 20


def test_a_question_is_in_the_split_of_its_words_whatever_file_it_is_in(tmp_path):
    table = questions.build([task(tmp_path, MANY)], SHARES, shots=0)
    assert table["split"].tolist() == [questions.split_of(text, SHARES) for text in table["question"]]


def test_splits_that_the_file_gives_stand_and_test_questions_are_never_examples(tmp_path):
    given = ["test", "train", "validation", ""]
    rows = [row | {"split": given[n % 4]} for n, row in enumerate(MANY)]
    table = questions.build([task(tmp_path, rows)], SHARES, shots=9).set_index("question")
    for row in rows:
        if row["split"]:
            allowed = {row["split"], "shot"} if row["split"] == "train" else {row["split"]}
            assert table["split"][row["question"]] in allowed
    assert (table["split"] == "shot").sum() == 9


def test_examples_that_the_file_names_are_the_only_ones(tmp_path):
    rows = [row | {"split": "shot"} for row in MANY[:3]] + MANY[3:]
    table = questions.build([task(tmp_path, rows)], SHARES, shots=2)
    assert table["question"][table["split"] == "shot"].isin([row["question"] for row in MANY[:3]]).all()
    assert len(table) == 57 + 2


def test_a_shift_task_asks_no_question_that_is_for_training(tmp_path):
    rows = [row | {"split": "train" if n < 50 else "test"} for n, row in enumerate(MANY)]
    with pytest.warns(UserWarning, match="50 of 60 questions are left out: 50 are for training"):
        table = questions.build([task(tmp_path, rows, "shift")], SHARES, shots=0)
    assert {*table["question"]} == {row["question"] for row in MANY[50:]}


def test_topics_are_tasks_of_their_own_and_ids_are_kept(tmp_path):
    rows = [row | {"task": "Organic <b>chemistry</b>" if n % 2 else "C#", "id": n} for n, row in enumerate(MANY)]
    table = questions.build([task(tmp_path, rows)], SHARES, shots=0)
    assert {*table["task"]} == {"mine_C", "mine_Organic-b-chemistry-b"}
    assert {"mine_C-0", "mine_Organic-b-chemistry-b-1"} <= {*table["question_id"]}


@pytest.mark.parametrize(
    "one, two, sentence",
    [
        (("math", {"id": "hard-1"}), ("math-hard", {"id": "1"}), "two questions have the question_id 'math-hard-1'; "),
        (("quiz", {}), ("quiz", {}), "the tasks 'quiz' and 'quiz' both have questions called 'quiz'; rename one"),
        (("arc_easy", {}), ("arc", {"task": "easy"}), "'arc_easy' and 'arc' both have questions called 'arc_easy'; "),
        (("quiz_a", {}), ("quiz", {"task": "a_b"}), "'quiz_a_b' of the task 'quiz' would count as those of 'quiz_a';"),
    ],
)
def test_two_tasks_with_a_name_or_an_id_in_common_are_refused(one, two, sentence, tmp_path):
    tasks = []
    for at, (name, keys) in enumerate((one, two)):
        (tmp_path / str(at)).mkdir()
        tasks.append(task(tmp_path / str(at), [MANY[at] | keys]) | {"name": name})
    with pytest.raises(WhoknowsError, match=sentence):
        questions.build(tasks, SHARES, shots=0)


def test_what_is_left_out_is_counted(tmp_path):
    rows = [*MANY, MANY[3] | {"question": "WHO made thing 3"}, {"question": "x" * (LONGEST + 1), "answer": "y"}]
    with pytest.warns(
        UserWarning, match="2 of 62 questions are left out: 1 stand there twice; 1 are longer than 8,000"
    ):
        table = load(task(tmp_path, rows))
    assert len(table) == 60


def test_a_question_with_other_punctuation_stands_there_twice_and_with_other_answers_is_in_the_same_split(tmp_path):
    forms = ("¿Quién escribió el libro {}?", "Quién escribió el libro {}?")
    same = [{"question": form.format(n), "answer": f"Autor {n}"} for n in range(30) for form in forms]
    with pytest.warns(UserWarning, match="30 of 60 questions are left out: 30 stand there twice"):
        assert len(questions.build([task(tmp_path, same)], SHARES, shots=0)) == 30
    other = [row | {"answer": f"{row['answer']} {at}"} for at, row in enumerate(same)]
    table = questions.build([task(tmp_path, other)], SHARES, shots=0)
    assert len(table) == 60 and table["split"].nunique() == 3
    assert (table.groupby(table["question"].str.strip("¿"))["split"].nunique() == 1).all()


def test_questions_that_differ_in_a_sign_are_all_asked_under_their_own_ids(tmp_path):
    texts = ["How much is 5 + 3?", "How much is 5 - 3?", "How much is 5 × 3?"]
    table = questions.build([task(tmp_path, [{"question": q, "answer": a} for q, a in zip(texts, "827")])], SHARES, 0)
    assert {*table["question"]} == {*texts} and table["question_id"].is_unique
    # the id of a question that no other one is taken for is that of its words, whatever else the file asks
    alone = questions.build([task(tmp_path, [{"question": texts[2], "answer": "7"}])], SHARES, 0)
    assert {*alone["question_id"]} < {*table["question_id"]}


def test_numbers_that_are_compared_as_texts_and_bars_that_split_nothing_are_said(tmp_path):
    texts = ["8|eight", "1.50", "-2", "$5", "x\r\ny"]
    rows = [{"question": f"How many {n}?", "answer": text} for n, text in enumerate(texts)]
    bars, lines, numbers = advice(load(task(tmp_path, rows)))
    assert bars.startswith("1 questions have an accepted answer with a |, which is part of it: only the column answers")
    assert lines.startswith("1 questions have an accepted answer of several lines, which is one; in the column")
    assert numbers.startswith("The accepted answers of 3 questions are numbers, compared as texts, so 1.50 is not 1.5;")
    assert advice(load(task(tmp_path, rows[1:4], grading="number"))) == []
    assert advice(load(task(tmp_path, MANY + rows[1:4]))) == []
    (parted,) = advice(load(task(tmp_path, [*MANY, {"question": "Which metal?", "answer": "Zn; zinc"}])))
    assert parted.startswith("1 questions have an accepted answer with a ;, which is part of it: only the column")


def test_questions_that_hold_their_answer_are_counted(tmp_path):
    rows = [*MANY, {"question": "Is gold or silver heavier?", "answer": "gold"}]
    (said,) = advice(load(task(tmp_path, rows)))
    assert said.startswith("1 questions hold an accepted answer in their first line, so an answer with other words of")
    assert advice(load(task(tmp_path, rows, grading="exact"))) == []


def test_what_an_earlier_task_has_is_left_out_and_counted(tmp_path):
    (tmp_path / "b").mkdir()
    later = task(tmp_path / "b", MANY[:10] + [{"question": "New?", "answer": "yes"}], "shift") | {"name": "later"}
    with pytest.warns(UserWarning, match="10 questions are left out: an earlier task has them"):
        table = questions.build([task(tmp_path, MANY), later], SHARES, shots=0)
    assert table["question"].is_unique and (table["task"] == "later").sum() == 1


@pytest.mark.parametrize("role", ["train", "shift"])
def test_a_question_in_other_signs_or_letters_of_the_same_look_is_the_earlier_task_s(tmp_path, role):
    (tmp_path / "b").mkdir()
    rows = [row | {"question": f"What's the café – or bar – of land {n}?"} for n, row in enumerate(MANY)]
    looks = str.maketrans({"'": "’", "–": "-", "é": "e\u0301"})
    other = [row | {"question": row["question"].translate(looks)} for row in rows]
    later = task(tmp_path / "b", [*other, {"question": "New?", "answer": "yes"}], role) | {"name": "later"}
    with pytest.warns(UserWarning, match="60 questions are left out: an earlier task has them"):
        table = questions.build([task(tmp_path, rows), later], SHARES, shots=2)
    assert (table["split"] == "shot").sum() == 2 and len(table) == 61
    mixed = [row | {"choices": ["x", "y"], "answer": "xy"[n % 2]} for n, row in enumerate(rows)]
    mixed += [row | {"choices": ["v", "w"], "answer": "v"} for row in other]
    asked = questions.build([task(tmp_path, mixed)], SHARES, shots=0)
    same = asked["question"].map(lambda text: canonical(text.split("\n")[0]))
    assert asked.groupby(same)["split"].agg(["size", "nunique"]).eq([2, 1]).all(axis=None), "in one file one split"


def test_a_question_that_differs_from_an_earlier_task_s_in_a_sign_is_asked(tmp_path):
    (tmp_path / "b").mkdir()
    plus, minus = ([row | {"question": f"What is {n} {sign} 4?"} for n, row in enumerate(MANY)] for sign in "+-")
    table = questions.build([task(tmp_path, plus), task(tmp_path / "b", minus, "shift") | {"name": "b"}], SHARES, 0)
    assert len(table) == 120 and table["question_id"].is_unique


def test_choices_get_letters_and_the_accepted_one_is_named_by_text_or_letter(tmp_path):
    rows = [
        {"question": "Which gas?", "choices": ["iron", "helium"], "answer": "helium"},
        {"question": "Which metal?", "choices": "iron|helium|air", "answer": "a"},
    ]
    table = load(task(tmp_path, rows))
    assert table["question"][0] == "Which gas?\nChoices:\n(A): iron\n(B): helium"
    assert table["gold"].tolist() == [["B"], ["A"]] and {*table["kind"]} == {"choice"}
    assert table["stem"].tolist() == ["which gas", "which metal"]


def test_the_grading_is_that_of_the_grid(tmp_path):
    rows = [{"question": "How many?", "answer": "1,000 or so"}]
    assert load(task(tmp_path, rows, grading="number", tolerance=0.5))["kind"].tolist() == ["number 0.5"]
    assert load(task(tmp_path, rows, grading="f1"))["kind"].tolist() == ["f1"]
    by = {"url": "http://localhost/v1", "model": "wise one"}
    judged = load(task(tmp_path, rows, grading="judge", judge=by))["kind"].tolist()
    assert judged == ["judge http://localhost/v1 wise one"] and named(judged[0]) == "judge wise one"
    assert [*map(named, ("open", "number 0.5", "name"))] == ["contains", "number", "name"]


SQUAD = {"text": ["Denver Broncos", "Broncos"], "answer_start": [7, 14]}


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    "cell, path", [(SQUAD, "answers.text"), ({"value": "x", "aliases": SQUAD["text"]}, "answers.aliases")]
)
def test_accepted_answers_may_lie_in_a_struct_as_squad_and_trivia_qa_have_them(form, cell, path, tmp_path):
    rows = [{"question": "Who won?", "answers": cell}, {"question": "Who lost?", "answers": cell}]
    mine = task(tmp_path, rows, columns={"answers": path})
    if form == "parquet":
        mine["file"] = str(tmp_path / "mine.parquet")
        pd.DataFrame(rows).to_parquet(mine["file"])
    assert load(mine)["gold"].tolist() == [SQUAD["text"]] * 2


A, B = MANY[:2]


@pytest.mark.parametrize(
    "rows, keys, sentence",
    [
        ([A, {"question": " ?", "answer": "b"}], {}, "line 2: the question is empty"),
        ([A, {"question": "b", "answer": ""}], {}, "line 2: the question has no accepted answer"),
        ([A, {"question": "b", "answers": [" "]}], {}, "line 2: the question has no accepted answer"),
        ([A, {"question": ["b"], "answer": "c"}], {}, r"line 2: \['b'\] is no text"),
        ([A, {"question": "b\ud800", "answer": "c"}], {}, "line 2: a text holds half a character"),
        ([A, A | {"answer": "another"}], {}, "line 2: .* in line 1 already, with other accepted answers"),
        ([A | {"split": "train"}, A | {"split": "test"}], {}, "line 2: .* in line 1 already, with another split"),
        ([A | {"split": "train"}, A], {}, "line 2: .* in line 1 already, with another split"),
        ([A | {"task": "C++"}, B | {"task": "C#"}], {}, r"line 2: the topics 'C#' and 'C\+\+' are both the task"),
        ([A | {"task": "algebra"}, B], {}, "line 2: the question has no topic, but others have one in the column task"),
        ([A | {"split": "exam"}], {}, "line 1: the split is 'exam'; write train, validation, test or shot"),
        ([A | {"id": 1}, B | {"id": "1"}], {}, "line 2: another question has the id '1'"),
        ([A], {"grading": "choice"}, "line 1: the question has 0 choices; give two to 10"),
        ([A | {"choices": ["x", "x"]}], {}, "line 1: two choices are the same"),
        ([A | {"choices": ["x", "y"]}], {}, "line 1: the accepted answer 'Maker 0' should be one of the choices"),
        ([row | {"choices": ["B", "C"], "answer": "B"} for row in (A, B)], {}, "right choice is A in every line"),
        *(([A | {"answer": text}], {"grading": "number"}, f"line 1: the accepted answer '{text}' is not one number")
          for text in ("many", "1,5", "1.000,5", "1 000", "2020-01-02", "1/2/2020", "2 or 3", "2-Jan", "2. Jan",
                       "#DIV/0!", "0,125", "6,022e23", "1e400", "5M", "5 hundredths", "2π")),
        *(([A, B | {"answer": "", "answers": cell}], {}, r"line 2: .* is no list; write .* or Sn\|stannum")
          for cell in ("['Sn', 'stannum']", "[“Au”, “aurum”]", "[Fe(CN)6]3-|x")),
        *((f"question,answer,choices\n{row}", {}, f"line 2: '{cell}' is an error: the spreadsheet could not compute")
          for cell, row in (("#N/A", "a,#N/A,"), ("#NAME.", " #NAME? ,b,"), ("Err:502", "a,b,Err:502"),
                            ("########", "a,########,"))),
        ("My study;;\nquestion;answer;id\na;b;\n", {}, "its first line, which has to name the columns, has My study. "),
        ([{"question": "b", "gold": "c"}], {}, "no column 'answer' or 'answers'; it has question, gold. Rename one"),
        ([{"prompt": "b", "answer": "c"}], {}, "no column 'question'; it has prompt, answer"),
        ([A], {"columns": {"id": "number"}}, "there is no column 'number'"),
        ([{"question": "b", "answers": {"text": ["c"]}}], {}, "has parts; name one .* {answers: answers.text}"),
        *(([A | {name: {"of": ["c"]}}], {}, "line 1: {'of': .*'c'.*} has parts; name one") for name in ("id", "task")),
    ],
)  # fmt: skip
def test_a_bad_line_is_named_with_the_fix(rows, keys, sentence, tmp_path):
    with pytest.raises(WhoknowsError, match=sentence):
        load(task(tmp_path, rows, **keys))


def test_too_few_questions_are_said(tmp_path):
    with pytest.raises(WhoknowsError, match="task 'mine' has 60 questions beside its few-shot examples, .* for 100"):
        questions.build([task(tmp_path, MANY, size=100)], SHARES, shots=0)
    rows = [row | {"split": "shot"} for row in MANY]
    with pytest.raises(WhoknowsError, match="has 0 questions .* bring more questions"):
        questions.build([task(tmp_path, rows)], SHARES, shots=16)
    learned = [row | {"split": "train"} for row in MANY]
    with pytest.raises(WhoknowsError, match="has 0 questions .* bring more"), pytest.warns(UserWarning, match="60 of"):
        questions.build([task(tmp_path, learned, "shift")], SHARES, shots=16)
