"""Seeds divide what is not for testing anew, the same for all models."""

import pandas as pd
import pytest

from made_up import answers
from whoknows import WhoknowsError
from whoknows.data.rows import aligned, divided, every, for_seed, smaller

FRAME = answers(["x"] * 300, split=["train"] * 160 + ["validation"] * 40 + ["test"] * 100, task=["a", "b"] * 150)


def held(frame):
    return set(frame.loc[frame["split"] == "validation", "question_id"])


def test_seed_0_is_the_division_of_the_questions_file():
    assert for_seed(FRAME, 0).equals(FRAME)


def test_test_questions_and_sizes_stay():
    for seed in (1, 2):
        again = for_seed(FRAME, seed)
        assert ((again["split"] == "test") == (FRAME["split"] == "test")).all()
        assert again.groupby(["task", "split"]).size().equals(FRAME.groupby(["task", "split"]).size())
        assert again.drop(columns="split").equals(FRAME.drop(columns="split"))


def test_seeds_differ_and_repeat():
    assert len({frozenset(held(for_seed(FRAME, seed))) for seed in range(4)}) == 4
    assert held(for_seed(FRAME, 1)) == held(for_seed(FRAME, 1))


def test_the_division_is_the_same_for_all_models_whatever_they_answered():
    other = FRAME.assign(answer="y", correct=True).sample(frac=1, random_state=0)
    assert held(for_seed(other, 3)) == held(for_seed(FRAME, 3))


def test_a_model_that_left_questions_out_has_the_division_of_those_that_did_not():
    few = FRAME[FRAME.index % 3 != 0].reset_index(drop=True)
    for seed in (0, 1):
        whole, part = divided({"few": few, "all": FRAME}, seed).values()
        assert list(whole.index) == [at for at in FRAME.index if at % 3], "places among all questions"
        assert whole["split"].equals(for_seed(FRAME, seed)["split"][whole.index]) and len(part) == len(FRAME)
    assert held(for_seed(few, 1)) != held(whole), "by itself it would have been divided otherwise"
    assert every({"few": few, "all": FRAME}) is FRAME


def test_where_no_model_answered_all_the_questions_are_those_of_all_in_their_order():
    parts = {name: FRAME[FRAME.index % 5 != left].reset_index(drop=True) for left, name in enumerate("abc")}
    pd.testing.assert_frame_equal(every(parts), FRAME)
    for seed in (0, 1):
        for left, frame in enumerate(divided(parts, seed).values()):
            assert list(frame.index) == [at for at in FRAME.index if at % 5 != left]
            assert frame["split"].equals(for_seed(FRAME, seed)["split"][frame.index])
    with pytest.raises(WhoknowsError, match="answers of b are not to the same questions"):
        aligned(parts | {"b": parts["b"][::-1]})


@pytest.mark.parametrize("other", [FRAME[::-1], FRAME[:2].assign(question_id="new"), FRAME.iloc[[0, 0]]])
def test_answers_to_other_questions_or_in_another_order_are_refused(other):
    with pytest.raises(WhoknowsError, match="answers of two are not to the same questions as the others': delete ans"):
        aligned({"one": FRAME, "two": other})


def test_a_seed_decides_which_training_answers_a_smaller_size_has():
    def learnt(seed, size):
        few = smaller(FRAME, [size], seed)[size]
        return set(few.loc[few["split"] == "train", "question_id"])

    assert learnt(1, 40) == learnt(1, 40) != learnt(2, 40) and learnt(1, 40) < learnt(1, 80)
