"""A branch of an example is computed as if nothing but the question stood before it."""

import pytest
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from made_up import answers, plain, untaught
from whoknows import WhoknowsError
from whoknows.data.prompts import QUERY
from whoknows.models.decoding import final, hidden_states
from whoknows.models.packing import PackedExample, collate, columns, only_at, pack
from whoknows.models.reader import Reader


def test_each_token_sees_its_question_and_its_own_branch_backwards(llama):
    examples = [PackedExample([5, 6], ([7, 8], [9])), PackedExample([1], ([2],))]
    inputs = collate(examples, llama)
    assert inputs["input_ids"].tolist() == [[5, 6, 7, 8, 9], [1, 2, 0, 0, 0]]
    assert inputs["position_ids"].tolist() == [[0, 1, 2, 3, 2], [0, 1, 0, 0, 0]]
    sees = [[[c for c in range(5) if row[c]] for row in mask[0].tolist()] for mask in inputs["attention_mask"]]
    assert sees[0] == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 4]]
    assert sees[1] == [[0], [0, 1], [2], [3], [4]]


@torch.no_grad()
def test_every_token_of_a_packed_example_is_computed_as_in_a_row_alone(reader):
    examples = [
        PackedExample([50, 51, 52], ([60, 61], [70], [80, 81, 82])),
        PackedExample([90], ([91, 92],)),
        PackedExample(list(range(60, 80)), ([9], [8])),
    ]
    states = reader.base(**collate(examples, reader), use_cache=False).last_hidden_state
    for row, example in enumerate(examples):
        for at, branch in zip(example.offsets(), example.branches):
            alone = plain(reader, example.question + branch).hidden_states[-1][0]
            torch.testing.assert_close(
                states[row, : len(example.question)], alone[: len(example.question)], rtol=1e-4, atol=1e-5
            )
            torch.testing.assert_close(
                states[row, at : at + len(branch)], alone[len(example.question) :], rtol=1e-4, atol=1e-5
            )


def gemma(llama, **sizes):
    size = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
    }
    config = Gemma3TextConfig(vocab_size=len(llama.tokenizer), initializer_range=0.15, **size | sizes)
    torch.manual_seed(0)
    return Reader(Gemma3ForCausalLM._from_config(config, attn_implementation="sdpa").eval(), llama.tokenizer)


@torch.no_grad()
@pytest.mark.parametrize("longest", range(62, 68))
def test_a_text_is_computed_alike_in_a_batch_of_any_width(reader, longest):
    examples = [
        PackedExample(list(range(50, 70)), (list(range(40, 50)), list(range(90, 60 + longest)))),
        PackedExample([90], ([91, 92],)),
    ]
    inputs = collate(examples, reader)
    assert inputs["input_ids"].shape == (2, columns(longest)) and columns(longest) % 32 != 1
    states = reader.base(**inputs, use_cache=False).last_hidden_state
    alone = plain(reader, examples[0].question + examples[0].branches[1]).hidden_states[-1][0]
    torch.testing.assert_close(states[0, 30:longest], alone[20:], rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.skipif(not torch.cuda.is_available(), reason="the mistake is one of a kernel on a GPU")
@pytest.mark.parametrize("longest", [64, 65, 66, 97, 129])
def test_a_gpu_attends_as_a_cpu_does_whatever_the_width(llama, longest):
    reader = gemma(llama, head_dim=256)
    examples = [
        PackedExample(list(range(50, 70)), (list(range(40, 50)), list(range(90, 60 + longest)))),
        PackedExample([90], ([91, 92],)),
    ]
    usual = reader.base(**collate(examples, reader), use_cache=False).last_hidden_state
    reader.model.to("cuda")
    states = reader.base(**collate(examples, reader), use_cache=False).last_hidden_state.cpu()
    torch.testing.assert_close(states, usual, rtol=1e-3, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("kinds", [None, ["sliding_attention", "full_attention"] * 2])
def test_no_token_sees_further_back_than_its_block_does(llama, mistral, kinds):
    """Some blocks of Gemma 3 have a window, and all of Mistral's; positions of branches go on from the question's."""
    if kinds is None:
        reader = untaught(mistral, sliding_window=6)
    else:
        reader = gemma(llama, layer_types=kinds, sliding_window=6)
    examples = [PackedExample(list(range(40, 50)), ([60, 61], [70, 71, 72])), PackedExample([9, 8], ([7],))]
    states = reader.base(**collate(examples, reader), use_cache=False).last_hidden_state
    for row, example in enumerate(examples):
        for at, branch in zip(example.offsets(), example.branches):
            alone = plain(reader, example.question + branch).hidden_states[-1][0]
            torch.testing.assert_close(
                states[row, at : at + len(branch)], alone[len(example.question) :], rtol=1e-4, atol=1e-5
            )
    reader.model.config.sliding_window = None
    whole = reader.base(**collate(examples, reader), use_cache=False).last_hidden_state
    assert (states[0, 10:15] - whole[0, 10:15]).abs().max() > 1e-3, "the window never mattered"


@torch.no_grad()
@pytest.mark.parametrize("first", range(4))
def test_upper_blocks_go_on_from_what_entered_the_first_of_them(reader, first):
    examples = [PackedExample([50, 51, 52], ([60, 61], [70])), PackedExample([9, 8], ([7],))]
    *states, last = hidden_states(reader, examples)
    upper = final(reader, examples, first, [state[: len(example)] for state, example in zip(states[first], examples)])
    for row, example in enumerate(examples):
        torch.testing.assert_close(upper[row, : len(example)], last[row, : len(example)])
    assert len(reader.layers) == reader.model.config.num_hidden_layers == 4


@torch.no_grad()
@pytest.mark.parametrize("first", range(1, 4))
def test_upper_blocks_keep_their_own_windows(llama, first):
    """Of Gemma's blocks the last alone sees everything, so that kinds counted from the wrong end differ."""
    reader = gemma(llama, layer_types=["sliding_attention"] * 3 + ["full_attention"], sliding_window=6)
    examples = [PackedExample(list(range(40, 55)), ([60, 61], [70, 71, 72]))]
    states = torch.stack(
        [
            torch.cat(
                [
                    plain(reader, examples[0].question + branch).hidden_states[first][0, at:]
                    for at, branch in ((0, [60, 61]), (15, [70, 71, 72]))
                ]
            )
        ]
    )
    upper = final(reader, examples, first, list(states))[0]
    for at, branch in zip(examples[0].offsets(), examples[0].branches):
        alone = plain(reader, examples[0].question + branch).hidden_states[-1][0]
        torch.testing.assert_close(upper[at : at + len(branch)], alone[15:], rtol=1e-4, atol=1e-5)
    assert reader.config.layer_types == ["sliding_attention"] * 3 + ["full_attention"]


def test_a_block_that_computes_some_places_alone_gives_there_what_it_gives_anyway(reader):
    inputs = collate([PackedExample([50, 51, 52], ([60, 61], [70])), PackedExample([9, 8], ([7],))], reader)
    rows, columns = torch.tensor([[0, 0, 1], [4, 1, 2]])
    given = reader.base.embed_tokens(inputs.pop("input_ids")).requires_grad_()

    def last():
        return reader.base(inputs_embeds=given, **inputs, use_cache=False).last_hidden_state

    whole = last()
    with only_at(reader.base.layers[-1], rows, columns):
        part = last()
    torch.testing.assert_close(part[rows, columns], whole[rows, columns])
    assert not torch.allclose(part[0, 0], whole[0, 0], atol=1e-2), "nothing was left out"
    slopes = [torch.autograd.grad(out[rows, columns].square().sum(), given)[0] for out in (whole, part)]
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-4)
    assert slopes[0].abs().max() > 0.01
    torch.testing.assert_close(last(), whole)  # the hooks are gone


def test_models_that_agree_share_a_branch(reader):
    frames = {"one": answers(["sun", "moon"]), "two": answers(["sun", "earth"]), "three": answers(["earth", "moon"])}
    packed = pack(reader, frames, [True, False])
    assert [len(example.branches) for example in packed.examples] == [2, 2]
    assert packed.branch_of == {"one": [0, 0], "two": [0, 1], "three": [1, 0]}
    assert [packed.is_queried(t) for t in (0, 1)] == [True, False]


def test_who_has_no_answer_has_no_branch(reader):
    few = answers(["moon", "moon"])[1:]
    packed = pack(reader, {"few": few, "all": answers(["sun", "moon"])}, [True, True])
    assert packed.branch_of == {"few": [-1, 0], "all": [0, 0]}
    assert [len(example.branches) for example in packed.examples] == [1, 1]
    assert packed.answered("few").tolist() == [False, True] and packed.answered("all").all()
    _, branch_of = packed.ends([0, 1], torch.device("cpu"))
    assert branch_of == {"few": [-1, 1], "all": [0, 1]}


def test_ends_are_those_of_answer_and_query(reader):
    packed = pack(reader, {"one": answers(["the sun"]), "two": answers([""])}, [True])
    row = [*packed.examples[0].question, *(i for branch in packed.examples[0].branches for i in branch)]
    query = reader.encode(QUERY)
    for end, last, text in zip(packed.answer_ends[0], packed.examples[0].ends(), ["the sun", ""]):
        size = len(reader.answer(text))
        assert row[end - size + 1 : end + 1] == reader.answer(text)
        assert row[end + 1 : last + 1] == query
    assert last == len(row) - 1
    assert row[: len(reader.start())] == reader.start()


def test_answers_to_other_questions_are_refused(llama):
    with pytest.raises(WhoknowsError, match="answers of two are not to the same questions"):
        pack(llama, {"one": answers(["a", "b"]), "two": answers(["a", "b"])[::-1]}, [True, True])


def test_a_text_longer_than_the_model_sees_is_refused(llama):
    length = len(pack(llama, {"one": answers(["sun"])}, [True]).examples[0])
    pack(untaught(llama, max_position_embeddings=length), {"one": answers(["sun"])}, [True])
    short = untaught(llama, max_position_embeddings=length - 1)
    pack(short, {"one": answers(["sun"])}, [False])
    with pytest.raises(
        WhoknowsError, match=f"'What is the best food.* make {length} tokens, more than the {length - 1}"
    ):
        pack(short, {"one": answers(["sun"])}, [True])
