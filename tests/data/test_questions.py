"""Splits depend on a question's words alone; nothing asked is in two splits or among the examples."""

import gzip
import itertools
import json

import pandas as pd
import pyarrow as pa
import pytest

from whoknows import WhoknowsError
from whoknows.data import assets, questions
from whoknows.data.questions import build, load, normalise, split_of
from whoknows.data.tasks import CATEGORIES, FOLDERS, PLACES, TASKS, category_of

SHARES = {"train": 0.5, "validation": 0.2, "test": 0.3}
FETCH = assets.fetch
COUNTS = {
    "trivia_qa": 7993, "sciq": 989, "nq_open": 3610, "mmlu": 13856, "sciq_mc": 1000, "mmlu_mc": 13930,
    "sciq_passage": 559, "common_knowledge": 1024, "string_operations": 711, "cities": 2705, "capitals": 227,
}  # fmt: skip


def write(root, folder, rows):
    path = root / folder / "data-00000-of-00001.arrow"
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)


def labelled(question, gold, choices):
    return {
        "question": question,
        "choices": {"text": choices, "label": list("ABCDE")[: len(choices)]},
        "answerKey": "ABCDE"[choices.index(gold)],
    }


@pytest.fixture(autouse=True)
def asset(tmp_path, monkeypatch):
    """Sixty questions of each kind, in the asset's own layout; some are shared between sets."""
    monkeypatch.setattr(assets, "fetch", lambda name: tmp_path)
    names = [f"Who made thing number {i}?" for i in range(60)]
    write(
        tmp_path,
        FOLDERS["trivia_qa"],
        [{"question": q, "answer": {"value": "Bob", "aliases": ["BOB", "Bob"]}} for q in names],
    )
    nq = [f"  which   city has river {i} " for i in range(50)] + [f"WHO made the thing number {i}" for i in range(20)]
    write(tmp_path, FOLDERS["nq_open"], [{"question": q, "answer": ["Rome", "Roma"]} for q in nq])
    sciq = [
        {
            "question": f"What is gas {i}?",
            "correct_answer": "iron",
            "distractor1": "zinc",
            "distractor2": "gold",
            "distractor3": "air",
        }
        for i in range(60)
    ]
    sciq.append({**sciq[3], "question": "What is  a GAS 3"})
    sciq[7]["question"] = "Which of the following is a metal?"
    write(tmp_path, FOLDERS["sciq"], sciq)
    write(
        tmp_path,
        FOLDERS["arc_easy"],
        [labelled(f"Why is leaf {i} green?", "light", ["water", "light"]) for i in range(30)],
    )
    for subject, name in itertools.product(("anatomy", "astronomy", "virology"), range(20)):
        rows = [
            {
                "question": f"{subject} {name} {i}: which of the following?",
                "choices": ["a1", "b1", "c1", "d1"],
                "answer": i % 4,
            }
            for i in range(20)
        ]
        write(tmp_path, f"{FOLDERS['mmlu']}/{subject}/test", rows)
    return tmp_path


def task(name, size, role="train"):
    return {"name": name, "size": size, "role": role}


def test_the_split_is_that_of_the_question_whatever_the_grid():
    small = build([task("trivia_qa", 20)], SHARES, 2)
    large = build([task("sciq", 30), task("trivia_qa", 50)], SHARES, 2)
    both = small.merge(large, on="question", suffixes=("", "_large"))
    assert len(both) == 22
    assert (both["split"] == both["split_large"]).all() and (both["question_id"] == both["question_id_large"]).all()
    asked = large[large["split"] != "shot"]
    assert (asked["split"] == [split_of(q, SHARES) for q in asked["question"]]).all()


def test_the_split_ignores_case_articles_and_punctuation():
    for i in range(40):
        assert split_of(f"Who made thing number {i}?", SHARES) == split_of(f"who made THE thing, number {i}", SHARES)


def test_splits_have_their_shares():
    shares = pd.Series([split_of(f"question {i}", SHARES) for i in range(4000)]).value_counts(normalize=True)
    assert shares.to_dict() == pytest.approx(SHARES, abs=0.03)
    assert {split_of(f"question {i}", {"train": 1.0, "validation": 0.0, "test": 0.0}) for i in range(100)} == {"train"}


def test_shares_that_do_not_sum_to_one_are_refused():
    with pytest.raises(WhoknowsError, match="splits should sum to 1, but sum to 0.7"):
        build([], {"train": 0.5, "validation": 0.1, "test": 0.1}, 0)


def test_what_only_tests_may_be_asked_in_both_forms_and_what_was_trained_on_in_neither():
    def stems(table, name):
        return set(table.loc[table["task"].str.startswith(name), "question"].map(lambda q: normalise(q.split("\n")[0])))

    tasks = [
        task("arc_easy", 10, "shift"),
        task("arc_easy_mc", 28, "shift"),
        task("sciq_mc", 30),
        task("sciq", 20, "shift"),
    ]
    table = build(tasks, SHARES, 2)
    open_ones = stems(table[~table["task"].str.endswith("_mc")], "arc_easy")
    assert len(open_ones) == 12 and open_ones < stems(table, "arc_easy_mc")
    shown = table[table["split"] == "shot"]
    assert stems(shown[~shown["task"].str.endswith("_mc")], "arc_easy") == stems(shown, "arc_easy_mc"), (
        "and the examples are the same"
    )
    assert not stems(table, "sciq_mc") & stems(table[table["task"] == "sciq"], "sciq")
    assert table["question_id"].is_unique and set(table.loc[table["task"].str.startswith("arc"), "split"]) == {
        "shot",
        "test",
    }
    with pytest.raises(WhoknowsError, match="has 20 questions beside"):
        build([task("arc_easy", 10, "shift"), task("arc_easy_mc", 28)], SHARES, 0)


def test_long_examples_are_fewer_and_one_is_always_there(monkeypatch):
    chosen = [len(q) for q in build([task("nq_open", 20)], SHARES, 16).query("split == 'shot'")["question"]]
    assert len(chosen) == 16
    for limit, count in [(sum(chosen), 16), (sum(chosen) - 1, 15), (1, 1)]:
        monkeypatch.setattr(questions, "SHOTS_LENGTH", limit)
        assert (build([task("nq_open", 20)], SHARES, 16)["split"] == "shot").sum() == count


@pytest.mark.parametrize("order", [["trivia_qa", "nq_open"], ["nq_open", "trivia_qa"]])
def test_no_question_is_in_two_splits_or_tasks_and_no_example_is_asked(order):
    sizes = {"trivia_qa": 35, "nq_open": 45}
    table = build([task(name, sizes[name]) for name in order], SHARES, 5)
    keys = [normalise(q) for q in table["question"]]
    assert len(set(keys)) == len(keys) and table["question_id"].is_unique
    assert table.groupby("task")["split"].apply(lambda s: (s == "shot").sum()).to_dict() == {
        "trivia_qa": 5,
        "nq_open": 5,
    }


def test_a_question_in_both_its_forms_is_in_one_split_and_asked_once():
    for names in (["sciq", "sciq_mc"], ["sciq_mc", "sciq"]):
        table = build([task(name, 25) for name in names], SHARES, 3)
        assert table["question"].str.split("\n").str[0].is_unique
    shift = build([task("sciq", 25), task("sciq_mc", 25, "shift")], SHARES, 3)
    assert shift["question"].str.split("\n").str[0].is_unique
    alone = build([task("sciq_mc", 50)], SHARES, 3)
    asked = alone[alone["split"] != "shot"]
    assert (asked["split"] == [split_of(q.split("\n")[0], SHARES) for q in asked["question"]]).all()


def test_shift_tasks_are_tested_only():
    table = build([task("trivia_qa", 30), task("nq_open", 40, "shift")], SHARES, 4)
    assert set(table.loc[table["task"] == "nq_open", "split"]) == {"test", "shot"}
    assert set(table.loc[table["task"] == "trivia_qa", "split"]) == {"train", "validation", "test", "shot"}


def test_a_larger_size_keeps_the_questions_of_a_smaller():
    small, large = (set(build([task("trivia_qa", size)], SHARES, 2)["question"]) for size in (10, 40))
    assert small < large


def test_more_questions_than_there_are():
    with pytest.raises(
        WhoknowsError, match=r"task 'trivia_qa' has 56 questions beside .* asks for 57: lower tasks\[\]\.size"
    ):
        build([task("trivia_qa", 57)], SHARES, 4)
    build([task("trivia_qa", 56)], SHARES, 4)


def test_an_unknown_task_is_named_with_those_that_are_known():
    with pytest.raises(WhoknowsError, match="unknown task 'trivia'; known tasks: trivia_qa, sciq"):
        load("trivia")


def test_open_questions_that_point_at_their_choices_are_left_out():
    assert len(load("sciq")) == 59 and len(load("sciq_mc")) == 60
    assert len(load("mmlu")) == 60  # kept whole, as in the paper


def test_answers_and_choices():
    assert load("trivia_qa")["gold"][0] == ["Bob", "BOB"]
    assert load("nq_open")["question"][0] == "which city has river 0"
    row = load("sciq_mc").iloc[0]
    assert row["question"] == "What is gas 0?\nChoices:\n(A): air\n(B): gold\n(C): iron\n(D): zinc"
    assert (row["gold"], row["kind"]) == (["C"], "choice")
    assert load("arc_easy")["gold"][0] == ["light"] and load("arc_easy_mc")["gold"][0] == ["B"]
    assert load("sciq")["kind"][0] == "open"


def test_a_passage_is_short_holds_the_answer_and_its_question_is_asked_once(asset):
    choices = {"correct_answer": "iron", "distractor1": "zinc", "distractor2": "gold", "distractor3": "air"}
    passages = ["Gas  0 is an\nIron.", "It is irony.", "", "iron " * 101]
    rows = [choices | {"question": f"What is gas {i}?", "support": passage} for i, passage in enumerate(passages)]
    write(
        asset,
        FOLDERS["sciq_passage"],
        rows + [{**rows[0], "question": "Which of these is it?"}, {**rows[0], "question": "What is gas 5?"}],
    )
    table = load("sciq_passage")
    assert table["question"].tolist() == [
        "What is gas 0?\nPassage: Gas 0 is an Iron.",
        "What is gas 5?\nPassage: Gas 0 is an Iron.",
    ]
    assert table["stem"].tolist() == ["what is gas 0", "what is gas 5"] and set(table["kind"]) == {"open"}
    both = build([task("sciq_passage", 1, "shift"), task("sciq", 4, "shift")], SHARES, 0)
    assert both["question"].map(lambda q: normalise(q.split("\n")[0])).is_unique


def test_basic_skills_are_asked_where_grading_tells_right_from_wrong(asset):
    asked = [
        ("The number of legs of a cat is", ["five", "four"], 1), ("The length of 'ab' is", ["3", "2"], 1),
        ("'Ab' in lower case is", ["AB", "ab"], 1), ("Repeating '!' yields", ["!", "!!"], 1),
        ("Trimming '  ab' gives", ["ab", "b"], 0), ("Joining 'a' and 'b' gives", ["ab", "ab c"], 0),
        ("The reverse of 'ab' is", ["ab", "ba"], 1),
    ]  # fmt: skip
    requests = [
        {"doc": {"question": q, "choices": choices, "gold": gold}, "idx": idx, "label": gold}
        for q, choices, gold in asked
        for idx in (0, 1)
    ]
    folder = asset / FOLDERS["string_operations"]
    folder.mkdir(parents=True)
    with gzip.open(folder / "requests.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(request) + "\n" for request in requests)
    table = load("string_operations")
    assert dict(zip(table["question"], table["gold"])) == {
        asked[0][0]: ["four", "4"],
        asked[1][0]: ["2", "two"],
        asked[6][0]: ["ba"],
    }


def test_mmlu_is_spread_evenly_over_its_subjects():
    table = build([task("mmlu", 24, "shift")], SHARES, 2)
    asked = table[table["split"] == "test"]["task"].value_counts().to_dict()
    assert asked == {"mmlu_anatomy": 8, "mmlu_astronomy": 8, "mmlu_virology": 8}
    assert (table[table["split"] == "shot"]["task"].value_counts() == 2).all()


def test_categories():
    names = ("mmlu_anatomy", "mmlu_mc_virology", "mmlu_astronomy", "mmlu_philosophy", "sciq", "trivia_qa")
    assert [category_of(name) for name in names] == ["other", "other", "STEM", "humanities", None, None]
    assert category_of("mmlu_econometrics") == "social sciences"


def test_normalised_words():
    assert normalise("The  U.S.A., an (old) Thing!") == "usa old thing"
    assert normalise("A") == "" and normalise("theatre") == "theatre"


@pytest.mark.slow
def test_the_real_questions(monkeypatch):
    monkeypatch.setattr(assets, "fetch", FETCH)
    for name in TASKS:
        table = load(name)
        assert len(table) == COUNTS.get(name, len(table)) > 200 and table["gold"].str.len().min() > 0, name
        assert set(table["kind"]) == {"choice" if name.endswith("_mc") else "name" if name in PLACES else "open"}
    subjects = load("mmlu")["task"].unique()
    assert len(subjects) == 57
    named = " ".join(CATEGORIES.values()).split()
    assert len(named) == len(set(named)) and set(named) <= {subject.removeprefix("mmlu_") for subject in subjects}
    counts = pd.Series([category_of(subject) for subject in subjects]).value_counts().to_dict()
    assert counts == {"STEM": 18, "humanities": 13, "social sciences": 12, "other": 14}
