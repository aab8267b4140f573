"""Thresholds, stacks, picks and hand-offs, held against loops over answers."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from made_up import make_rows
from whoknows import WhoknowsError
from whoknows.evaluation import bootstrap, decisions

RNG = np.random.default_rng(5)


def answers(method, logit, correct, split, seed=0, **names):
    trained = "" if method in ("likelihood", "zero_shot") else "a"
    reader = "" if method == "likelihood" else "a"
    names = {"reader": reader, "trained_on": trained, "scored": "a", "split": split, "seed": seed} | names
    return make_rows(logit, correct, method=method, **names).assign(
        question_id=[f"{split}{at}" for at in range(len(logit))]
    )


def two_seeds(held=80, tested=60):
    """Rows of a likelihood, with validation answers of the first seed, and of a probe, with others in each seed."""
    parts, correct = [], {split: RNG.random(held + tested) < 0.5 for split in ("validation", "test")}
    for method, seeds in (("likelihood", [0]), ("probe", [0, 1])):
        for seed in seeds:
            for split, count in (("validation", held), ("test", tested)):
                right = correct[split][:count]
                rows = answers(method, RNG.normal(size=count) + right * (1 + seed), right, split, seed)
                # the second seed's probe was trained on the first five and has other validation answers
                parts.append(rows[5:] if (seed, split) == (1, "validation") else rows)
    return pd.concat(parts, ignore_index=True)


def test_answers_stand_side_by_side_where_all_methods_scored_them():
    rows = two_seeds()
    rows = rows[~((rows["method"] == "likelihood") & (rows["question_id"] == "test7"))]
    table = decisions.side_by_side(rows, 1, "validation")
    assert len(table) == 75 and {*table} == {"correct", "likelihood", "probe"}
    line = table.loc[("trivia_qa", "validation9")]
    asked = rows[rows["question_id"] == "validation9"].set_index(["method", "seed"])
    assert line["likelihood"] == asked.loc[("likelihood", 0), "logit"]
    assert line["probe"] == asked.loc[("probe", 1), "logit"] != asked.loc[("probe", 0), "logit"]
    tables = decisions.tested(rows)
    assert [*tables] == [0, 1] and [len(table) for table in tables.values()] == [59, 59]
    missing = (rows["method"] == "probe") & (rows["seed"] == 1) & (rows["question_id"] == "test3")
    assert [len(table) for table in decisions.tested(rows[~missing]).values()] == [58, 58], "the same for all seeds"
    with pytest.raises(WhoknowsError, match="NaN"):
        decisions.side_by_side(rows.assign(logit=np.nan), 0, "test")
    alone = decisions.tested(rows[rows["method"] == "likelihood"])
    assert [*alone] == [0], "what needs no training has the seed of its rows"
    both = decisions.of_both(tables, {1: tables[1].iloc[::2], 2: tables[0]})
    assert [*both] == [1] and [len(table) for table in both[1]] == [30, 30]
    assert decisions.of_both(tables, {}) == {}


def test_a_stack_is_a_logistic_regression_on_standardised_validation_answers():
    rows = two_seeds()
    stacked = decisions.stacked(rows)
    assert stacked.groupby(["method", "seed"]).size().to_dict() == {
        ("likelihood", 0): 60, ("probe", 0): 60, ("probe", 1): 60,
        ("likelihood + probe", 0): 60, ("likelihood + probe", 1): 60,
    }  # fmt: skip
    assert stacked.groupby("seed")["n_validation"].unique().map(list).to_dict() == {0: [80], 1: [75]}
    for seed in (0, 1):
        wide = {}
        for split in ("validation", "test"):
            part = rows[rows["split"] == split]
            mine = [part[part["method"] == "likelihood"], part[(part["method"] == "probe") & (part["seed"] == seed)]]
            wide[split] = mine[0].merge(mine[1], on=["question_id", "correct"])
        held, test = (wide[split][["logit_x", "logit_y"]].to_numpy(float) for split in ("validation", "test"))
        centre, spread = held.mean(0), held.std(0)
        fitted = LogisticRegression().fit((held - centre) / spread, wide["validation"]["correct"])
        expected = pd.Series(fitted.decision_function((test - centre) / spread), wide["test"]["question_id"])
        got = stacked[(stacked["method"] == "likelihood + probe") & (stacked["seed"] == seed)].set_index("question_id")
        assert np.allclose(got["logit"], expected[got.index], atol=1e-4)
        assert (got["correct"] == wide["test"].set_index("question_id")["correct"][got.index]).all()


def test_a_stack_knows_no_test_grade():
    rows = two_seeds()
    other = rows.assign(correct=rows["correct"] ^ (rows["split"] == "test"))
    assert np.array_equal(decisions.stacked(rows)["logit"], decisions.stacked(other)["logit"])


def test_a_stack_needs_a_likelihood_another_method_and_enough_validation_answers_of_both_classes():
    rows = two_seeds()
    for part in (rows[rows["method"] == "probe"], rows[rows["method"] == "likelihood"], rows[rows["split"] == "test"]):
        assert decisions.stacked(part).empty
    few = two_seeds(held=27)
    assert decisions.stacked(few).empty
    third = answers("zero_shot", RNG.normal(size=60), rows["correct"][rows["split"] == "test"][:60], "test")
    held = answers("zero_shot", RNG.normal(size=80), rows["correct"][rows["split"] == "validation"][:80], "validation")
    names = {*decisions.stacked(pd.concat([rows, third, held]))["method"]}
    assert {"likelihood + zero_shot", "likelihood + zero_shot + probe"} < names and "zero_shot + probe" not in names


@pytest.mark.parametrize("right", [0.5, 0.7, 0.9])
def test_a_threshold_answers_the_most_that_is_right_often_enough_on_validation(right):
    logit = RNG.normal(size=200).round(1)  # with many ties
    correct = RNG.random(200) < 1 / (1 + np.exp(-2 * logit))
    good = [cut for cut in {*logit} if (logit >= cut).sum() >= 25 and correct[logit >= cut].mean() >= right - 1e-12]
    assert decisions.threshold(logit, correct, right) == (min(good) if good else np.inf)


def test_a_threshold_of_few_answers_of_ties_or_of_none():
    correct = np.r_[np.ones(24, bool), np.zeros(76, bool)]
    assert decisions.threshold(-np.arange(100.0), correct, 0.99) == np.inf, "24 right ones are too few"
    assert decisions.threshold(-np.arange(100.0), correct, 0.99, least=24) == -23
    assert (
        decisions.threshold(np.zeros(100), correct, 0.3) == np.inf
        and decisions.threshold(np.zeros(100), correct, 0.24) == 0
    )
    assert np.isnan(decisions.threshold(np.array([]), np.array([], bool), 0.7))
    exact = np.r_[np.ones(21, bool), np.zeros(9, bool)]
    assert decisions.threshold(np.zeros(30), exact, 0.7) == 0, "just the share that is wanted"


def test_what_is_answered_is_a_mean_over_seeds_with_thresholds_of_their_own():
    rows = two_seeds()
    tables, shares = decisions.tested(rows), []
    for seed in (0, 1):
        mine = rows[(rows["method"] == "probe") & (rows["seed"] == seed)]
        held, test = (mine[mine["split"] == split] for split in ("validation", "test"))
        cuts = [
            cut for cut in held["logit"]
            if (held["logit"] >= cut).sum() >= 25 and held.loc[held["logit"] >= cut, "correct"].mean() >= 0.7
        ]  # fmt: skip
        shares.append((test.set_index("question_id")["logit"] >= min(cuts)).astype(float))
    expected = (shares[0] + shares[1]) / 2
    given = decisions.answered(rows, tables, "probe", 0.7)
    assert given.tolist() == expected[tables[0].index.get_level_values("question_id")].tolist()
    assert 0.5 in given, "the seeds have thresholds and confidences of their own"


def test_the_most_confident_answers_share_a_tie():
    assert decisions.most_confident(np.array([3.0, 1, 2, 2, 2]), 2).tolist() == [1, 0, 1 / 3, 1 / 3, 1 / 3]
    assert decisions.most_confident(np.array([3.0, 1, 2]), 0).tolist() == [0, 0, 0]
    assert decisions.most_confident(np.zeros(4), 1).tolist() == [0.25] * 4


def test_weights_are_the_draws_that_all_pages_share_with_the_answers_as_they_are_before_them(monkeypatch):
    monkeypatch.setattr(bootstrap.question_weights, "__defaults__", (7,))
    places = pd.MultiIndex.from_tuples([("a", "q1"), ("a", "q3"), ("b", "q0"), ("b", "q2"), ("b", "q9")])
    weights = decisions.question_weights(places.set_names(["task", "question_id"]))
    assert weights.shape == (5, 8) and (weights[:, 0] == 1).all()
    assert np.array_equal(weights[:2, 1:], bootstrap.draws("a", 2, 7).T)
    assert np.array_equal(weights[2:, 1:], bootstrap.draws("b", 3, 7).T)
    values = np.array([1.0, 0, 0, 1, 1])
    for at in range(8):
        repeated = np.repeat(values, weights[:, at].astype(int))
        assert decisions.mean(values, weights)[at] == pytest.approx(repeated.mean())
    assert np.isnan(decisions.mean(values, 0 * weights)).all()


def test_which_model_is_stronger_is_said_by_validation_answers_that_both_gave():
    one = answers("likelihood", np.zeros(6), [True, True, True, False, False, False], "validation")
    other = answers("likelihood", np.zeros(6), [True, True, False, False, True, True], "validation")
    assert decisions.stronger(one, other) and not decisions.stronger(other, one)
    assert not decisions.stronger(one, other[:4]), "of what both answered one is right more often"
    assert decisions.stronger(one, one), "of equals the second"
    tested = [answers("likelihood", np.zeros(9), [right] * 9, "test") for right in (True, False)]
    assert decisions.stronger(pd.concat([one, tested[0]]), pd.concat([other, tested[1]])), "test answers say nothing"


def test_confidences_are_scaled_by_validation_answers_before_they_are_compared():
    rows = two_seeds()
    table = decisions.tested(rows)[1]
    held = rows[(rows["method"] == "probe") & (rows["seed"] == 1) & (rows["split"] == "validation")]
    fitted = LogisticRegression(C=np.inf, tol=1e-8).fit(held[["logit"]].to_numpy(float), held["correct"])
    expected = fitted.predict_proba(table[["probe"]].to_numpy(float))[:, 1]
    assert np.allclose(decisions.scaled(rows, table, "probe", 1), expected, atol=1e-4)
    assert np.isnan(decisions.scaled(rows[rows["split"] == "test"], table, "probe", 1)).all()


def test_the_answer_with_more_confidence_is_picked_and_half_of_each_where_they_are_equal():
    one, other = np.array([0.9, 0.1, 0.5, 0.5]), np.array([0.1, 0.9, 0.5, 0.5])
    right = np.array([1.0, 1, 1, 0]), np.array([0.0, 0, 0, 0])
    assert decisions.picked(one, other, *right).tolist() == [1, 0, 0.5, 0]
    assert decisions.picked(other, one, *right[::-1]).tolist() == [1, 0, 0.5, 0]


def by_hand(logit, gain, share):
    """Gain of handing on a share of some answers: one after the other, all orders of equal ones at once."""
    count, order = share * len(logit), sorted({*logit})
    total = 0.0
    for value in order:
        tied = gain[logit == value]
        taken = min(max(count, 0), len(tied))
        total, count = total + taken * tied.mean(), count - len(tied)
    return total / len(logit)


def test_handing_on_takes_the_least_confident_answers_first_in_every_resample():
    logit, gain = RNG.normal(size=30).round(1), RNG.integers(-1, 2, size=30).astype(float)
    weights = np.column_stack([np.ones(30), RNG.integers(0, 3, size=(30, 4))]).astype(np.float32)
    shares = [0.0, 0.1, 0.33, 0.5, 1.0]
    gained, area = decisions.handed_on(logit, gain, weights, shares)
    assert gained.shape == (5, 5) and len({*logit}) < 30
    for at in range(5):
        often = weights[:, at].astype(int)
        many = np.repeat(logit, often), np.repeat(gain, often)
        assert np.allclose(gained[:, at], [by_hand(*many, share) for share in shares], atol=1e-6)
        fine = np.linspace(0, 1, 20001)
        values = np.interp(fine, np.linspace(0, 1, 401), [by_hand(*many, share) for share in np.linspace(0, 1, 401)])
        assert area[at] == pytest.approx(values.mean(), abs=2e-4)
    assert gained[0].tolist() == [0] * 5


def test_with_equal_confidences_handing_on_is_as_good_as_at_random():
    gain = np.array([1.0, 1, 0, -1])
    gained, area = decisions.handed_on(np.zeros(4), gain, np.ones((4, 1)), [0.25, 0.5])
    assert gained[:, 0].tolist() == [0.0625, 0.125] and area[0] == 0.125
