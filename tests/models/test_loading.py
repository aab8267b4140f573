"""Texts become ids piece by piece, and the pieces are those of the whole text."""

import logging
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import FalconConfig, FalconForCausalLM, LlamaConfig, MptConfig, PreTrainedTokenizerFast, XLNetConfig

from made_up import QUESTIONS, fresh
from whoknows import WhoknowsError
from whoknows.data.prompts import QUERY
from whoknows.models import loading
from whoknows.models.reader import Reader, first_block


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["Paris", "A", "two words", "", "ünïcode 🙂", "1808", "i"])
@pytest.mark.parametrize("question", QUESTIONS)
def test_pieces_join_to_the_encoding_of_the_whole(reader, question, answer):
    pieces = reader.question(question) + (reader.answer(answer) if answer else []) + reader.encode(QUERY)
    whole = f"Question: {question}\nAnswer:" + (f" {answer}" if answer else "") + QUERY
    assert reader.start() + pieces == reader.tokenizer(whole).input_ids
    assert reader.tokenizer.decode(pieces) == whole


def test_bos_stands_once_at_the_beginning_where_the_tokenizer_has_one(llama, mistral):
    bos = mistral.tokenizer.bos_token_id
    ids = mistral.start() + mistral.question("Why?") + mistral.answer("A") + mistral.encode(QUERY)
    assert mistral.tokenizer("a").input_ids[0] == bos
    assert ids[0] == bos and ids.count(bos) == 1
    # this tokenizer knows a BOS, but does not put it before texts
    assert llama.tokenizer.bos_token_id is not None and llama.start() == []


def test_an_answer_has_the_space_after_the_colon(reader):
    assert reader.answer("i") == reader.encode(" i") != reader.encode("i")
    assert reader.tokenizer.decode(reader.question("Why?") + reader.answer("leaf")).endswith("Answer: leaf")


def test_an_empty_answer_has_a_last_token_of_its_own(reader):
    assert len(reader.answer("")) == 1


def test_a_tokenizer_that_merges_pieces_is_refused():
    class Merging:
        name_or_path = "merging"

        def __call__(self, texts, add_special_tokens=True):
            return type("Encoding", (), {"input_ids": [[len(text)] for text in texts]})

    with pytest.raises(WhoknowsError, match="merging does not keep ' x' apart"):
        Reader(None, Merging()).encode(" x")


def test_choices_are_the_tokens_that_follow_the_query(reader):
    no, yes = reader.choices
    assert no != yes
    for token, text in ((no, " i"), (yes, " ii")):
        assert reader.encode(f"{QUERY}{text}") == [*reader.encode(QUERY), token]


def test_choices_of_several_tokens_are_refused():
    bytes_alone = {letter: index for index, letter in enumerate(sorted(ByteLevel.alphabet()))}
    tokenizer = Tokenizer(BPE(bytes_alone, []))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    with pytest.raises(WhoknowsError, match="need two single tokens"):
        Reader(None, PreTrainedTokenizerFast(tokenizer_object=tokenizer)).choices


@pytest.mark.parametrize(
    "config, limit",
    [(LlamaConfig(max_position_embeddings=99), 99), (MptConfig(max_seq_len=77), 77), (XLNetConfig(), float("inf"))],
    ids=lambda some: getattr(some, "model_type", str(some)),
)
def test_the_longest_text_is_as_long_as_there_are_positions(config, limit):
    assert Reader(SimpleNamespace(config=config), None).limit == limit


def test_a_loaded_model_is_frozen_and_has_the_asked_precision(reader):
    assert not reader.model.training and not any(p.requires_grad for p in reader.model.parameters())
    assert reader.head.dtype == torch.float32 and reader.depth == 4


@pytest.mark.parametrize("source", ["tiny-gpt", "no/such/folder"])
def test_an_unknown_source_is_named(source):
    with pytest.raises(WhoknowsError, match=f"{source}.* is no asset"):
        loading.load(source, "float32")


def test_a_folder_without_weights_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(WhoknowsError, match="could not be loaded"):
        loading.load(str(tmp_path), "float32")


def _lacks(weights):
    del weights["model.layers.1.mlp.up_proj.weight"]


def _is_smaller(weights):
    weights["model.norm.weight"] = weights["model.norm.weight"][:8].clone()


@pytest.mark.parametrize(
    "change, sentence",
    [
        (_lacks, "lack 1 of the model's weights, .* such as model.layers.1.mlp.up_proj.weight; fetch"),
        (_is_smaller, "or have another shape of them, such as model.norm.weight; fetch or save them anew"),
        (None, "could not be loaded"),
    ],
    ids=["missing", "of another shape", "cut off"],
)
def test_weights_that_are_missing_are_not_random_numbers_but_an_error(reader, tmp_path, capfd, change, sentence):
    """transformers puts random numbers in their place, and goes on."""
    reader.model.save_pretrained(tmp_path)
    reader.tokenizer.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    assert loading.load(str(tmp_path), "float32").depth == reader.depth
    if change:
        weights = load_file(path)
        change(weights)
        save_file(weights, path, {"format": "pt"})
    else:
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WhoknowsError, match=sentence) as error:
        loading.load(str(tmp_path), "float32")
    assert str(tmp_path) in str(error.value) and len(str(error.value).splitlines()) == 1
    assert "LOAD REPORT" not in capfd.readouterr().err


def test_that_old_code_attends_in_one_way_is_not_logged(monkeypatch):
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 9}
    logger, logged = logging.getLogger("transformers.modeling_utils"), []
    monkeypatch.setattr(logger, "handle", lambda record: logged.append(record.getMessage()))
    model = FalconForCausalLM(FalconConfig(**shape))
    loading.set_attention(model, "shared_prefix")
    assert not logged
    model.set_attn_implementation("shared_prefix")
    assert "does not support setting" in logged[0]  # so others would have been seen


@pytest.mark.parametrize(
    "depth, share, block", [(30, 0.5, 15), (18, 0.5, 9), (4, 0, 0), (4, 0.75, 3), (4, 1, 3), (1, 0.5, 0)]
)
def test_first_block(depth, share, block):
    assert first_block(depth, share) == block


@pytest.mark.parametrize("dtype, close", [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_fused_norms_give_what_those_of_transformers_give(reader, dtype, close):
    usual, fused = fresh(reader).model.to(dtype), fresh(reader).model.to(dtype)
    loading.fuse_norms(fused)
    assert sum(isinstance(module, loading.FusedNorm) for module in fused.modules()) == 2 * 4 + 1
    ids = torch.tensor([reader.question("Which moon?")])
    for one, other in zip(
        usual(ids, output_hidden_states=True).hidden_states, fused(ids, output_hidden_states=True).hidden_states
    ):
        torch.testing.assert_close(other, one, rtol=close, atol=close * float(one.abs().max()))
