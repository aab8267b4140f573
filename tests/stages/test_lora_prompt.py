"""Adapters are trained on the upper blocks as if the whole model ran, learn, and are the same each time."""

import json
import tempfile
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import peft
import pytest
import torch

from made_up import answers, extract, fresh, mixed, plain, spied, untaught
from whoknows import WhoknowsError
from whoknows.data import files
from whoknows.data.prompts import QUERY
from whoknows.data.rows import ALL_MODELS, example_rows, for_seed
from whoknows.estimators import lora
from whoknows.estimators.lora import LoraPrompt, jensen_shannon
from whoknows.estimators.lora_data import Dataset, gather, reference_hidden_states, training_rows, without_query
from whoknows.evaluation import scores
from whoknows.evaluation.auroc import auroc, counts, mean_auroc
from whoknows.models import distributed, forward, loading
from whoknows.models.batching import DoesNotFit
from whoknows.models.packing import pack
from whoknows.stages import extract as extract_stage
from whoknows.stages import lora_prompt
from whoknows.use import cards

SETTINGS = {
    "first_layer": 0.5, "r": 4, "alpha": 16, "dropout": 0.0, "targets": ["q_proj", "v_proj", "down_proj"],
    "learning_rate": 1e-2, "batch_size": 8, "epochs": 3, "evaluations": 3, "patience": 3, "wrong_per_right": None,
    "js_weight": 0.0,
}  # fmt: skip
USED = {"source": "tiny-llama", "precision": "float32"}
METALS, OTHERS = ("iron metal", "metal", "gas metal", "metal rock"), ("the sun", "a leaf", "water", "king")


def learnable(count=160, shuffled=False):
    """Answers of which those that name a metal are right, in all three splits."""
    random = np.random.default_rng(0)
    right = random.random(count) < 0.4
    texts = [METALS[random.integers(4)] if r else OTHERS[random.integers(4)] for r in right]
    split = ["train"] * (count * 5 // 10) + ["validation"] * (count * 2 // 10) + ["test"] * (count * 3 // 10)
    return answers(texts, random.permutation(right) if shuffled else right, split)


def prepare(reader, frame, first, penalised, batch_tokens):
    """All of one model's answers as examples."""
    packed = pack(reader, {"": frame}, [True] * len(frame))
    cached = (
        extract(reader, packed, first, batch_tokens).cached.split([len(t) for t in packed.examples]) if first else None
    )
    data = gather(packed, cached, list(range(len(frame))))
    data.reference = reference_hidden_states(reader, data, first, batch_tokens) if penalised else None
    return data


def trained(reader, frame, seed=0, **changes):
    with tempfile.TemporaryDirectory() as folder:
        settings = SETTINGS | changes
        extract_stage.run("r", reader, {"one": frame}, settings["first_layer"], 600, folder)
        return lora_prompt.run(
            "r", fresh(reader), "one", seed, {"one": frame}, settings, 600, folder, **USED, out=f"{folder}/out"
        )[0]


def shaken(reader, **changes):
    """An estimator whose adapters do something without any training."""
    estimator = LoraPrompt(fresh(reader), SETTINGS | changes, 0, 600)
    for name, weight in estimator.reader.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    return estimator


def held_out(estimator, frame, split="test"):
    part = frame[frame["split"] == split].reset_index(drop=True)
    first = round(estimator.settings["first_layer"] * 4)
    (logit,) = estimator.score(prepare(estimator.reader, part, first, False, 600)).values()
    return auroc(logit.numpy(), part["correct"])


class Stand:
    """A stand-in for an estimator: it notes what it is to learn, learns nothing, and scores a text by its ids."""

    history = [{"step": 1, "loss": 0.5, "validation_auroc": 0.5, "seconds": 1.0}]
    learnt: list[dict] = []

    def __init__(self, *arguments):
        self.learnt.clear()

    def fit(self, train, correct, shift, validate, file):
        self.learnt.append(
            {"train": train, "correct": correct.tolist(), "shift": shift, "validated": validate(), "file": file}
        )

    def score(self, data, desc="scoring"):
        return {
            model: torch.tensor(
                [sure(example.question + example.branches[b]) for example, b in zip(data.packed.examples, branches)]
            )
            for model, branches in data.packed.branch_of.items()
        }

    def save(self, folder):
        for name in ("README.md", "adapter_config.json"):
            (folder / name).write_text("{}")


def sure(ids):
    return float(sum(i * (at + 1) for at, i in enumerate(ids)) % 97)


def ids_of(reader, frame, query=True):
    """Ids of each question, its answer and the query, put together by hand."""
    pieces = (reader.start() + reader.question(row.question) + reader.answer(row.answer) for row in frame.itertuples())
    return [ids + (reader.encode(QUERY) if query else []) for ids in pieces]


@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize(
    "wrong_per_right, js_weight, query, without",
    [(None, 0.0, True, None), (0.5, 0.3, True, None), (0.5, 0.0, False, "sciq")],
)
def test_a_run_hands_on_what_its_settings_and_its_seed_say(
    llama, tmp_path, monkeypatch, wrong_per_right, js_weight, query, without, seed
):
    frames, settings = (
        mixed(48),
        SETTINGS | {"first_layer": 0, "wrong_per_right": wrong_per_right, "js_weight": js_weight},
    )
    made = spied(monkeypatch, lora_prompt, "LoraPrompt", Stand)
    _, rows = lora_prompt.run(
        "r", llama, "two", seed, frames, settings, 600, "", "x", query, without, **USED, out=str(tmp_path / "out")
    )
    assert made == [{"reader": llama, "settings": settings, "seed": seed, "batch_tokens": 600, "query": query}]
    (learnt,), divided = Stand.learnt, {scored: for_seed(frame, seed) for scored, frame in frames.items()}
    group = divided["two"][divided["two"]["task"] != without]
    train, held, wrong = (
        group[group["split"] == "train"],
        group[group["split"] == "validation"],
        ~group["correct"] & (group["split"] == "train"),
    )
    sample, _ = training_rows(group, wrong_per_right, seed)
    assert [example.question + example.branches[0] for example in learnt["train"].packed.examples] == ids_of(
        llama, sample, query
    )
    assert learnt["correct"] == sample["correct"].tolist() and (len(sample) < len(train)) == (
        wrong_per_right is not None
    )
    assert learnt["shift"] == pytest.approx(np.log(wrong.sum() / learnt["correct"].count(False)))
    assert learnt["validated"] == mean_auroc(
        [sure(ids) for ids in ids_of(llama, held, query)], held["correct"], held["task"]
    )
    assert (learnt["train"].reference is None) == (js_weight == 0.0)
    for example, state in zip(learnt["train"].packed.examples, learnt["train"].reference or ()):
        ids = example.question + example.branches[0]
        torch.testing.assert_close(
            state,
            plain(llama, ids).hidden_states[-1][0, len(example.question) - 1 : len(ids) - len(llama.query) - 1],
            rtol=1e-4,
            atol=1e-4,
        )
    test_groups = [
        ("two", held),
        *(
            (scored, frame[(frame["split"] == "test") & (frame["task"].eq(without) | (without is None))])
            for scored, frame in divided.items()
        ),
    ]
    names = {"method": "x", "reader": "r", "trained_on": "two", "seed": seed}
    expected = [
        example_rows(frame, scored=scored, logit=[sure(ids) for ids in ids_of(llama, frame, query)], **names)
        for scored, frame in test_groups
    ]
    pd.testing.assert_frame_equal(rows, pd.concat(expected, ignore_index=True))
    card = json.loads((tmp_path / "out/x.json").read_text())
    about = {
        "settings": settings,
        "query": query,
        "training_answers": counts(sample["correct"]),
        "tasks": sorted(set(group["task"])),
        "history": Stand.history,
    }
    assert card.items() >= (names | USED | about).items()


def of_all_models(seed) -> tuple[dict, dict]:
    """Three models' answers, and the same divided for a seed.

    The second one's grades are turned round, so that one text is right of one model and wrong of another; the third one
    did not answer the last questions, and all its training answers are wrong.
    """
    frames = mixed(48)
    frames["two"] = frames["two"].assign(correct=~frames["two"]["correct"])
    split = for_seed(frames["one"], seed)["split"]
    wrong = frames["three"]["correct"] & (split != "train")
    frames["three"] = frames["three"].assign(correct=wrong).iloc[:40]
    return frames, {model: frame.assign(split=split[frame.index]) for model, frame in frames.items()}


@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize("first_layer, wrong_per_right, js_weight", [(0, None, 0.0), (0.5, 0.5, 0.3)])
def test_answers_of_all_models_are_trained_on_together_each_with_its_own_grade(
    llama, tmp_path, monkeypatch, first_layer, wrong_per_right, js_weight, seed
):
    frames, divided = of_all_models(seed)
    settings = SETTINGS | {"wrong_per_right": wrong_per_right, "js_weight": js_weight, "first_layer": first_layer}
    extract_stage.run("r", llama, frames, first_layer, 600, str(tmp_path))
    spied(monkeypatch, lora_prompt, "LoraPrompt", Stand)
    arguments = ["r", llama, ALL_MODELS, seed, frames, settings, 600, str(tmp_path)]
    _, rows = lora_prompt.run(*arguments, **USED, out=str(tmp_path / "out"))
    (learnt,) = Stand.learnt

    def graded(split):
        some = {model: frame[frame["split"] == split] for model, frame in divided.items()}
        return {model: list(zip(map(tuple, ids_of(llama, frame)), frame["correct"])) for model, frame in some.items()}

    train = Counter(pair for pairs in graded("train").values() for pair in pairs)
    examples = learnt["train"].packed.examples
    seen = Counter(zip((tuple(e.question + e.branches[0]) for e in examples), learnt["correct"]))
    assert all(len(example.branches) == 1 for example in examples) and not seen - train
    right, wrong = (sum(n for (_, grade), n in train.items() if grade == kind) for kind in (True, False))
    kept = round(0.5 * right) if wrong_per_right else wrong
    assert Counter(learnt["correct"]) == {True: right, False: kept} and (kept < wrong) == bool(wrong_per_right)
    assert learnt["shift"] == pytest.approx(np.log(wrong / kept))
    assert {ids for ids, grade in seen if grade} & {ids for ids, grade in seen if not grade}, "graded both ways"
    held = [(model, task) for model in frames for task in ("sciq", "trivia_qa")]
    groups = [frame[(frame["split"] == "validation") & (frame["task"] == t)] for m, t in held for frame in [divided[m]]]
    values = [auroc([sure(ids) for ids in ids_of(llama, group)], group["correct"]) for group in groups]
    assert learnt["validated"] == pytest.approx(np.nanmean(values)), "within each model and task"
    for t, example in enumerate(examples):
        ids = example.question + example.branches[0]
        if js_weight:
            states = plain(llama, ids).hidden_states[-1][0, len(example.question) - 1 : len(ids) - len(llama.query) - 1]
            torch.testing.assert_close(learnt["train"].reference[t], states, rtol=1e-3, atol=1e-3)
        if first_layer:
            states = plain(llama, ids).hidden_states[2][0]
            torch.testing.assert_close(learnt["train"].cached[t], states, rtol=1e-3, atol=1e-3)
    names = {"method": "lora_prompt", "reader": "r", "trained_on": ALL_MODELS, "seed": seed}
    tested = {model: frame[frame["split"] == "test"] for model, frame in divided.items()}
    expected = [
        example_rows(frame, scored=scored, logit=[sure(ids) for ids in ids_of(llama, frame)], **names)
        for scored, frame in tested.items()
    ]
    pd.testing.assert_frame_equal(rows, pd.concat(expected, ignore_index=True))
    card = json.loads((tmp_path / "out/lora_prompt.json").read_text())
    about = {"tasks": ["sciq", "trivia_qa"], "training_answers": {"right": right, "wrong": kept}, "query": True}
    assert card.items() >= (names | USED | about | {"settings": settings, "history": Stand.history}).items()


def test_no_test_answer_has_a_say_in_what_is_trained_on_all_models(llama, tmp_path, monkeypatch):
    frames, _ = of_all_models(0)
    other = {}
    for model, frame in frames.items():
        is_test = frame["split"] == "test"
        other[model] = frame.assign(correct=frame["correct"] ^ is_test, answer=frame["answer"].mask(is_test, "water"))
    spied(monkeypatch, lora_prompt, "LoraPrompt", Stand)
    learnt = []
    for name, some in {"usual": frames, "other": other}.items():
        settings = SETTINGS | {"first_layer": 0}
        arguments = ["r", llama, ALL_MODELS, 0, some, settings, 600, ""]
        lora_prompt.run(*arguments, **USED, out=str(tmp_path / name))
        learnt += [{key: value for key, value in Stand.learnt[0].items() if key != "file"}]
    assert learnt[0] == learnt[1]


def test_training_on_all_models_that_was_killed_goes_on_as_if_it_had_not_been(llama, tmp_path, monkeypatch):
    frames = {"one": learnable(60), "two": learnable(60, shuffled=True)}
    settings = SETTINGS | {"evaluations": 4, "patience": 4, "epochs": 2, "dropout": 0.2, "js_weight": 0.1}
    extract_stage.run("r", llama, frames, 0.5, 600, str(tmp_path / "features"))
    looks = []

    def run(name, kill_at=None):
        looks.clear()

        def look(*arguments):
            if len(looks) == kill_at:
                raise KeyboardInterrupt
            looks.append(mean_auroc(*arguments))
            return looks[-1]

        with monkeypatch.context() as patch:
            patch.setattr(lora_prompt, "mean_auroc", look)
            arguments = ["r", fresh(llama), ALL_MODELS, 0, frames, settings, 600, str(tmp_path / "features")]
            return lora_prompt.run(*arguments, **USED, out=str(tmp_path / name))

    whole, rows = run("whole")
    assert len(looks) == 4
    with pytest.raises(KeyboardInterrupt):
        run("killed", kill_at=2)
    assert not (tmp_path / "killed").exists()
    resumed, again = run("killed")
    assert len(looks) == 2
    curves = [[look["validation_auroc"] for look in one.history] for one in (whole, resumed)]
    assert curves[0] == curves[1] and len(curves[0]) == 4
    pd.testing.assert_frame_equal(again, rows)
    cards.write(tmp_path / "killed", rows)
    assert "| trained on | 60 answers of `all models`, " in (tmp_path / "killed/README.md").read_text()


@pytest.mark.parametrize("killed", [(LoraPrompt, "score"), (files, "write_parquet")])
def test_a_training_whose_answers_were_not_scored_to_the_end_is_not_repeated(llama, tmp_path, monkeypatch, killed):
    for scored, frame in mixed(48).items():
        files.write_parquet(tmp_path / f"{scored}.parquet", frame)
    monkeypatch.setattr(loading, "load", lambda **_: fresh(llama))
    steps = spied(monkeypatch, LoraPrompt, "_step")

    def cell(name):
        steps.clear()
        paths = {scored: str(tmp_path / f"{scored}.parquet") for scored in mixed(48)}
        what = {"answers": paths, "features": "", "settings": SETTINGS | {"first_layer": 0}, "batch_tokens": 600}
        outs = {"out": str(tmp_path / name), "rows_out": str(tmp_path / f"{name}.rows")}
        return lora_prompt.cell(reader="r", trained_on="two", seed=0, **what, **outs, **USED)[1]

    whole = cell("whole")
    assert len(steps) > 3
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        usual = LoraPrompt.score

        def kill(*arguments):
            if isinstance(arguments[-1], str):  # the training validates
                return usual(*arguments)
            raise KeyboardInterrupt

        patch.setattr(*killed, kill)
        cell("killed")
    pd.testing.assert_frame_equal(cell("killed"), whole)
    assert not steps and not [*tmp_path.glob("*.parts")]


def test_a_cell_hands_on_every_parameter_of_its_notebook(tmp_path, monkeypatch):
    frames, settings, out = mixed(48), {"r": 3}, tmp_path / "out"
    for scored, frame in frames.items():
        files.write_parquet(tmp_path / f"{scored}.parquet", frame)
    used = {"source": "s", "precision": "4bit", "template": {"day": "d"}, "digest": "abc"}
    names = {
        "trained_on": "two",
        "seed": 3,
        "settings": settings,
        "method": "x",
        "query": False,
        "without": "sciq",
        "batch_tokens": 7,
    }
    monkeypatch.setattr(distributed, "run", lambda module, work, parameters: work(**parameters))
    loaded = spied(monkeypatch, loading, "load", lambda **_: "the model")

    def instead(*_, out, **__):
        files.write_text(f"{out}/x.json", json.dumps({"history": [1, 2]}))
        return None, frames["one"].drop(columns="gold")

    ran = spied(monkeypatch, lora_prompt, "run", instead)
    paths = {scored: str(tmp_path / f"{scored}.parquet") for scored in frames}
    history, rows = lora_prompt.cell(
        reader="r", answers=paths, features="f", out=str(out), rows_out=str(tmp_path / "rows.parquet"), **names, **used
    )
    assert history == [1, 2] and rows.equals(frames["one"].drop(columns="gold")) and loaded == [used]
    for scored, frame in ran[0].pop("answers").items():
        pd.testing.assert_frame_equal(frame.drop(columns="gold"), frames[scored].drop(columns="gold"))
    assert ran == [{"name": "r", "reader": "the model", "folder": "f", "out": str(out), "used": used} | names]


def test_training_rows_keep_all_right_answers_and_some_wrong_ones():
    frame = answers(["x"] * 100, [True] * 10 + [False] * 90, ["train"] * 80 + ["test"] * 20)
    rows, shift = training_rows(frame, 2, 0)
    assert rows["correct"].sum() == 10 and len(rows) == 30 and set(rows["split"]) == {"train"}
    assert shift == pytest.approx(np.log(70 / 20))
    assert not rows.equals(training_rows(frame, 2, 1)[0]) and rows.equals(training_rows(frame, 2, 0)[0])
    for keep_all in (None, 7, 100):
        rows, shift = training_rows(frame, keep_all, 0)
        assert len(rows) == 80 and shift == 0


def test_a_small_share_keeps_one_wrong_answer():
    rows, shift = training_rows(answers(["x"] * 10, [True] + [False] * 9, "train"), 0.1, 0)
    assert rows["correct"].tolist().count(False) == 1 and shift == pytest.approx(np.log(9))


@pytest.mark.parametrize("grade, word", [(True, "wrong"), (False, "right")])
def test_training_answers_of_one_class(llama, grade, word):
    frame = learnable()
    frame.loc[frame["split"] == "train", "correct"] = grade
    with pytest.raises(WhoknowsError, match=f"none of the 80 training answers is {word}, so there is nothing to learn"):
        trained(llama, frame)


def test_validation_answers_of_one_class(llama):
    frame = learnable()
    frame.loc[frame["split"] == "validation", "correct"] = True
    with pytest.raises(
        WhoknowsError, match="right and wrong validation answers, so training cannot be stopped in time"
    ):
        trained(llama, frame)


@pytest.mark.parametrize("share, blocks", [(0, {0, 1, 2, 3}), (0.5, {2, 3}), (1, {3})])
def test_adapters_sit_on_the_upper_blocks_only(reader, share, blocks):
    model = LoraPrompt(fresh(reader), SETTINGS | {"first_layer": share}, 0, 600).reader.model
    learning = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert all("lora_" in name for name in learning)
    assert {int(name.split("layers.")[1].split(".")[0]) for name in learning} == blocks
    assert len(learning) == len(blocks) * 3 * 2


def test_what_is_proven_of_an_adapted_reader_is_not_taken_for_that_of_other_weights_of_its_name(llama):
    one, other = (LoraPrompt(replace(fresh(llama), digest=of), SETTINGS, 0, 600).reader for of in ("one", "other"))
    assert one.identity != other.identity


@pytest.mark.parametrize("first_layer", [0, 0.5, 1])
def test_scores_are_those_of_the_whole_model_on_plain_text(reader, first_layer):
    estimator, frame = shaken(reader, first_layer=first_layer, dropout=0.5), answers()
    first = min(round(first_layer * 4), 3)
    scored = estimator.score(prepare(fresh(reader), frame, first, False, 600))[""]
    (no, yes), moved = reader.choices, []
    for at, row in enumerate(frame.itertuples()):
        question = reader.tokenizer(f"Question: {row.question}\nAnswer:").input_ids
        ids = question + reader.answer(row.answer) + reader.encode(QUERY)
        logits = plain(estimator.reader, ids).logits[0, -1]
        assert float(scored[at]) == pytest.approx(float(logits[yes] - logits[no]), abs=1e-3)
        moved.append(float(scored[at] - forward.p_true_logit(reader, plain(reader, ids).hidden_states[-1][0, -1:])))
    assert np.abs(moved).max() > 0.02


def test_scores_are_without_dropout_in_the_middle_of_training(llama):
    estimator, data = shaken(llama, first_layer=0, dropout=0.5), prepare(fresh(llama), answers(), 0, False, 600)
    estimator.is_alone = True  # nothing else has had a reason to leave training
    expected = estimator.score(data)[""]
    estimator.reader.model.train()
    assert torch.equal(estimator.score(data)[""], expected)


def test_scores_do_not_depend_on_the_batches(reader):
    frames = {"one": answers(), "two": answers(["moon"] * 6)}
    by_budget = []
    for budget in (1, 300, 10_000):
        estimator = shaken(reader, first_layer=0)
        estimator.batch_tokens = budget
        torch.manual_seed(0)
        for name, weight in estimator.reader.model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.3)
        by_budget.append(estimator.score(Dataset(pack(reader, frames, [True] * 6), None)))
    for other in by_budget[1:]:
        for model in frames:
            torch.testing.assert_close(other[model], by_budget[0][model], rtol=1e-4, atol=1e-4)


def test_a_step_does_not_depend_on_how_its_batch_is_cut(llama):
    frame, states = answers(), []
    for budget in (1, 10_000):
        estimator = LoraPrompt(fresh(llama), SETTINGS | {"js_weight": 0.5}, 0, budget)
        loss = estimator._step(
            prepare(llama, frame, 2, True, 600), torch.tensor([1.0, 0, 1, 0, 0, 1]), list(range(6)), 0.3
        )
        states.append([loss, *(p.grad for p in estimator.reader.model.parameters() if p.requires_grad)])
    for one, other in zip(*states):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def gradients(estimator, data):
    loss = estimator._step(data, torch.tensor([1.0, 0, 1, 0, 0, 1]), list(range(6)), 0.3)
    return [loss, *(weight.grad for weight in estimator.weights)]


@pytest.mark.parametrize("first", [0, 2])
def test_activations_that_are_computed_again_give_the_same_gradients(reader, first):
    data = prepare(reader, answers(), first, True, 600)
    usual, sparing = (shaken(reader, first_layer=first / 4, js_weight=0.5, dropout=0.2) for _ in range(2))
    for one, other in zip(usual.weights, sparing.weights):
        other.data.copy_(one.data)
    sparing._recompute()
    both = []
    for estimator in (usual, sparing):
        torch.manual_seed(7)
        both.append(gradients(estimator, data))
    for one, other in zip(*both):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("fails", [[0], [0, 1], [0, 2]])
def test_memory_that_runs_out_in_the_middle_of_a_step_changes_no_gradient(llama, monkeypatch, fails):
    """Out of memory comes between the forward pass and the gradients, when some parts of the step are done."""
    data, estimator = (
        prepare(llama, answers(), 2, True, 600),
        LoraPrompt(fresh(llama), SETTINGS | {"js_weight": 0.5}, 0, 10_000),
    )
    usual, calls, grad = gradients(estimator, data), iter(range(99)), torch.autograd.grad
    for weight in estimator.weights:
        weight.grad = None

    def short(*arguments, **more):
        if next(calls) in fails:
            raise torch.OutOfMemoryError
        return grad(*arguments, **more)

    monkeypatch.setattr(torch.autograd, "grad", short)
    monkeypatch.setattr("whoknows.estimators.lora.FEW_TOKENS", 1)
    estimator.budget = estimator._fresh_budget()
    for one, other in zip(usual, gradients(estimator, data)):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    assert estimator.budget.tokens < 10_000 and not estimator.is_recomputing and next(calls) > max(fails) + 1


def test_where_too_few_tokens_fit_activations_are_computed_again_and_then_it_is_an_error(llama, monkeypatch):
    data, estimator = (
        prepare(llama, answers(), 1, False, 600),
        LoraPrompt(fresh(llama), SETTINGS | {"first_layer": 0.25}, 0, 600),
    )
    usual, grad = gradients(estimator, data), torch.autograd.grad
    for weight in estimator.weights:
        weight.grad = None
    fits = lambda: estimator.is_recomputing and estimator.budget.tokens <= 300  # noqa: E731
    monkeypatch.setattr(
        torch.autograd, "grad", lambda *arguments, **more: grad(*arguments, **more) if fits() else _run_out()
    )
    for one, other in zip(usual, gradients(estimator, data)):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    assert [block.gradient_checkpointing for block in estimator.reader.layers] == [False, False, True, False]
    monkeypatch.setattr(torch.autograd, "grad", lambda *arguments, **more: _run_out())
    with pytest.raises(DoesNotFit, match="does not fit into the free memory of cpu"):
        gradients(estimator, data)


def _run_out():
    raise torch.OutOfMemoryError


def test_training_that_was_killed_goes_on_as_if_it_had_not_been(llama, tmp_path, monkeypatch):
    settings = SETTINGS | {"evaluations": 6, "patience": 9, "dropout": 0.2}
    frame, curve = learnable().head(48), [0.5, 0.6, 0.9, 0.7, 0.8, 0.8]
    data, grades = prepare(llama, frame, 2, False, 600), np.arange(48) % 2 == 0

    clock = iter(range(1000))
    monkeypatch.setattr(lora, "monotonic", lambda: next(clock))

    def fit(file, values):
        estimator, seen = LoraPrompt(fresh(llama), settings, 0, 600), iter(values)

        def validate():
            for _ in range(50):
                next(clock)  # a look takes long, and does not count
            return next(seen)

        try:
            estimator.fit(data, grades, 0.0, validate, file)
        except StopIteration:
            pass  # killed at a look at validation
        return estimator

    whole = fit(None, curve)
    fit(tmp_path / "progress.pt", curve[:4])
    torch.rand(3)
    resumed = fit(tmp_path / "progress.pt", curve[4:])
    assert resumed.history == whole.history and [look["seconds"] for look in whole.history] == [1, 2, 3, 4, 5, 6]
    assert all(torch.equal(one, other) for one, other in zip(whole.weights, resumed.weights))
    over = fit(tmp_path / "progress.pt", [])  # all was done but for the writing
    assert over.history == whole.history and all(
        torch.equal(one, other) for one, other in zip(whole.weights, over.weights)
    )


def test_a_loss_that_is_no_number_is_an_error(llama):
    estimator = LoraPrompt(fresh(llama), SETTINGS, 0, 600)
    estimator.weights[0].data.fill_(torch.nan)
    data = prepare(llama, learnable().head(16), 2, False, 600)
    with pytest.raises(WhoknowsError, match="the loss is nan; lower lora_prompt.learning_rate"):
        estimator.fit(data, np.arange(16) % 2 == 0, 0.0, lambda: 0.5)


def test_the_shift_is_added_in_training_and_not_in_the_score(llama):
    frame, correct = answers(), [1.0, 0, 1, 0, 0, 1]
    estimator = LoraPrompt(fresh(llama), SETTINGS, 0, 600)
    data = prepare(llama, frame, 2, False, 600)
    logit = estimator.score(data)[""]
    for shift in (0.0, 2.0):
        expected = torch.nn.functional.binary_cross_entropy_with_logits(logit + shift, torch.tensor(correct))
        assert float(estimator._step(data, torch.tensor(correct), list(range(6)), shift)) == pytest.approx(
            float(expected), abs=1e-4
        )


@pytest.mark.slow
@pytest.mark.parametrize("name, first_layer", [("tiny-llama", 0.5), ("tiny-mistral", 0)])
def test_a_planted_signal_is_learned_and_shuffled_grades_are_not(readers, name, first_layer):
    model, frame, shuffled = untaught(readers[name]), learnable(), learnable(shuffled=True)
    assert held_out(LoraPrompt(fresh(model), SETTINGS | {"first_layer": first_layer}, 0, 600), frame) < 0.7
    assert held_out(trained(model, frame, first_layer=first_layer), frame) > 0.85
    assert 0.2 < held_out(trained(model, shuffled, first_layer=first_layer), shuffled) < 0.8


def test_two_trainings_with_one_seed_are_identical(llama):
    frame, weights = learnable(60), []
    for _ in range(2):
        torch.rand(5)  # whatever was drawn before
        estimator = trained(llama, frame, 1, dropout=0.2, epochs=1, evaluations=1)
        weights.append(peft.get_peft_model_state_dict(estimator.reader.model))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_seed_decides_the_first_weights_the_order_and_the_dropout(llama, monkeypatch):
    """Each of them by itself: two seeds that agree in one of the three would share it in every training."""
    data = prepare(llama, learnable().head(48), 2, False, 600)

    def begun(seed):
        torch.rand(5)
        estimator, steps, drawn = LoraPrompt(fresh(llama), SETTINGS, seed, 600), [], []
        first = [weight.tolist() for weight in estimator.weights]
        monkeypatch.setattr(
            estimator,
            "_step",
            lambda train, correct, batch, shift: (
                drawn.append(float(torch.rand(1))) or steps.append(batch) or torch.zeros(())
            ),
        )
        estimator.fit(data, np.arange(48) % 2 == 0, 0.0, lambda: 0.5)
        return {"first weights": first, "order": steps, "dropout": drawn}

    one, again, other = (begun(seed) for seed in (1, 1, 2))
    assert one == again and [what for what in one if one[what] == other[what]] == []


def test_adapters_are_those_of_the_settings(llama):
    changes = {"r": 3, "alpha": 7, "dropout": 0.3, "targets": ["q_proj", "up_proj"], "first_layer": 0.25}
    config = LoraPrompt(fresh(llama), SETTINGS | changes, 0, 600).reader.model.peft_config["default"]
    assert (config.r, config.lora_alpha, config.lora_dropout, config.target_modules) == (
        3,
        7,
        0.3,
        {"q_proj", "up_proj"},
    )


def test_each_step_has_its_answers_its_shift_its_rate_and_a_gradient_that_is_not_too_long(llama, monkeypatch):
    seen, grades = [], np.arange(20) % 3 == 0
    data, estimator = (
        prepare(llama, learnable().head(20), 2, False, 600),
        LoraPrompt(fresh(llama), SETTINGS | {"epochs": 4}, 0, 600),
    )

    class Watched(torch.optim.AdamW):
        def step(self):
            (group,) = self.param_groups
            assert group["params"] == estimator.weights
            seen.append((group["lr"], float(torch.stack([weight.grad.norm() for weight in estimator.weights]).norm())))

    def step(train, correct, batch, shift):
        assert train is data and correct.tolist() == grades.tolist() and shift == 0.7
        for weight in estimator.weights:
            weight.grad = torch.ones_like(weight)
        return torch.zeros(())

    monkeypatch.setattr(torch.optim, "AdamW", Watched)
    monkeypatch.setattr(estimator, "_step", step)
    estimator.fit(data, grades, 0.7, lambda: 0.5)
    assert [rate for rate, _ in seen] == [SETTINGS["learning_rate"] * lora.learning_rate(at, 12) for at in range(12)]
    assert [length for _, length in seen] == pytest.approx([1.0] * 12, rel=1e-4)


def test_the_best_adapters_on_validation_are_kept_and_patience_ends_training(llama):
    estimator = LoraPrompt(fresh(llama), SETTINGS | {"evaluations": 12, "patience": 2}, 0, 600)
    data = prepare(llama, answers(), 2, False, 600)
    seen, curve = [], iter([0.5, 0.7, 0.6, 0.7, 0.9, 0.9])

    def validate():
        seen.append(estimator.score(data)[""].clone())
        return next(curve)

    many = prepare(llama, learnable().head(48), 2, False, 600)
    estimator.fit(many, np.arange(48) % 2 == 0, 0.0, validate)
    assert [look["validation_auroc"] for look in estimator.history] == [0.5, 0.7, 0.6, 0.7]
    assert torch.equal(estimator.score(data)[""], seen[1]) and not torch.equal(seen[1], seen[3])


def test_validation_is_looked_at_evenly_and_at_the_end_and_each_epoch_has_each_answer_once(llama, monkeypatch):
    estimator = LoraPrompt(fresh(llama), SETTINGS | {"evaluations": 4, "patience": 9, "epochs": 2}, 0, 600)
    data, steps = prepare(llama, learnable().head(40), 2, False, 600), spied(monkeypatch, estimator, "_step")
    estimator.fit(data, np.arange(40) % 2 == 0, 0.0, lambda: 0.5)
    assert [look["step"] for look in estimator.history] == [3, 6, 9, 10]
    assert all(weight.grad is None for weight in estimator.reader.model.parameters()), (
        "each step begins without the last one's gradients"
    )
    assert [len(step["batch"]) for step in steps] == [8] * 10
    for epoch in (steps[:5], steps[5:]):
        assert sorted(i for step in epoch for i in step["batch"]) == [*range(40)]


def test_saved_adapters_give_the_same_scores_with_peft_alone(reader, tmp_path):
    estimator = trained(reader, learnable(60), epochs=1, evaluations=1)
    estimator.reader.model.save_pretrained(tmp_path)
    model = peft.PeftModel.from_pretrained(fresh(reader).model, tmp_path).eval()
    ids = reader.start() + reader.question("Why?") + reader.answer("metal") + reader.encode(QUERY)
    with torch.no_grad():
        loaded, expected, untrained = (
            m(input_ids=torch.tensor([ids])).logits[0, -1] for m in (model, estimator.reader.model.eval(), reader.model)
        )
    torch.testing.assert_close(loaded, expected)
    assert not torch.allclose(loaded, untrained, atol=1e-2)


@pytest.mark.parametrize("first_layer", [0.5, 0])
def test_a_run_scores_every_models_test_answers_and_the_validation_answers_that_chose(mistral, tmp_path, first_layer):
    frames = {"one": learnable(60), "two": learnable(60).assign(answer="water")}
    extract_stage.run("r", mistral, frames, first_layer, 600, str(tmp_path))
    changes = {"first_layer": first_layer, "epochs": 1, "evaluations": 1}
    estimator, rows = lora_prompt.run(
        "r", fresh(mistral), "one", 0, frames, SETTINGS | changes, 600, str(tmp_path), **USED, out=str(tmp_path / "out")
    )
    assert list(rows) == [*scores.CELL, "task", "split", "question_id", "seed", "logit", "correct"]
    assert rows.groupby(["scored", "split"]).size().to_dict() == {
        ("one", "test"): 18,
        ("one", "validation"): 12,
        ("two", "test"): 18,
    }
    for (model, split), group in rows.groupby(["scored", "split"]):
        asked = frames[model][frames[model]["split"] == split].reset_index(drop=True)
        assert (
            group["question_id"].tolist() == asked["question_id"].tolist()
            and group["correct"].tolist() == asked["correct"].tolist()
        )
        again = estimator.score(prepare(fresh(mistral), asked, round(first_layer * 4), False, 600))[""]
        np.testing.assert_allclose(group["logit"], again, atol=1e-4)
    validation = rows[rows["split"] == "validation"]
    assert estimator.history[-1]["validation_auroc"] == pytest.approx(auroc(validation["logit"], validation["correct"]))


def test_a_trunk_of_other_answers_is_refused(mistral, tmp_path):
    frames = {"one": learnable(60), "two": learnable(60).assign(answer="water")}
    extract_stage.run("r", mistral, frames, 0.5, 600, str(tmp_path))
    with pytest.raises(WhoknowsError, match="trunk.safetensors is not of these"):
        lora_prompt.run(
            "r",
            fresh(mistral),
            "one",
            0,
            {"one": frames["two"].assign(correct=frames["one"]["correct"])},
            SETTINGS,
            600,
            str(tmp_path),
            **USED,
            out="",
        )


@pytest.mark.parametrize("model", ["one", "two"])
def test_one_models_answers_of_a_forest_are_as_if_they_stood_alone(mistral, model):
    frames = {"one": answers(), "two": answers(["moon"] * 6)}
    together, keep = pack(mistral, frames, [True] * 6), [4, 1]
    cached = extract(mistral, together, 2, 600).cached.split([len(t) for t in together.examples])
    gathered = gather(together, cached, keep, [model] * 2)
    alone = prepare(mistral, frames[model].loc[keep].reset_index(drop=True), 2, False, 600)
    assert gathered.packed.examples == alone.packed.examples and gathered.packed.answer_ends == alone.packed.answer_ends
    for one, other in zip(gathered.cached, alone.cached, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_answers_of_several_models_to_the_same_questions_are_examples_of_their_own(mistral):
    frames = {"one": answers(), "two": answers(["moon"] * 6)}
    together = pack(mistral, frames, [True] * 6)
    gathered = gather(together, None, [4, 1, 4], ["one", "two", "two"])
    alone = {model: pack(mistral, {model: frame}, [True] * 6).examples for model, frame in frames.items()}
    assert gathered.packed.examples == [alone["one"][4], alone["two"][1], alone["two"][4]]
    assert gathered.packed.branch_of == {"one": [0, -1, -1], "two": [-1, 0, 0]}


def test_the_learning_rate_rises_for_a_tenth_and_falls_to_nothing():
    rates = [lora.learning_rate(step, 50) for step in range(51)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0]) and rates[5] == 1 and rates[50] == pytest.approx(0)
    assert all(a > b for a, b in zip(rates[5:], rates[6:])), "falls"
    assert [lora.learning_rate(step, 3) for step in range(2)] == [1.0, 1.0], "a short training rises at once"
    assert lora.learning_rate(0, 1) == 1


def log_softmax(*values):
    return torch.log_softmax(torch.tensor(values), dim=-1)


def test_jensen_shannon_divergence():
    p, q, sure, other = (
        log_softmax(1.0, 2.0, 3.0),
        log_softmax(0.0, 0.5, -1.0),
        log_softmax(200.0, 0.0, 0.0),
        log_softmax(0.0, 200.0, 0.0),
    )
    assert float(jensen_shannon(p, p)) == pytest.approx(0, abs=1e-7)
    assert float(jensen_shannon(p, q)) == pytest.approx(float(jensen_shannon(q, p))) and 0 < float(
        jensen_shannon(p, q)
    ) < np.log(2)
    assert float(jensen_shannon(sure, other)) == pytest.approx(np.log(2))
    a, b = p.exp().numpy(), q.exp().numpy()
    m = (a + b) / 2
    assert float(jensen_shannon(p, q)) == pytest.approx(
        0.5 * (a * np.log(a / m)).sum() + 0.5 * (b * np.log(b / m)).sum(), rel=1e-5
    )


@pytest.mark.parametrize("first_layer", [0, 0.5])
def test_the_penalty_is_zero_before_training_and_looks_at_the_answers_tokens_alone(reader, first_layer):
    data = prepare(reader, answers(), round(first_layer * 4), True, 600)
    start, moved = (
        LoraPrompt(fresh(reader), SETTINGS | {"first_layer": first_layer}, 0, 600),
        shaken(reader, first_layer=first_layer),
    )
    chosen = list(range(6))
    assert float(start._penalty(data, chosen, start._forward(data, chosen)).detach()) == pytest.approx(0, abs=1e-5)
    penalty = float(moved._penalty(data, chosen, moved._forward(data, chosen)).detach())
    expected = 0.0
    for example in data.packed.examples:
        ids = example.question + example.branches[0]
        answered = slice(len(example.question) - 1, len(ids) - 1 - len(reader.encode(QUERY)))
        now, before = (torch.log_softmax(plain(r, ids).logits[0, answered], dim=-1) for r in (moved.reader, reader))
        expected += float(jensen_shannon(now, before).mean())
    assert penalty == pytest.approx(expected, rel=1e-3) and penalty > 0.01


def test_the_penalty_is_part_of_the_loss_by_its_weight(llama):
    data, correct, chosen = (
        prepare(llama, answers(), 2, True, 600),
        torch.tensor([1.0, 0, 1, 0, 0, 1]),
        list(range(6)),
    )
    losses = {weight: shaken(llama, js_weight=weight)._step(data, correct, chosen, 0.0) for weight in (0.0, 3.0)}
    estimator = shaken(llama)
    penalty = float(estimator._penalty(data, chosen, estimator._forward(data, chosen)).detach())
    assert float(losses[3.0] - losses[0.0]) == pytest.approx(3.0 * penalty / 6, rel=1e-3) and penalty > 0.01


@pytest.mark.parametrize("first", [0, 2])
def test_without_the_query_an_example_ends_with_its_answer(mistral, first):
    frames = {"one": answers(), "two": answers(["moon"] * 6)}
    queried, bare = (pack(mistral, frames, [asked] * 6) for asked in (True, False))
    cached = [extract(mistral, queried, first, 600).cached.split([len(t) for t in queried.examples]) if first else None]
    gathered = without_query(gather(queried, cached[0], list(range(6))))
    assert gathered.packed == bare
    for t, example in enumerate(bare.examples if first else ()):
        states = plain(mistral, example.question + example.branches[0]).hidden_states[first][0]
        torch.testing.assert_close(gathered.cached[t][: len(states)], states, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("first_layer", [0, 0.5])
def test_lora_without_a_query_classifies_the_last_state_of_the_answer(reader, first_layer):
    estimator = LoraPrompt(fresh(reader), SETTINGS | {"first_layer": first_layer}, 0, 600, query=False)
    torch.nn.init.normal_(estimator.classifier.weight)
    for name, weight in estimator.reader.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    frame = answers()
    scored = estimator.score(without_query(prepare(reader, frame, round(first_layer * 4), False, 600)))[""]
    for at, row in enumerate(frame.itertuples()):
        ids = reader.start() + reader.question(row.question) + reader.answer(row.answer)
        state = plain(estimator.reader, ids).hidden_states[-1][0, -1]
        expected = torch.nn.functional.layer_norm(state, state.shape) @ estimator.classifier.weight[0].detach()
        assert float(scored[at]) == pytest.approx(float(expected), abs=1e-3)


def test_without_a_query_every_answer_begins_at_one_half(llama):
    """A classifier that begins at random must unlearn that first; the query's adapters begin at the reader's answer."""
    frame = learnable(20, 0)
    data = without_query(prepare(llama, frame, 2, False, 600))
    (logit,) = LoraPrompt(fresh(llama), SETTINGS, 0, 600, query=False).score(data).values()
    assert len(logit) == len(frame) and not logit.any()


def test_lora_without_a_query_learns_keeps_its_best_classifier_and_saves_it(llama, tmp_path):
    frame = learnable()
    extract_stage.run("r", llama, {"one": frame}, 0.5, 600, str(tmp_path))
    estimator, rows = lora_prompt.run(
        "r",
        fresh(llama),
        "one",
        0,
        {"one": frame},
        SETTINGS,
        600,
        str(tmp_path),
        "lora",
        query=False,
        **USED,
        out=str(tmp_path / "saved"),
    )
    test, held = (rows[rows["split"] == split] for split in ("test", "validation"))
    assert set(rows["method"]) == {"lora"} and auroc(test["logit"], test["correct"]) > 0.85
    assert auroc(held["logit"], held["correct"]) == pytest.approx(
        max(look["validation_auroc"] for look in estimator.history)
    )
    stored = files.read_safetensors(tmp_path / "saved" / "classifier.safetensors")
    assert (
        torch.equal(stored["weight"], estimator.classifier.weight.detach())
        and (tmp_path / "saved" / "adapter_config.json").exists()
        and not (tmp_path / "saved" / "README.md").exists()  # of PEFT; a card of ours comes with sharing
    )


def test_a_task_that_is_left_out_is_not_trained_on_and_is_judged_alone(llama, tmp_path, monkeypatch):
    frame = learnable()
    frame["task"] = ["kept", "left"] * (len(frame) // 2)
    extract_stage.run("r", llama, {"one": frame}, 0.5, 600, str(tmp_path))
    seen = {}
    fit = LoraPrompt.fit
    monkeypatch.setattr(
        LoraPrompt,
        "fit",
        lambda self, train, correct, shift, validate, file: (
            seen.update(train=len(correct)),
            fit(self, train, correct, shift, validate),
        ),
    )
    settings = SETTINGS | {"epochs": 1, "evaluations": 1, "wrong_per_right": None}
    rows = lora_prompt.run(
        "r",
        fresh(llama),
        "one",
        0,
        {"one": frame},
        settings,
        600,
        str(tmp_path),
        "x",
        without="left",
        **USED,
        out=str(tmp_path / "saved"),
    )[1]
    counts = frame.groupby(["task", "split"]).size()
    assert seen["train"] == counts["kept", "train"]
    assert rows.groupby(["task", "split"]).size().to_dict() == {
        ("kept", "validation"): counts["kept", "validation"],
        ("left", "test"): counts["left", "test"],
    }
    with pytest.raises(WhoknowsError, match="no question is of `lefft`, so it cannot be left out"):
        lora_prompt.prepare(llama, {"one": frame}, "one", settings, 0, 600, "x", without="lefft")
