"""Controls know what they may know, and nothing else."""

import shutil
import zlib
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, BertTokenizerFast

from made_up import answers, mixed, save_hidden, spied
from whoknows import WhoknowsError
from whoknows.data.positions import LAST, MEAN, QUESTION, stem
from whoknows.data.rows import ALL_MODELS, for_seed, learned, smaller
from whoknows.evaluation import scores
from whoknows.evaluation.auroc import auroc
from whoknows.models import embedder
from whoknows.report.pages import controls
from whoknows.stages import ablations, trainable

SPLIT = ["train"] * 200 + ["validation"] * 80 + ["test"] * 120


def frame(seed=0, text=lambda right, rng: "x" * int(rng.integers(3, 9))):
    rng = np.random.default_rng(seed)
    task = np.array(["easy", "hard"] * 200)
    correct = rng.random(400) < np.where(task == "easy", 0.6, 0.2)
    made = answers([text(right, rng) for right in correct], correct, SPLIT, task)
    return made.assign(question=[f"question {i}" for i in range(400)], mean_logprob=np.float32(-rng.random(400)))


def surface(frames, seeds=(0,), source=None):
    return ablations.without_reader(frames, list(seeds), [0.1, 1.0], source, 2048)


def value(rows, **names):
    group = rows[(rows["split"] == "test") & (rows[list(names)] == pd.Series(names)).all(axis=1)]
    return auroc(group["logit"], group["correct"])


def test_the_task_prior_knows_the_task_and_nothing_within_it():
    rows = surface({"a": frame(0), "b": frame(1)})
    prior = rows[rows["method"] == "task_prior"]
    assert value(prior, trained_on="a", scored="b") > 0.6
    table = scores.within_task(scores.by_task(prior), ["easy", "hard"])
    assert (table["auroc"] == 0.5).all()


def test_the_task_prior_of_an_unknown_task_is_that_of_all():
    made = frame()
    made.loc[made["split"] == "test", "task"] = "new"
    rows = surface({"a": made})
    train = made[made["split"] == "train"]
    expected = (train["correct"].sum() + 1) / (len(train) + 2)
    logits = rows[(rows["method"] == "task_prior") & (rows["split"] == "test")]["logit"]
    assert np.allclose(1 / (1 + np.exp(-logits)), expected, atol=1e-6)


def test_length_is_learned_where_it_tells_and_not_where_it_does_not():
    telling = frame(text=lambda right, rng: "x" * int(rng.integers(3, 9) + 5 * right))
    assert value(surface({"a": telling}), method="answer_length") > 0.9
    assert value(surface({"a": frame()}), method="answer_length", task="hard") == pytest.approx(0.5, abs=0.2)


def test_mean_likelihood_is_the_log_odds_of_the_mean_tokens_probability():
    made = frame()
    rows = surface({"a": made})
    group = rows[rows["method"] == "likelihood_mean"]
    kept = made[made["split"] != "train"]
    assert np.allclose(1 / (1 + np.exp(-group["logit"])), np.exp(kept["mean_logprob"]), atol=1e-5)
    assert set(group["trained_on"]) == {""}


def test_what_the_tokens_say_are_methods_that_need_no_training():
    made = frame()
    sure = np.where(made["correct"], 0.1, 0.2)
    made = made.assign(min_logprob=-sure, mean_entropy=sure, max_entropy=2 * sure, first_margin=1 - sure)
    rows = surface({"a": made, "b": frame(1)})
    for method in ("token_min", "entropy_mean", "entropy_max", "margin_first"):
        group = rows[rows["method"] == method]
        assert set(group["scored"]) == {"a"}, "older answers, which lack the columns, are left out"
        assert set(group["trained_on"]) == set(group["reader"]) == {""} and value(group, scored="a") == 1.0
    table = controls.contest(rows, ["a", "b"], [{"name": "easy", "role": "train"}, {"name": "hard", "role": "train"}])
    html = controls.contest_html(table)
    assert all(
        html.count(title) == 2
        for title in (
            "Smallest token probability",
            "Mean token entropy",
            "Largest token entropy",
            "Margin of the first token",
        )
    )
    assert html.count("Answer likelihood, mean token") == 4  # of two models, each within task and pooled


def test_rows_are_of_all_test_answers_and_the_validation_answers_that_chose():
    rows = surface({"a": frame(0), "b": frame(1)}, seeds=(0, 1))
    group = rows[(rows["method"] == "answer_length") & (rows["trained_on"] == "a") & (rows["seed"] == 1)]
    assert group.groupby(["scored", "split"]).size().to_dict() == {
        ("a", "test"): 120,
        ("a", "validation"): 80,
        ("b", "test"): 120,
    }


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A tiny sentence embedder with random weights."""
    folder = tmp_path_factory.mktemp("bert")
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *"abcdefghijklmnopqrstuvwxyz0123456789",
        *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz0123456789"),
        "iron",
        "gold",
        "tree",
    ]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(vocab={word: at for at, word in enumerate(words)}).save_pretrained(folder)
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(words), **size)).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("budget", [1, 10_000])
def test_an_embedding_is_the_mean_of_a_text_alone_whatever_the_batch(bert, budget):
    texts = ["iron", "a tree of gold and iron", "", "iron"]
    vectors = embedder.embed(bert, texts, budget)
    tokenizer, model = AutoTokenizer.from_pretrained(bert), AutoModel.from_pretrained(bert).eval()
    for text, vector in zip(texts, vectors, strict=True):
        with torch.no_grad():
            mean = model(**tokenizer([text], return_tensors="pt")).last_hidden_state[0].mean(dim=0)
        torch.testing.assert_close(vector, mean / mean.norm(), rtol=1e-4, atol=1e-5)


def test_an_embedder_may_lack_its_pooler_alone(bert, tmp_path):
    shutil.copytree(bert, tmp_path, dirs_exist_ok=True)
    file, refused = tmp_path / "model.safetensors", pytest.raises(WhoknowsError, match="lack 16 of the model's weights")
    for begins, expected in (("pooler.", nullcontext()), ("encoder.layer.1.", refused)):
        weights = load_file(file)
        save_file({name: weights[name] for name in weights if not name.startswith(begins)}, file)
        with expected:
            torch.testing.assert_close(embedder.embed(str(tmp_path), ["iron"], 9), embedder.embed(bert, ["iron"], 9))


def test_an_embedder_whose_files_changed_since_the_plan_is_refused(bert):
    with pytest.raises(WhoknowsError, match="has changed since the run was planned"):
        embedder.embed(bert, ["iron"], 9, "other")


def test_the_embedder_sees_the_answer_and_question_only_does_not(bert):
    made = frame(text=lambda right, rng: ["iron", "gold"][int(right)])
    rows = surface({"a": made}, source=bert)
    assert value(rows, method="answer_only") > 0.95 and value(rows, method="embedder") > 0.9
    assert value(rows, method="question_only", task="hard") == pytest.approx(0.5, abs=0.25)


@pytest.fixture
def states(tmp_path):
    """Answers of two models, whose hidden states have the grade planted in layer 1, and in layer 2 of the means."""
    frames = {"a": frame(0), "b": frame(1)}
    for at, (scored, made) in enumerate(frames.items()):
        hidden = torch.tensor(np.random.default_rng(at).normal(size=(400, 4, 16)), dtype=torch.float32)
        hidden[:, 1, 3] += 3.0 * torch.tensor(made["correct"].to_numpy())
        save_hidden(str(tmp_path), scored, hidden.bfloat16())
        hidden[:, 1, 3] -= 3.0 * torch.tensor(made["correct"].to_numpy())
        hidden[:, 2, 5] += 3.0 * torch.tensor(made["correct"].to_numpy())
        save_hidden(str(tmp_path), scored, hidden.bfloat16(), MEAN)
    noise = torch.randn(400, 4, 16, generator=torch.Generator().manual_seed(0))
    save_hidden(str(tmp_path), "", noise.bfloat16(), QUESTION)
    return frames, str(tmp_path)


def ablated(states, sizes=(50,), seeds=(0,)):
    frames, folder = states
    return ablations.of_reader("r", frames, list(seeds), folder, [0.1, 1.0], list(sizes))


def test_what_is_taken_away_is_missed(states):
    rows = ablated(states)
    names = {
        "probe_last",
        "probe_before",
        "probe_mean",
        "probe_shuffled",
        "probe_n50",
        "probe_without_easy",
        "probe_without_hard",
    }
    learned = rows[rows["trained_on"] != ALL_MODELS]
    assert set(learned["method"]) == names and set(learned["trained_on"]) == {"a", "b"}
    together = rows[rows["trained_on"] == ALL_MODELS]
    assert together.groupby(["method", "scored", "split"]).size().to_dict() == {
        (method, scored, "test"): 120 for method in ("probe", "probe_one_each") for scored in ("a", "b")
    }
    for method in ("probe", "probe_one_each"):
        for scored in ("a", "b"):
            assert value(together, method=method, scored=scored, task="easy") > 0.9
    for method, low, high in [
        ("probe_last", 0.3, 0.7),
        ("probe_before", 0.3, 0.7),
        ("probe_mean", 0.9, 1.0),
        ("probe_shuffled", 0.1, 0.9),
        ("probe_n50", 0.9, 1.0),
        ("probe_without_easy", 0.9, 1.0),
    ]:
        for scored in ("a", "b"):
            assert low <= value(rows, method=method, trained_on="a", scored=scored, task="easy") <= high, method


def test_shuffled_grades_are_those_of_the_task_and_test_grades_stay():
    made = frame()
    shuffled = made.assign(correct=ablations._shuffled(made, 0))
    keys = ["task", "split"]
    assert shuffled.groupby(keys)["correct"].sum().equals(made.groupby(keys)["correct"].sum())
    assert (shuffled["correct"] == made["correct"])[made["split"] == "test"].all()
    assert 0.3 < (shuffled["correct"] == made["correct"])[made["split"] == "train"].mean() < 0.8


def test_sizes_are_nested_and_a_left_out_task_is_neither_learned_nor_chosen_by():
    variants = ablations._variants(frame(), 0, [50, 100, 200, 5000])
    assert "probe_n200" not in variants and "probe_n5000" not in variants
    few, more = (set(variants[f"probe_n{size}"].query("split == 'train'")["question_id"]) for size in (50, 100))
    assert len(few) == 50 and len(more) == 100 and few < more
    for name in ("probe_n50", "probe_n100"):
        assert (variants[name]["split"] == "validation").sum() == 80
    left = variants["probe_without_easy"]
    assert set(left.loc[left["split"].isin(["train", "validation"]), "task"]) == {"hard"}


def test_of_three_tasks_each_is_learned_alone_and_of_two_the_other_ones_probe_is_that():
    made = frame()
    assert not [name for name in ablations._variants(made, 0, []) if "_only_" in name]
    made.loc[made.index % 5 == 0, "task"] = "third"
    variants = ablations._variants(made, 0, [])
    assert {name for name in variants if "_only_" in name} == {
        f"probe_only_{task}" for task in ("easy", "hard", "third")
    }
    for task in ("easy", "hard", "third"):
        learned = variants[f"probe_only_{task}"]
        for split in ("train", "validation"):  # the layer is chosen by that task alone, too
            assert set(learned.loc[learned["split"] == split, "task"]) == {task}
            assert (learned["split"] == split).sum() == ((made["split"] == split) & (made["task"] == task)).sum()
    subjects = made.assign(task="mmlu_" + made["task"])
    assert not [name for name in ablations._variants(subjects, 0, []) if "_only_" in name]
    made.loc[(made["task"] == "third") & (made["split"] == "validation"), "correct"] = True
    assert "probe_only_third" not in ablations._variants(made, 0, []), "there is nothing to choose a layer by"


def test_all_models_answers_are_those_to_train_and_validation_questions_and_one_each_is_drawn_by_the_seed():
    frames = {"a": frame(0), "b": frame(1), "c": frame(2).iloc[:300]}  # c did not answer the last test questions
    together = learned(frames, ALL_MODELS)
    assert together.groupby("split").size().to_dict() == {"train": 600, "validation": 240}
    assert set(together["task"]) == {f"{model}: {task}" for model in "abc" for task in ("easy", "hard")}
    assert together.index.tolist() == [(model, place) for model in "abc" for place in range(280)]
    tested = set(frames["a"].loc[frames["a"]["split"] == "test", "question_id"])
    assert not tested & set(together["question_id"])
    first, again, other = (ablations._one_each(together, seed) for seed in (0, 0, 1))
    assert first.equals(again) and not first.equals(other)
    kept = first[first["split"] != ""]
    assert kept["question_id"].is_unique and kept.groupby("split").size().to_dict() == {"train": 200, "validation": 80}
    whose = kept["task"].str[0].value_counts()
    assert set(whose.index) == {*"abc"} and whose.min() > 60, "about a third of 280 is of each model"
    shuffled = ablations._one_each(together.sample(frac=1, random_state=0), 0)
    assert shuffled.sort_index().equals(first), "whatever the order"


def test_what_is_learned_from_all_models_is_chosen_by_no_test_answer(states):
    frames, folder = states
    lied = {model: made.assign(correct=made["correct"] ^ (made["split"] == "test")) for model, made in frames.items()}
    rows, others = (ablations.of_reader("r", some, [0], folder, [0.1, 1.0], []) for some in (frames, lied))
    assert (rows["correct"] != others["correct"]).any()
    pd.testing.assert_series_equal(rows["logit"], others["logit"])


def test_one_model_has_no_others_and_a_draw_that_cannot_choose_a_layer_is_left_out(states):
    frames, folder = states
    rows = ablations.of_reader("r", {"a": frames["a"]}, [0], folder, [1.0], [])
    assert set(rows["trained_on"]) == {"a"}
    for made in frames.values():  # two validation answers of each model, one of which is right
        there = made.index[(made["split"] == "validation") & (made["task"] == "easy")]
        made.loc[(made["split"] == "validation") & ~made.index.isin(there[1:3]), "split"] = ""
        made.loc[there[1:3], "correct"] = [True, False]
    drawn = ablations._one_each(learned(frames, ALL_MODELS), 0)
    assert drawn.loc[drawn["split"] == "validation", "task"].nunique() == 2, "one answer of each model"
    rows = ablations.of_reader("r", frames, [0], folder, [1.0], [])
    assert set(rows.loc[rows["trained_on"] == ALL_MODELS, "method"]) == {"probe"}


def test_a_seed_that_is_named_twice_is_one(states):
    once, twice = (ablated(states, (), seeds) for seeds in ([3], [3, 3]))
    pd.testing.assert_frame_equal(once, twice)


def test_a_size_of_one_class_is_left_out():
    made = frame()
    made.loc[made["split"] == "train", "correct"] = [True] + [False] * 199
    assert "probe_n2" not in ablations._variants(made, 0, [2])


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_task_is_not_left_out_where_the_rest_is_of_one_class(states, split):
    frames, folder = states
    for made in frames.values():
        made.loc[(made["split"] == split) & (made["task"] == "easy"), "correct"] = False
    methods = {*ablations.of_reader("r", frames, [0], folder, [1.0], [])["method"]}
    assert "probe_without_easy" in methods and "probe_without_hard" not in methods and "probe_last" in methods


NOTHING = {
    "train": "no right answer among the training answers",
    "validation": "no task has both right and wrong validation answers",
}


@pytest.mark.parametrize("split, reason", NOTHING.items())
def test_a_model_that_nothing_can_be_learned_from_is_left_out_and_the_others_are_as_without_it(states, split, reason):
    frames, folder = states
    frames["b"].loc[frames["b"]["split"] == split, "correct"] = False

    stages = (lambda: ablations.of_reader("r", frames, [0], folder, [1.0], [50])), (lambda: surface(frames))
    for stage in stages:
        with pytest.warns(UserWarning, match=f"^nothing is trained on b, seed 0: {reason}$"):
            rows = stage()
        assert {*rows["trained_on"]} - {"", ALL_MODELS} == {"a"} and {*rows["scored"]} == {"a", "b"}
    assert (
        trainable.untrainable_html(frames, [0]) == f"<p>Nothing is trained on the answers of b, seed 0: {reason}.</p>"
    )
    assert trainable.untrainable_html({"a": frames["a"]}, [0]) == ""
    assert "&lt;b&gt;" in trainable.untrainable_html({"<b>": frames["b"]}, [0])
    frames["a"] = frames["a"].assign(correct=frames["b"]["correct"])
    for stage in stages:
        with pytest.raises(WhoknowsError, match=f"nothing to learn: {reason} of a; raise"):
            stage()


def test_all_models_teach_together_if_one_of_them_does_and_may_where_none_does_alone():
    made, wrong = frame(), frame().assign(correct=False)
    assert trainable.untrainable({"a": made, "b": wrong}, "b") == NOTHING["train"]
    assert trainable.untrainable({"a": made, "b": wrong}, ALL_MODELS) == ""
    held = made["split"] == "validation"
    learns_right = {"a": made.assign(correct=made["correct"] | ~held), "b": wrong}
    with pytest.raises(WhoknowsError, match="nothing to learn: no wrong answer among the training answers of a; raise"):
        trainable.untrainable(learns_right, "a")
    assert trainable.untrainable(learns_right, ALL_MODELS) == ""
    with pytest.raises(WhoknowsError, match=f"nothing to learn: {NOTHING['train']} of a; raise"):
        trainable.untrainable({"a": wrong, "b": wrong}, ALL_MODELS)
    # Each task has right and wrong validation answers, but those of one model are all right or all wrong.
    stops = {"a": made.assign(correct=made["correct"] | held), "b": made.assign(correct=made["correct"] & ~held)}
    with pytest.raises(WhoknowsError, match=f"nothing to learn: {NOTHING['validation']} of a; raise"):
        trainable.untrainable(stops, ALL_MODELS)


@pytest.fixture
def handed(monkeypatch):
    """What is fitted to what, and what judges what, in their order; nothing is fitted."""
    return spied(monkeypatch, ablations, "_fit", lambda probe, *_: probe), spied(
        monkeypatch, ablations, "probe_rows", lambda *_: pd.DataFrame()
    )


def digits(text):
    """A vector that tells a text from others."""
    return [float(zlib.crc32(text.encode()) >> shift & 255) for shift in (0, 8, 16)]


def test_the_surface_controls_hand_on_each_models_own_features_and_the_seeds_division(handed, monkeypatch):
    (fits, scored_calls), frames, methods = (
        handed,
        mixed(),
        ("task_prior", "answer_length", "question_only", "answer_only", "embedder"),
    )
    asked = spied(
        monkeypatch,
        embedder,
        "embed",
        lambda source, texts, batch_tokens, digest: torch.tensor([digits(text) for text in texts]),
    )
    ablations.without_reader(frames, [0, 3], [0.1, 1.0], "an embedder", 7, "abc")
    assert [(call["source"], call["batch_tokens"], call["digest"]) for call in asked] == [("an embedder", 7, "abc")]
    places = [(on, seed, method) for on in frames for seed in (0, 3) for method in methods]
    fitted = iter(fits)
    for (on, seed, method), call in zip(places, scored_calls, strict=True):
        divided = {scored: for_seed(frame, seed) for scored, frame in frames.items()}
        assert list(call["probes"]) == [method] and call["names"] == {"reader": "", "trained_on": on, "seed": seed}
        assert all(call["frames"][scored].equals(frame) for scored, frame in divided.items())
        if method == "task_prior":
            train = divided[on][divided[on]["split"] == "train"].groupby("task")["correct"]
            assert call["probes"][method].share.to_dict() == (
                (train.sum() + 1) / (train.size() + 2)
            ).to_dict() and call["features"]("one").equals(divided["one"])
            continue
        fit = next(fitted)
        assert (
            fit["trained_on"] == on
            and fit["frame"].equals(divided[on])
            and fit["probe"].strengths == [1.0, 0.1]
            and torch.equal(fit["hidden"], call["features"](on))
        )
        for scored, frame in frames.items():
            sides = {
                "question_only": frame["question"],
                "answer_only": frame["answer"],
                "embedder": frame["question"] + " " + frame["answer"],
            }.get(method)
            expected = (
                [np.log1p([len(text), len(text.split())]) for text in frame["answer"]]
                if sides is None
                else [digits(text) for text in sides]
            )
            np.testing.assert_allclose(call["features"](scored)[:, 0], np.stack(expected), rtol=1e-6)
    assert next(fitted, None) is None


def test_the_probe_controls_hand_on_what_is_left_of_each_models_answers_for_each_seed(handed, tmp_path):
    (fits, scored_calls), frames = handed, mixed()
    frames["three"] = frames["three"].iloc[5:]  # it did not answer the first questions
    counts = {stem(scored, position): len(frame) for scored, frame in frames.items() for position in (LAST, MEAN)}
    states = {name: torch.randn(count, 4, 2) for name, count in (counts | {stem("", QUESTION): 96}).items()}
    for name, hidden in states.items():
        save_hidden(str(tmp_path), name, hidden)
    ablations.of_reader("r", frames, [0, 3], str(tmp_path), [0.1, 1.0], [20, 500])
    methods = (
        "probe_last",
        "probe_before",
        "probe_mean",
        "probe_shuffled",
        "probe_n20",
        "probe_without_trivia_qa",
        "probe_without_sciq",
    )
    places = [(on, seed, method) for on in frames for seed in (0, 3) for method in methods]
    together = [(seed, method) for seed in (0, 3) for method in ("probe", "probe_one_each")]
    assert len(fits) == len(scored_calls) == len(places) + len(together)
    for (seed, method), fit, call in zip(together, fits[len(places) :], scored_calls[len(places) :], strict=True):
        split = for_seed(frames["one"], seed)["split"]
        divided = {scored: frame.assign(split=split[frame.index]) for scored, frame in frames.items()}
        assert fit["trained_on"] == ALL_MODELS and (fit["probe"].layers, fit["probe"].strengths) == (
            [0, 1, 2, 3],
            [1.0, 0.1],
        )
        assert call["probes"] == {method: fit["probe"]}
        assert call["names"] == {"reader": "r", "trained_on": ALL_MODELS, "seed": seed}
        asked = {scored: frame["split"].isin(["train", "validation"]) for scored, frame in divided.items()}
        assert fit["frame"][["question_id", "correct"]].to_numpy().tolist() == [
            [*pair]
            for scored, some in asked.items()
            for pair in divided[scored].loc[some, ["question_id", "correct"]].to_numpy()
        ]
        assert torch.equal(
            fit["hidden"], torch.cat([states[scored][some.to_numpy(copy=True)] for scored, some in asked.items()])
        )
        for scored, frame in divided.items():
            assert call["frames"][scored].equals(frame) and torch.equal(call["features"](scored), states[scored])
    for (on, seed, method), fit, call in zip(places, fits, scored_calls):
        split = for_seed(frames["one"], seed)["split"]
        divided = {scored: frame.assign(split=split[frame.index]) for scored, frame in frames.items()}
        learned, without = divided[on], method.removeprefix("probe_without_")
        changed = {
            "probe_shuffled": lambda: learned.assign(correct=ablations._shuffled(learned, seed)),
            "probe_n20": lambda: smaller(learned, [20], seed)[20],
            f"probe_without_{without}": lambda: learned.assign(
                split=learned["split"].where(learned["task"] != without, "")
            ),
        }
        assert fit["trained_on"] == on and fit["frame"].equals(changed.get(method, lambda: learned)()), method
        assert (fit["probe"].layers, fit["probe"].strengths) == (
            [3] if method == "probe_last" else [0, 1, 2, 3],
            [1.0, 0.1],
        )
        assert (
            list(call["probes"].values()) == [fit["probe"]]
            and list(call["probes"]) == [method]
            and call["names"] == {"reader": "r", "trained_on": on, "seed": seed}
        )
        for scored, frame in divided.items():
            position = {"probe_before": QUESTION, "probe_mean": MEAN}.get(method, LAST)
            right = states[stem(scored, position)]
            right = right[frame.index.tolist()] if position == QUESTION else right
            assert call["frames"][scored].equals(frame) and torch.equal(call["features"](scored), right)
        assert torch.equal(fit["hidden"], call["features"](on))


def test_grades_are_dealt_out_by_the_seed():
    made = frame()
    first, again, other = (ablations._shuffled(made, seed) for seed in (1, 1, 2))
    assert first.equals(again) and not first.equals(other)
