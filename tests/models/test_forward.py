"""Hidden states and zero-shot confidences are those of plain transformers, whatever the batches."""

import pytest
import torch

from made_up import answers, extract, fresh, plain, spied
from whoknows import WhoknowsError
from whoknows.data import files
from whoknows.data.prompts import QUERY
from whoknows.estimators.hidden import BEFORE, load_hidden, mean_of
from whoknows.models import proof
from whoknows.models.packing import pack
from whoknows.stages import extract as extract_stage

FRAMES = {
    "one": answers(),
    "two": answers(("the sun", "B", "moon", "", "an ocean of heat and light", "Mercury and other metals")),
}
ALL, NONE = [True] * 6, [False] * 6


def alone(reader, frame, at, query=""):
    """Ids of one question and its answer, built as one text."""
    text, answer = frame["question"][at], frame["answer"][at]
    ids = reader.start() + reader.encode(f"Question: {text}\nAnswer:")
    return ids + (reader.encode(f" {answer}") or reader.encode("\n")) + (reader.encode(query) if query else [])


@pytest.mark.parametrize("queried", [ALL, NONE, [True, False] * 3], ids=["queried", "not queried", "some queried"])
def test_hidden_states_are_those_of_a_plain_forward_pass_at_the_last_answer_token(reader, queried):
    features = extract(reader, pack(reader, FRAMES, queried), None, 300)
    for model, frame in FRAMES.items():
        assert features.hidden[model].shape == (6, 5, 64)
        for at in range(6):
            states = torch.stack(plain(reader, alone(reader, frame, at)).hidden_states)[:, 0]
            torch.testing.assert_close(features.hidden[model][at].float(), states[:, -1], rtol=1e-2, atol=1e-2)
            for layer in range(5):  # a neighbour, in tokens or in layers, is far away
                assert (states[layer, -1] - states[layer, -2]).abs().max() > 0.1


@pytest.mark.parametrize("queried", [ALL, NONE, [True, False] * 3], ids=["queried", "not queried", "some queried"])
def test_means_are_over_the_answers_own_tokens(reader, queried):
    features = extract(reader, pack(reader, FRAMES, queried), None, 300)
    counts = set()
    for model, frame in FRAMES.items():
        for at in range(6):
            ids = alone(reader, frame, at)
            begin = len(alone(reader, frame.assign(answer=""), at)) - len(reader.answer(""))
            counts.add(len(ids) - begin)
            states = torch.stack(plain(reader, ids).hidden_states)[:, 0]
            torch.testing.assert_close(
                features.mean[model][at].float(), states[:, begin:].mean(dim=1), rtol=1e-2, atol=1e-2
            )
            for wrong in (
                states[:, begin - 1 :].mean(dim=1),
                *([states[:, begin + 1 :].mean(dim=1)] if len(ids) - begin > 1 else []),
            ):
                assert not torch.allclose(features.mean[model][at].float(), wrong, rtol=1e-2, atol=1e-2), (
                    "a token more or less is another mean"
                )
    assert 1 in counts and len(counts) > 3


@pytest.mark.parametrize("queried", [ALL, NONE], ids=["queried", "not queried"])
def test_before_the_answer_are_the_hidden_states_of_the_questions_last_token_alone(reader, queried):
    features = extract(reader, pack(reader, FRAMES, queried), None, 300)
    for at, question in enumerate(FRAMES["one"]["question"]):
        ids = reader.start() + reader.encode(f"Question: {question}\nAnswer:")
        states = torch.stack(plain(reader, ids).hidden_states)[:, 0]
        torch.testing.assert_close(features.before[at].float(), states[:, -1], rtol=1e-2, atol=1e-2)
        assert all((states[layer, -1] - states[layer, -2]).abs().max() > 0.1 for layer in range(5))


def test_zero_shot_is_the_difference_of_two_tokens_log_probabilities(reader):
    features = extract(reader, pack(reader, FRAMES, [True] * 5 + [False]), None, 300)
    no, yes = reader.encode(" i") + reader.encode(" ii")
    for model, frame in FRAMES.items():
        for at in range(5):
            logprobs = torch.log_softmax(plain(reader, alone(reader, frame, at, QUERY)).logits[0, -1], dim=-1)
            assert float(features.zero_shot[model][at]) == pytest.approx(float(logprobs[yes] - logprobs[no]), abs=1e-4)
        assert features.zero_shot[model][5].isnan()


@pytest.mark.parametrize("block", [0, 1, 3])
def test_cached_activations_are_the_residual_stream_before_a_block(reader, block):
    queried = [False, True, True, False, True, False]
    packed = pack(reader, FRAMES, queried)
    cached = extract(reader, packed, block, 300).cached
    parts = cached.split([len(example) for t, example in enumerate(packed.examples) if queried[t]])
    assert len(parts) == 3
    for t, part in zip((1, 2, 4), parts):
        example = packed.examples[t]
        for branch, at in zip(example.branches, example.offsets()):
            states = plain(reader, example.question + branch).hidden_states[block][0]
            torch.testing.assert_close(
                part[: len(example.question)], states[: len(example.question)], rtol=1e-4, atol=1e-4
            )
            torch.testing.assert_close(
                part[at : at + len(branch)], states[len(example.question) :], rtol=1e-4, atol=1e-4
            )


@pytest.mark.parametrize("budget", [1, 250, 100_000])
def test_results_do_not_depend_on_the_batches(reader, budget):
    packed = pack(reader, FRAMES, ALL)
    features, usual = (extract(reader, packed, 2, tokens) for tokens in (budget, 400))
    torch.testing.assert_close(features.cached, usual.cached, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(features.before.float(), usual.before.float(), rtol=1e-2, atol=1e-3)
    for model in FRAMES:
        torch.testing.assert_close(features.zero_shot[model], usual.zero_shot[model], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(features.hidden[model].float(), usual.hidden[model].float(), rtol=1e-2, atol=1e-3)
        torch.testing.assert_close(features.mean[model].float(), usual.mean[model].float(), rtol=1e-2, atol=1e-3)


def test_hidden_states_that_are_not_numbers_are_refused(llama):
    broken = fresh(llama)
    broken.base.layers[2].mlp.down_proj.weight.data[5] = torch.nan
    with pytest.raises(
        WhoknowsError, match="layer 3 at the answer of one to .Question: .* is NaN or infinite; set precision: float32"
    ):
        extract(broken, pack(broken, FRAMES, NONE), None, 300)
    before = fresh(llama)
    question = before.question(FRAMES["one"]["question"][3])
    alone, *_ = (
        set(question)
        - {i for at, text in enumerate(FRAMES["one"]["question"]) if at != 3 for i in before.question(text)}
        - {i for frame in FRAMES.values() for text in frame["answer"] for i in before.answer(text)}
    )
    before.base.embed_tokens.weight.data[alone] = torch.nan
    with pytest.raises(WhoknowsError, match="layer . at .*Question: Which force moves a leaf"):
        extract(before, pack(before, FRAMES, NONE), None, 300)


def test_too_large_for_bfloat16_is_refused_as_infinite(llama):
    broken = fresh(llama)
    broken.base.layers[3].mlp.down_proj.weight.data[5] = torch.inf
    with pytest.raises(WhoknowsError, match="layer 4 at the answer of one to .* is NaN or infinite"):
        extract(broken, pack(broken, FRAMES, NONE), None, 300)


def split(frames, names):
    return {model: frame.assign(split=names) for model, frame in frames.items()}


def test_a_run_writes_hidden_states_trunk_and_rows_of_the_test_answers(mistral, tmp_path, monkeypatch):
    frames, budgets = (
        split(FRAMES, ["train", "test", "validation", "test", "test", "train"]),
        spied(monkeypatch, extract_stage, "TokenBudget"),
    )
    rows, sizes = extract_stage.run("m", mistral, frames, 0.5, 300, str(tmp_path))
    assert [budget["tokens"] for budget in budgets] == [300]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{name}.safetensors" for name in ("before_answer", "one", "one_mean", "trunk", "two", "two_mean")
    ]
    assert sizes["hidden states"].to_dict() == dict.fromkeys(
        ["one", "two", "one_mean", "two_mean", "before_answer"], (6, 5, 64)
    )
    features = extract(mistral, pack(mistral, frames, ALL), None, 300)
    states = (
        features.hidden | {mean_of(scored): mean for scored, mean in features.mean.items()} | {BEFORE: features.before}
    )
    for name, kept in states.items():
        assert torch.equal(load_hidden(str(tmp_path), name, frames["one"]), kept) and kept.dtype == torch.bfloat16, name
    logits = torch.cat([features.zero_shot[scored][1:5] for scored in frames])
    assert rows["logit"].tolist() == pytest.approx(logits.tolist(), abs=1e-4)
    assert (
        rows["question_id"].tolist() == ["q1", "q2", "q3", "q4"] * 2
        and rows["scored"].tolist() == ["one"] * 4 + ["two"] * 4
    )
    assert rows["logit"].notna().all() and set(rows["method"]) == {"zero_shot"} and set(rows["trained_on"]) == {""}
    packed = pack(mistral, frames, ALL)
    cached = extract_stage.load_cached(str(tmp_path), packed, 2)
    assert [len(part) for part in cached] == [len(example) for example in packed.examples]
    states = plain(mistral, packed.examples[1].question + packed.examples[1].branches[0]).hidden_states[2][0]
    torch.testing.assert_close(cached[1][: len(states)], states, rtol=1e-4, atol=1e-4)


def test_a_trunk_of_other_texts_is_refused(mistral, tmp_path):
    extract_stage.run("m", mistral, split(FRAMES, "test"), 0.5, 300, str(tmp_path))
    for other in (FRAMES["one"].assign(answer="another"), FRAMES["one"][:5]):
        with pytest.raises(WhoknowsError, match="trunk.safetensors is not of these questions and answers"):
            extract_stage.load_cached(str(tmp_path), pack(mistral, {"one": other}, [True] * len(other)), 2)


def test_a_trunk_that_ends_at_another_block_is_refused(mistral, tmp_path):
    extract_stage.run("m", mistral, split(FRAMES, "test"), 0.5, 300, str(tmp_path))
    with pytest.raises(WhoknowsError, match="ends before block 2, but the adapters begin at block 3"):
        extract_stage.load_cached(str(tmp_path), pack(mistral, FRAMES, [True] * 6), 3)


def test_a_reader_whose_blocks_cannot_go_on_from_it_has_a_trunk_that_says_so(mistral, tmp_path, monkeypatch):
    monkeypatch.setattr(proof, "cached", lambda *_: False)
    rows, _ = extract_stage.run("m", mistral, split(FRAMES, "test"), 0.5, 300, str(tmp_path))
    assert len(rows) and extract_stage.load_cached(str(tmp_path), pack(mistral, FRAMES, [True] * 6), 2) is None


@pytest.mark.parametrize("first_layer", [None, 0])
def test_without_upper_adapters_there_is_no_trunk(mistral, tmp_path, first_layer):
    extract_stage.run("m", mistral, split(FRAMES, "test"), first_layer, 300, str(tmp_path))
    assert not (tmp_path / "trunk.safetensors").exists()
    hidden = files.read_safetensors(tmp_path / "one.safetensors")["hidden"]
    assert hidden.dtype == torch.bfloat16
