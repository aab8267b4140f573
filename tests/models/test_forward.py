"""Hidden states and zero-shot confidences are those of plain transformers, whatever the batches."""

import itertools

import pytest
import torch

from made_up import answers, extract, fresh, plain, spied
from whoknows import WhoknowsError
from whoknows.data import files, prompts
from whoknows.data.positions import FIRST, LAST, MEAN, POSITIONS, QUERY, QUESTION, stem
from whoknows.estimators.hidden import load_hidden
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
    ids = reader.tokenizer(f"Question: {text}\nAnswer:").input_ids
    return ids + (reader.encode(f" {answer}") or reader.encode("\n")) + (reader.encode(query) if query else [])


def before(reader, frame, at):
    """Ids of one question alone."""
    return reader.tokenizer(f"Question: {frame['question'][at]}\nAnswer:").input_ids


SOME = pytest.mark.parametrize(
    "queried", [ALL, NONE, [True, False] * 3], ids=["queried", "not queried", "some queried"]
)


@SOME
def test_hidden_states_are_those_of_a_plain_forward_pass_at_the_last_answer_token(reader, queried):
    features = extract(reader, pack(reader, FRAMES, queried), None, 300)
    for model, frame in FRAMES.items():
        assert features.states[model].shape == (6, 5, 64)
        for at in range(6):
            states = torch.stack(plain(reader, alone(reader, frame, at)).hidden_states)[:, 0]
            torch.testing.assert_close(features.states[model][at].float(), states[:, -1], rtol=1e-2, atol=1e-2)
            for layer in range(5):  # a neighbour, in tokens or in layers, is far away
                assert (states[layer, -1] - states[layer, -2]).abs().max() > 0.1


@SOME
@pytest.mark.parametrize("positions", [POSITIONS, (QUERY, MEAN), (FIRST, QUESTION)], ids="-".join)
def test_each_position_is_of_its_own_tokens_in_a_plain_forward_pass(reader, queried, positions):
    """The tokens are counted from ids: those of the question, of the answer and of the query, each encoded alone."""
    features, lengths = extract(reader, pack(reader, FRAMES, queried), None, 300, positions), set()
    names = {stem(model, position) for model in FRAMES for position in positions}
    assert features.states.keys() == names, "no other position is kept"
    for model, frame in FRAMES.items():
        for at in range(6):
            ids, begin = alone(reader, frame, at, prompts.QUERY), len(before(reader, frame, at))
            end = len(alone(reader, frame, at))
            states = torch.stack(plain(reader, ids).hidden_states)[:, 0]
            lengths.add(end - begin)
            expected = {
                QUESTION: states[:, begin - 1],
                FIRST: states[:, begin],
                MEAN: states[:, begin:end].mean(dim=1),
                LAST: states[:, end - 1],
                QUERY: states[:, len(ids) - 1],
            }
            for position in positions:
                made = features.states[stem(model, position)][at].float()
                if position == QUERY and not queried[at]:
                    assert made.isnan().all(), "nobody put the query"
                    continue
                torch.testing.assert_close(made, expected[position], rtol=1e-2, atol=1e-2)
                of_one = {FIRST, MEAN, LAST} if end - begin == 1 else set()
                for other in expected.keys() - (of_one if position in of_one else {position}):
                    assert not torch.allclose(made, expected[other], rtol=1e-2, atol=1e-2), (position, other)
                longer = states[:, begin - 1 : end].mean(dim=1)
                assert not torch.allclose(made, longer, rtol=1e-2, atol=1e-2), "a token more is another mean"
    assert 1 in lengths and len(lengths) > 3


def test_of_an_answer_of_one_token_the_first_the_last_and_the_mean_are_the_same(reader):
    frames = {"one": FRAMES["one"].assign(answer="A"), "two": FRAMES["two"].assign(answer="B")}
    assert [len(reader.answer(text)) for text in "AB"] == [1, 1]
    states = extract(reader, pack(reader, frames, ALL), None, 300).states
    for model in frames:
        assert torch.equal(states[stem(model, FIRST)], states[model]) and states[model].isfinite().all()
        assert torch.equal(states[stem(model, MEAN)], states[model])
        assert not torch.allclose(states[stem(model, QUERY)].float(), states[model].float(), atol=0.1)


def test_zero_shot_is_the_difference_of_two_tokens_log_probabilities(reader):
    features = extract(reader, pack(reader, FRAMES, [True] * 5 + [False]), None, 300)
    no, yes = reader.encode(" i") + reader.encode(" ii")
    for model, frame in FRAMES.items():
        for at in range(5):
            logprobs = torch.log_softmax(plain(reader, alone(reader, frame, at, prompts.QUERY)).logits[0, -1], dim=-1)
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
    assert features.states.keys() == usual.states.keys() and len(usual.states) == 9
    for name, states in features.states.items():
        torch.testing.assert_close(states.float(), usual.states[name].float(), rtol=1e-2, atol=1e-3)
    for model in FRAMES:
        torch.testing.assert_close(features.zero_shot[model], usual.zero_shot[model], rtol=1e-4, atol=1e-4)


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
    names = ["one", "two", *(f"{model}_{name}" for name in ("first", "mean", "query") for model in ("one", "two"))]
    assert sorted(path.stem for path in tmp_path.iterdir()) == sorted([*names, "before_answer", "trunk"])
    assert sizes["hidden states"].to_dict() == dict.fromkeys([*names, "before_answer"], (6, 5, 64))
    features = extract(mistral, pack(mistral, frames, ALL), None, 300)
    for name, kept in features.states.items():
        on_disk = files.read_safetensors(tmp_path / f"{name}.safetensors")["hidden"]
        assert torch.equal(on_disk, kept) and kept.dtype == torch.bfloat16, name
        assert kept.isfinite().all(), name
    for model, position in itertools.product(FRAMES, POSITIONS):
        kept = features.states[stem(model, position)]
        assert torch.equal(load_hidden(str(tmp_path), "m", model, frames[model], position), kept)
    others = frames["one"].assign(answer="Another.")
    for reader, some, what in (
        ("n", frames["one"], "of m, not n"),
        ("m", others, "of other answers to these questions"),
    ):
        with pytest.raises(
            WhoknowsError, match=f"one.safetensors holds hidden states {what}: extract those of {reader}"
        ):
            load_hidden(str(tmp_path), reader, "one", some)
    load_hidden(str(tmp_path), "m", "", others, QUESTION)  # before an answer there is none
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
    names = ["train", "test", "validation", "test", "test", "train"]
    rows, _ = extract_stage.run("m", mistral, split(FRAMES, names), 0.5, 300, str(tmp_path))
    assert len(rows) and extract_stage.load_cached(str(tmp_path), pack(mistral, FRAMES, [True] * 6), 2) is None
    at_query = load_hidden(str(tmp_path), "m", "two", FRAMES["two"], QUERY)
    missing = at_query.isnan().flatten(1)
    assert missing.all(dim=1).tolist() == missing.any(dim=1).tolist() == [name == "train" for name in names]


@pytest.mark.parametrize("first_layer", [None, 0])
def test_without_upper_adapters_there_is_no_trunk(mistral, tmp_path, first_layer):
    extract_stage.run("m", mistral, split(FRAMES, "test"), first_layer, 300, str(tmp_path))
    assert not (tmp_path / "trunk.safetensors").exists() and not (tmp_path / "one_query.safetensors").exists()
    hidden = files.read_safetensors(tmp_path / "one.safetensors")["hidden"]
    assert hidden.dtype == torch.bfloat16
