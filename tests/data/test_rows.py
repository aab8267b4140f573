"""Rows have the columns that metrics are computed from, and hidden states come back as they were written."""

import numpy as np
import pandas as pd
import pytest
import torch

from made_up import save_hidden
from whoknows import WhoknowsError
from whoknows.data.rows import example_rows, is_of, learned
from whoknows.estimators.hidden import load_hidden
from whoknows.evaluation import scores


@pytest.fixture
def answers():
    values = {"task": ["sciq"] * 3, "split": ["test"] * 3, "question_id": list("abc"), "correct": [True, False, True]}
    return pd.DataFrame(values | {"answer": list("xyz")}, index=[7, 3, 5])


@pytest.mark.parametrize(
    "logit",
    [torch.tensor([1.0, -1.0, 2.0], dtype=torch.bfloat16).float(), np.array([1.0, -1.0, 2.0]), [1.0, -1.0, 2.0]],
)
def test_one_row_for_each_answer_in_the_order_of_the_answers(answers, logit):
    rows = example_rows(answers, method="probe", reader="r", trained_on="t", scored="s", seed=3, logit=logit)
    assert list(rows) == [*scores.CELL, "task", "split", "question_id", "seed", "logit", "correct"]
    assert rows["question_id"].tolist() == ["a", "b", "c"] and rows["correct"].tolist() == [True, False, True]
    assert rows["logit"].tolist() == [1.0, -1.0, 2.0] and rows["logit"].dtype == np.float32
    assert scores.by_task(rows)["auroc"].tolist() == [1.0]


def test_a_task_is_left_out_with_all_topics_of_its_file():
    tasks = pd.Series(["arc_easy", "arc_easy_mc", "mine_x", "mine_y", "cities"])
    assert tasks[is_of(tasks, "arc_easy")].tolist() == ["arc_easy"] and not is_of(tasks, None).any()
    more = pd.Series(["mmlu_anatomy", "mmlu_mc_anatomy", "arc_physics", "arc_easy"])
    assert more[is_of(more, "mmlu")].tolist() == ["mmlu_anatomy"], "the other is of another built-in task"
    assert more[is_of(more, "arc")].tolist() == ["arc_physics"], "a file's topic, and a built-in task"
    frame = pd.DataFrame({"task": tasks, "split": "train"})
    assert learned({"m": frame}, "m", "mine")["task"].tolist() == ["arc_easy", "arc_easy_mc", "cities"]


def test_hidden_states_of_other_answers_are_refused(answers, tmp_path):
    hidden = torch.randn(3, 2, 4).to(torch.bfloat16)
    save_hidden(str(tmp_path), "m", hidden)
    assert torch.equal(load_hidden(str(tmp_path), "r", "m", answers), hidden)
    with pytest.raises(WhoknowsError, match="m.safetensors holds 3 answers where there are 2"):
        load_hidden(str(tmp_path), "r", "m", answers[:2])
