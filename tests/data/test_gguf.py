"""A tiny GGUF file is converted; nothing is downloaded."""

import json

import gguf
import numpy as np
import pytest
from test_lora_prompt import SETTINGS, learnable

from whoknows import WhoknowsError, __main__
from whoknows.data import assets, files
from whoknows.data import gguf as converter
from whoknows.data.files import ROOT
from whoknows.models import loading
from whoknows.run import cost, grid, parameters
from whoknows.stages import extract, lora_prompt
from whoknows.use import cards


@pytest.fixture
def toy(tmp_path):
    return tmp_path / "toy.gguf", *write(tmp_path / "toy.gguf")


def write(path, matrices=("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")):
    """A Llama with one block and a byte vocabulary; its embedding and its square matrix before they were packed."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    tokens = ["<end>", *bytes_to_unicode().values(), "Ġi", "Ġii"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(512)
    writer.add_embedding_length(64)
    writer.add_block_count(1)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(32)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3] + [1] * (len(tokens) - 1))
    writer.add_token_merges(["Ġ i", "Ġi i"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    random = np.random.default_rng(0)
    embedding = random.standard_normal((len(tokens), 64)).astype(np.float32)
    square = random.standard_normal((64, 64)).astype(np.float32) / 8  # so that all tokens count in attention
    writer.add_tensor("token_embd.weight", embedding)
    writer.add_tensor("output_norm.weight", np.ones(64, np.float32))
    for name in matrices:
        packed = gguf.quants.quantize(square, gguf.GGMLQuantizationType.Q4_1)
        writer.add_tensor(f"blk.0.{name}.weight", packed, raw_dtype=gguf.GGMLQuantizationType.Q4_1)
    for name in ("attn_norm", "ffn_norm"):
        writer.add_tensor(f"blk.0.{name}.weight", np.ones(64, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return embedding, square


@pytest.mark.slow
def test_a_gguf_becomes_bf16_safetensors_and_a_fast_tokenizer(toy):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path, embedding, square = toy
    assets._convert("toy", path)
    assert not path.exists()
    model = AutoModelForCausalLM.from_pretrained(path.parent, dtype="auto")
    assert model.dtype == torch.bfloat16
    kept = model.get_input_embeddings().weight.float()
    assert torch.equal(kept, torch.from_numpy(embedding).bfloat16().float())
    down = model.model.layers[0].mlp.down_proj.weight.float()
    assert (down - torch.from_numpy(square)).abs().max() < 0.04  # four bits of values within ±0.5
    tokenizer = AutoTokenizer.from_pretrained(path.parent)
    assert tokenizer.is_fast
    assert tokenizer.convert_ids_to_tokens(tokenizer(" i ii").input_ids) == ["Ġi", "Ġii"]


@pytest.mark.slow
def test_a_gguf_that_lacks_weights_is_not_converted(tmp_path):
    write(tmp_path / "toy.gguf", ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up"))
    with pytest.raises(WhoknowsError, match="lacks 1 of the model's weights, such as model.layers.0.mlp.down_proj"):
        assets._convert("toy", tmp_path / "toy.gguf")


@pytest.mark.slow
def test_a_grid_that_names_a_gguf_file_converts_it_once_and_trains_an_estimator_that_scores_the_same(
    toy, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("WHOKNOWS_CACHE", str(tmp_path / "cache"))
    features, out = (tmp_path / name for name in ("features", "out"))
    values = files.read_yaml(ROOT / "grids/smoke.yml") | {"models": [{"name": "mine", "source": "toy.gguf"}]}
    (tmp_path / "grid.yml").write_text(json.dumps(values))
    chosen, before = grid.load(tmp_path / "grid.yml"), toy[0].read_bytes()
    assert cost.size(chosen.models[0].source).origin == "a guess"
    loading.check(chosen.models[0].source)
    assert capsys.readouterr().err == f"{toy[0]}: converting to bf16 safetensors, once\n"
    assert toy[0].read_bytes() == before and cost.size(chosen.models[0].source).origin == ""
    monkeypatch.setattr(assets, "_convert", lambda *_: pytest.fail("it was converted"))
    told = json.loads(parameters.of("lora_prompt")(chosen, reader="mine", trained_on="mine", seed="0"))
    used = {key: told[key] for key in ("source", "precision", "template", "digest")}
    reader, frames = loading.load(**used), {"mine": learnable(60)}
    settings = SETTINGS | {"first_layer": 0.0, "epochs": 1, "evaluations": 1}
    extract.run("mine", reader, frames, 0.0, 600, str(features))
    rows = lora_prompt.run("mine", reader, "mine", 0, frames, settings, 600, str(features), **used, out=str(out))[1]
    cards.write(out, rows)
    rows = rows.query("split == 'test'")
    asked = frames["mine"].set_index("question_id").loc[rows["question_id"], ["question", "answer"]]
    asked.to_json(tmp_path / "asked.jsonl", orient="records", lines=True)
    given = ["--input", str(tmp_path / "asked.jsonl"), "--output", str(tmp_path / "scored.jsonl")]
    assert __main__.main(["score", "--estimator", str(out), *given]) == 0
    scored = [json.loads(line)["logit"] for line in (tmp_path / "scored.jsonl").read_text().splitlines()]
    assert len(scored) == 18 and np.ptp(scored) > 0.01
    np.testing.assert_allclose(scored, rows["logit"], atol=1e-4)


def test_another_gguf_file_of_the_same_name_is_another_model(tmp_path, monkeypatch):
    monkeypatch.setenv("WHOKNOWS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(assets, "_convert", lambda name, gguf: gguf.rename(gguf.with_name("weights")))
    file, made = tmp_path / "toy.gguf", []
    for text in ("one", "two", "one"):
        file.write_text(text)
        made.append((assets.digest(str(file)), assets.resolve(f"chat:{file}")))
    assert made[0] == made[2] and not {*made[0]} & {*made[1]}
    assert not assets.on_hub(str(file)) and assets.digest(str(tmp_path / "no.gguf")) is None


class Tokenizer:
    """Bytes for ids, with or without a BOS."""

    is_fast, special_tokens_map = True, {}

    def __init__(self, bos=(), lossy=False):
        self.bos, self.lossy = list(bos), lossy

    def __len__(self):
        return 257

    def __call__(self, text):
        self.input_ids = self.bos + list(text.strip().encode() if self.lossy else text.encode())
        return self

    def decode(self, ids, skip_special_tokens):
        return bytes(ids[len(self.bos) :]).decode()


def test_a_tokenizer_that_lost_its_bos_or_its_spaces_is_refused():
    converter.check_tokenizer(Tokenizer(bos=[256]), Tokenizer(bos=[256]))
    with pytest.raises(ValueError, match="other ids"):
        converter.check_tokenizer(Tokenizer(bos=[256]), Tokenizer())
    with pytest.raises(ValueError, match="does not give back"):
        converter.check_tokenizer(Tokenizer(lossy=True), Tokenizer(lossy=True))
