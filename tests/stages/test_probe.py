"""Probes find what is planted, choose on validation alone, and agree with scikit-learn."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from made_up import mixed, save_hidden
from whoknows import WhoknowsError
from whoknows.data import files
from whoknows.data.rows import NO_ROWS, example_rows, for_seed
from whoknows.estimators.probe import Labelled, Logistic, Mlp, logistic_path, standardise
from whoknows.evaluation import scores
from whoknows.evaluation.auroc import mean_auroc
from whoknows.stages import probe as probe_stage
from whoknows.use import cards

MLP = {"hidden": [8, 4], "learning_rate": 3e-3, "epochs": 30, "batch_size": 16, "patience": 10}


def made_up(count, layers=4, width=6, signal=(), seed=0, strength=3.0):
    """Random hidden states; those of the layers in `signal` have the grade planted in one direction."""
    random = np.random.default_rng(seed)
    correct = random.random(count) < 0.4
    hidden = random.normal(size=(count, layers, width))
    for layer in signal:
        hidden[:, layer, 2] += strength * correct
    return Labelled(torch.tensor(hidden, dtype=torch.float32).bfloat16(), correct, np.array(["a", "b"] * count)[:count])


def auroc(probe, test):
    return mean_auroc(probe.score(test.hidden).numpy(), test.correct, test.task)


@pytest.mark.parametrize("strengths", [[1.0, 0.1, 0.01, 0.001], [0.001], [0.001, 1.0]])
def test_each_strength_of_a_path_agrees_with_scikit_learn(strengths):
    random = np.random.default_rng(1)
    x = random.normal(size=(80, 5))
    y = random.random(80) < 1 / (1 + np.exp(-2 * x[:, 0] + 1))
    for strength, weights in zip(
        strengths, logistic_path(torch.tensor(x), torch.tensor(y, dtype=torch.float64), strengths), strict=True
    ):
        # scikit-learn adds up the loss that is averaged here: its C is 1 / (strength * n)
        other = LogisticRegression(C=1 / (strength * 80), tol=1e-10, max_iter=10_000).fit(x, y)
        np.testing.assert_allclose(weights, [*other.coef_[0], *other.intercept_], atol=2e-3)


def test_more_features_than_answers_agree_with_scikit_learn():
    data = made_up(120, width=300, signal=[0])
    x, y = data.hidden[:, 0].float(), torch.tensor(data.correct).float()
    *_, weights = logistic_path(x, y, [1.0, 0.1, 0.01])
    other = LogisticRegression(C=1 / (0.01 * 120), tol=1e-10, max_iter=10_000).fit(x.double(), y)
    np.testing.assert_allclose(x @ weights[:-1] + weights[-1], other.decision_function(x.double()), atol=2e-2)


def test_what_came_before_on_the_path_does_not_change_the_optimum():
    data = made_up(200, signal=[0])
    x, y = data.hidden[:, 0].float(), torch.tensor(data.correct).float()
    (cold,), (_, warm) = logistic_path(x, y, [0.01]), logistic_path(x, y, [1.0, 0.01])
    torch.testing.assert_close(cold, warm, atol=5e-3, rtol=1e-2)


def test_separable_answers_are_separated():
    x = torch.tensor([[-2.0], [-1.0], [1.0], [2.0]])
    (weights,) = logistic_path(x, torch.tensor([0.0, 0, 1, 1]), [1e-4])
    assert weights.isfinite().all()
    assert (x[:, 0] * weights[0] + weights[1] > 0).tolist() == [False, False, True, True]


@pytest.mark.parametrize("layer", [0, 2, 3])
def test_a_planted_signal_is_found(layer):
    probe = Logistic([0, 1, 2, 3], [0.01, 1.0])
    search = probe.fit(made_up(300, signal=[layer]), made_up(100, signal=[layer], seed=1))
    assert probe.chosen["layer"] == layer and len(search) == 8
    assert auroc(probe, made_up(200, signal=[layer], seed=2)) > 0.95


def test_what_is_chosen_is_the_best_on_validation():
    # layer 1 is good on validation only and layer 3 on test only: neither training nor test may be looked at
    train, validation = made_up(300, signal=[1, 3], strength=1.5), made_up(100, signal=[1], seed=1, strength=1.5)
    probe = Logistic([0, 1, 2, 3], [1.0, 0.01])
    search = pd.DataFrame(probe.fit(train, validation))
    assert probe.chosen["layer"] == 1
    best = search.loc[search["validation_auroc"].idxmax()]
    assert probe.chosen == {"layer": best["layer"], "strength": best["strength"]}
    assert auroc(probe, validation) == pytest.approx(best["validation_auroc"])


def test_strength_is_chosen_on_validation():
    train, validation = (
        made_up(60, layers=1, width=50, signal=[0], strength=1.0),
        made_up(200, layers=1, width=50, signal=[0], seed=1, strength=1.0),
    )
    strengths = [1e-4, 1e-2, 1.0, 100.0]
    single = {}
    for strength in strengths:
        (line,) = Logistic([0], [strength]).fit(train, validation)
        single[strength] = line["validation_auroc"]
    probe = Logistic([0], strengths)
    probe.fit(train, validation)
    assert single[probe.chosen["strength"]] == pytest.approx(max(single.values()), abs=2e-3)
    assert max(single.values()) - min(single.values()) > 0.005  # else the choice would not matter


def test_within_task_auroc_decides_not_the_tasks_base_rate():
    # layer 0 knows the task, whose base rates differ; layer 1 knows the answer a little
    random = np.random.default_rng(0)

    def data(count):
        task = random.random(count) < 0.5
        correct = random.random(count) < np.where(task, 0.8, 0.2)
        hidden = random.normal(size=(count, 2, 2))
        hidden[:, 0, 0] += 5 * task
        hidden[:, 1, 0] += 0.7 * correct
        return Labelled(torch.tensor(hidden).float(), correct, np.where(task, "easy", "hard"))

    probe = Logistic([0, 1], [0.1])
    probe.fit(data(1000), data(600))
    assert probe.chosen["layer"] == 1


def test_a_feature_that_is_constant_in_training_does_no_harm():
    train, validation, test = (made_up(n, signal=[1], seed=n) for n in (300, 100, 200))
    for data, value in ((train, 0.1), (validation, 0.1), (test, 0.3)):
        data.hidden[:, :, 0] = value
    probe = Logistic([0, 1], [0.01])
    probe.fit(train, validation)
    assert auroc(probe, test) > 0.9
    assert probe.score(test.hidden).abs().max() < 100
    mlp = Mlp(MLP, 0)
    mlp.fit(*(Labelled(d.hidden[:, :2], d.correct, d.task) for d in (train, validation)))
    assert mlp.score(test.hidden[:, :2]).abs().max() < 100


def test_standardised_features_have_mean_0_and_deviation_1():
    x = torch.randn(50, 3) * torch.tensor([1.0, 10.0, 0.0]) + 5
    mean, scale = standardise(x)
    x = (x - mean) / scale
    torch.testing.assert_close(x.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std(0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-5, rtol=0)


def test_mlp_finds_a_signal_in_the_last_layer_only():
    for signal, least, most in (([3], 0.9, 1.0), ([0, 1, 2], 0.35, 0.65)):
        probe = Mlp(MLP, 0)
        probe.fit(made_up(300, signal=signal), made_up(100, signal=signal, seed=1))
        assert least <= auroc(probe, made_up(300, signal=signal, seed=2)) <= most


def test_mlp_is_the_same_for_a_seed_and_another_for_another():
    train, validation = made_up(100, signal=[3]), made_up(50, signal=[3], seed=1)
    logits = []
    for seed in (5, 5, 6):
        torch.rand(3)
        probe = Mlp(MLP, seed)
        probe.fit(train, validation)
        logits.append(probe.score(validation.hidden))
    assert torch.equal(logits[0], logits[1]) and not torch.equal(logits[0], logits[2])


def test_a_seed_decides_the_mlps_first_weights_and_its_order_each_by_itself(monkeypatch):
    train, validation, usual, orders, first = (
        made_up(100, signal=[3]),
        made_up(50, signal=[3], seed=1),
        torch.randperm,
        [],
        [],
    )
    monkeypatch.setattr(torch, "randperm", lambda count: orders.append(usual(count)) or orders[-1])
    for seed in (5, 5, 6):
        torch.rand(3)
        still = Mlp({**MLP, "learning_rate": 0.0, "epochs": 1}, seed)
        still.fit(train, validation)
        first.append(still.score(validation.hidden))
    for one, same, other in (first, orders):
        assert torch.equal(one, same) and not torch.equal(one, other)


def test_mlp_goes_back_to_its_best_epoch():
    train, validation = made_up(60, seed=4), made_up(40, seed=5)
    probe = Mlp({**MLP, "learning_rate": 0.02, "patience": 4}, 0)
    history = pd.DataFrame(probe.fit(train, validation))
    best = history["validation_auroc"].idxmax()
    assert probe.chosen == {"epoch": best} and best + 4 == history["epoch"].max() < 29
    assert auroc(probe, validation) == history["validation_auroc"].max() > history["validation_auroc"].iloc[-1]


@pytest.fixture
def written(tmp_path):
    """Answers of two models, whose hidden states in a folder have the grade planted in layer 2."""
    frames = {}
    for at, scored in enumerate(("own", "other")):
        data = made_up(400, signal=[2], seed=at)
        split = ["train"] * 200 + ["validation"] * 80 + ["test"] * 120
        frames[scored] = pd.DataFrame(
            {
                "question_id": [f"q{i}" for i in range(400)],
                "task": data.task,
                "split": split,
                "kind": "open",
                "correct": data.correct,
            }
        )
        save_hidden(str(tmp_path), scored, data.hidden)
    return frames, tmp_path


def run(frames, folder, layers="all", trained_on="own", seed=0):
    return probe_stage.run(
        "r",
        trained_on,
        seed,
        frames,
        str(folder),
        layers,
        [0.01, 1.0],
        MLP,
        str(folder / "out"),
        source="tiny-llama",
        precision="float32",
    )


def test_a_run_scores_every_models_test_answers_with_both_probes(written):
    frames, folder = written
    rows, search = run(frames, folder)
    assert list(rows) == [*scores.CELL, "task", "split", "question_id", "seed", "logit", "correct"]
    sizes = {("own", "test"): 120, ("own", "validation"): 80, ("other", "test"): 120}
    for method in ("probe", "probe_mlp"):
        assert rows[rows["method"] == method].groupby(["scored", "split"]).size().to_dict() == sizes
    aurocs = scores.within_task(scores.by_task(rows), ["a", "b"]).set_index(["method", "scored"])["auroc"]
    assert aurocs["probe", "own"] > 0.9 and aurocs["probe", "other"] > 0.9
    assert set(search["layer"]) == {0, 1, 2, 3}
    card = json.loads((folder / "out/probe.json").read_text())
    assert (
        card["chosen"]["layer"] == 2
        and len(card["search"]) == 8
        and card["last_layer"] == max(look["layer"] for look in card["search"])
    )
    test = files.read_safetensors(folder / "other.safetensors")["hidden"][280:]
    for method, kept in (("probe", Logistic([], [])), ("probe_mlp", Mlp(MLP, 0))):
        card = json.loads((folder / f"out/{method}.json").read_text())
        kept.restore(card["chosen"], files.read_safetensors(folder / f"out/{method}.safetensors"))
        assert (
            kept.chosen == card["chosen"]
            and kept.state.keys() == files.read_safetensors(folder / f"out/{method}.safetensors").keys()
        )
        group = rows[(rows["method"] == method) & (rows["scored"] == "other")]
        np.testing.assert_allclose(kept.score(test), group["logit"], rtol=1e-5)


def test_a_card_says_what_is_needed_to_use_a_probe_again(written):
    frames, folder = written
    frames["own"].loc[frames["own"]["task"] == "b", "split"] = "test"
    run(frames, folder, layers=[1, 2])
    for method, settings in (("probe", {"layers": [1, 2], "strengths": [0.01, 1.0]}), ("probe_mlp", MLP)):
        card = json.loads((folder / f"out/{method}.json").read_text())
        names = {
            "method": method,
            "reader": "r",
            "source": "tiny-llama",
            "precision": "float32",
            "trained_on": "own",
            "seed": 0,
            "tasks": ["a"],
        }
        assert card.items() >= (names | {"settings": settings}).items() and 0 < card["seconds"] < 600


def test_test_answers_have_no_say_in_what_is_chosen(written):
    frames, folder = written
    before, search = run(frames, folder)
    turned = {
        scored: frame.assign(correct=frame["correct"] ^ (frame["split"] == "test")) for scored, frame in frames.items()
    }
    after, again = run(turned, folder)
    pd.testing.assert_frame_equal(search, again)
    assert (before["logit"] == after["logit"]).all() and (
        (before["correct"] != after["correct"]) == (before["split"] == "test")
    ).all()


def test_a_seed_divides_train_and_validation_anew(written):
    frames, folder = written
    rows = {seed: run(frames, folder, seed=seed)[0] for seed in (0, 1)}
    held, tested = (
        [set(frame.loc[frame["split"] == split, "question_id"]) for frame in rows.values()]
        for split in ("validation", "test")
    )
    assert held[0] != held[1] and tested[0] == tested[1] and not held[1] & tested[1]
    assert set(rows[1]["seed"]) == {1} and (rows[0]["logit"].to_numpy() != rows[1]["logit"].to_numpy()).all()


@pytest.mark.parametrize("seed", [0, 3])
def test_a_run_is_both_classifiers_by_hand_of_the_seeds_own_division_and_first_weights(tmp_path, seed):
    frames, hidden = mixed(), {}
    for at, (scored, frame) in enumerate(frames.items()):
        hidden[scored] = torch.tensor(np.random.default_rng(at).normal(size=(len(frame), 4, 6)), dtype=torch.float32)
        hidden[scored][:, 2, 1] += torch.tensor(frame["correct"].to_numpy())
        save_hidden(str(tmp_path), scored, hidden[scored])
    rows, search = probe_stage.run(
        "r",
        "two",
        seed,
        frames,
        str(tmp_path),
        [1, 2],
        [0.01, 1.0],
        MLP,
        str(tmp_path / "out"),
        source="tiny-llama",
        precision="float32",
    )
    divided = {scored: for_seed(frame, seed) for scored, frame in frames.items()}
    labelled = Labelled(hidden["two"], frames["two"]["correct"].to_numpy(), frames["two"]["task"].to_numpy())
    train, validation = (
        labelled.part((divided["two"]["split"] == split).to_numpy()) for split in ("train", "validation")
    )
    by_hand = {"probe": Logistic([1, 2], [0.01, 1.0]), "probe_mlp": Mlp(MLP, seed)}
    searches = {method: probe.fit(train, validation) for method, probe in by_hand.items()}
    assert search.to_dict("records") == searches["probe"]
    expected = []
    for scored, frame in divided.items():
        kept = frame[(frame["split"] == "test") | ((frame["split"] == "validation") & (scored == "two"))]
        names = {"reader": "r", "trained_on": "two", "scored": scored, "seed": seed}
        expected += [
            example_rows(kept, method=method, logit=probe.score(hidden[scored][kept.index.tolist()]), **names)
            for method, probe in by_hand.items()
        ]
    pd.testing.assert_frame_equal(rows, pd.concat(expected, ignore_index=True))


@pytest.mark.parametrize("grade, word", [(True, "wrong"), (False, "right")])
def test_training_answers_of_one_class(written, grade, word):
    frames, folder = written
    frames["own"].loc[frames["own"]["split"] == "train", "correct"] = grade
    left_out(*run(frames, folder), folder, f"no {word} answer among the training answers")
    assert set(run(frames, folder, trained_on="other")[0]["scored"]) == {"own", "other"}
    frames["other"] = frames["other"].assign(correct=frames["own"]["correct"])
    with pytest.raises(WhoknowsError, match=f"nothing to learn: no {word} answer among the training answers of own; "):
        run(frames, folder)


def test_validation_answers_of_one_class(written):
    frames, folder = written
    frames["own"].loc[frames["own"]["split"] == "validation", "correct"] = False
    left_out(*run(frames, folder), folder, "no task has both right and wrong validation answers")


def left_out(rows, search, folder, reason):
    """There is a card that says why, no weights, and no row, in the columns and kinds of all rows."""
    (path,) = (folder / "out").iterdir()
    card = {"method": "probe", "reader": "r", "trained_on": "own", "seed": 0, "untrained": reason}
    assert files.read_json(path) == card and path.name == "probe.json" and rows.empty and search.empty
    pd.testing.assert_index_equal(rows.columns.sort_values(), NO_ROWS.columns.sort_values())
    cards.write(path.parent, rows)
    assert len([*path.parent.iterdir()]) == 1
    with pytest.raises(WhoknowsError, match=f"no estimator, since nothing could be trained: {reason}"):
        cards.read(path.parent)


def test_a_layer_that_the_model_has_not(written):
    with pytest.raises(WhoknowsError, match=r"probe\.layers: r has the layers 0 to 3, but 4 is asked for"):
        run(*written, layers=[1, 4])


def test_only_the_asked_layers_are_tried(written):
    rows, search = run(*written, layers=[0, 2])
    assert set(search["layer"]) == {0, 2}


def test_hidden_states_of_other_answers(written):
    frames, folder = written
    frames["own"] = frames["own"][:-1]
    with pytest.raises(WhoknowsError, match="own.safetensors holds 400 answers where there are 399"):
        run(frames, folder)
