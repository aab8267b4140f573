"""Decoders of many kinds: all numbers are those of plain transformers and plain PEFT, the fast way or the plain one."""

import json
import random
import re
import warnings
from unittest.mock import Mock

import pandas as pd
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from made_up import extract
from whoknows import WhoknowsError
from whoknows.estimators.lora import LoraPrompt
from whoknows.estimators.lora_data import gather
from whoknows.models import loading, proof, tiny
from whoknows.models.adapting import adapt
from whoknows.models.packing import pack
from whoknows.models.reader import Reader, targets
from whoknows.stages import answer as answer_stage

pytestmark = pytest.mark.slow

SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 4096,
}
OLD = {"n_embd": 64, "n_layer": 4, "n_head": 4, "n_positions": 4096}
LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "layer_types": ["linear_attention", "full_attention"] * 2,
}
EXPERTS = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LATENT = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 16,
    "head_dim": 8,
    "num_key_value_heads": 4,
}
ALL, NO_PREFIX, NONE = {"prefix", "packing", "adapters"}, {"packing", "adapters"}, set()
# By kind, or by another name, what makes it small, and which fast ways suit it.
KINDS = {
    "llama": ({}, ALL),
    "phi": ({}, ALL),  # its head has a bias
    "granite": (
        {"embedding_multiplier": 6.0, "residual_multiplier": 0.5, "attention_multiplier": 0.1, "logits_scaling": 4.0},
        ALL,
    ),
    "granite_swa": ({}, NO_PREFIX),  # its softmax has a sink, so small a one that no text of the proof shows it
    "cohere": ({}, ALL),  # scales its logits
    "mistral": ({"sliding_window": 24}, ALL),
    "gemma3_text": (
        {
            "sliding_window": 24,
            "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
            "final_logit_softcapping": 10.0,
        },
        ALL,
    ),
    "gemma2": ({"sliding_window": 24, "query_pre_attn_scalar": 8}, NO_PREFIX),  # caps its attention's scores
    "gpt2": (OLD, ALL),
    "gpt_neox": ({}, ALL),
    "opt": ({"ffn_dim": 96, "word_embed_proj_dim": 64}, ALL),
    "falcon": ({}, NO_PREFIX),
    "mpt": ({"d_model": 64, "n_layers": 4, "n_heads": 4, "max_seq_len": 4096}, NONE),  # positions are biases
    "lfm2": ({"layer_types": ["conv", "full_attention"] * 2}, NONE),
    "qwen3_5_text": (LINEAR, NONE),
    "mamba": ({}, NONE),
    "mixtral": (EXPERTS | {"sliding_window": None}, ALL),
    "deepseek_v3": (
        LATENT
        | EXPERTS
        | {"n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1, "n_group": 2, "topk_group": 1},
        NO_PREFIX,
    ),
    "gpt_oss": ({"num_local_experts": 4, "sliding_window": 24}, NO_PREFIX),  # its softmax has a sink
    "llama4_text": (
        {
            "attention_chunk_size": 16,
            "num_local_experts": 2,
            "num_experts_per_tok": 1,
            "intermediate_size_mlp": 96,
            "interleave_moe_layer_step": 2,
        },
        NONE,
    ),
}
QUESTIONS = (
    "What is the name of the first one in this?",
    "Who?",
    "Which of the two is an animal, and which is the longer name of a city by the river?",
)
SAID = {"a": ("the river", "i", "ii of the"), "b": ("an animal by the sea", "i", "with")}
TARGETS = {"mamba": ["in_proj", "x_proj"]}  # where PEFT does not take all
LORA = {
    "r": 4,
    "alpha": 8,
    "dropout": 0.0,
    "targets": "all-linear",
    "learning_rate": 1e-3,
    "batch_size": 2,
    "evaluations": 1,
    "patience": 1,
    "js_weight": 0.0,
}


def make(kind: str, more: dict) -> Reader:
    """A random model in which what a fast way may leave out is large: biases, norms, the head's own bias."""
    tokenizer = tiny.byte_level()
    small = {key: value for key, value in SHAPE.items() if "n_embd" not in more and "d_model" not in more}
    if isinstance(getattr(CONFIG_MAPPING[kind], "head_dim", None), property):
        del small["head_dim"]
    config = CONFIG_MAPPING[kind](
        **small | {"vocab_size": len(tokenizer), "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1} | more
    )
    for part in (config, config.get_text_config()):
        part.initializer_range = 0.15
    text = config.get_text_config()
    assert text.hidden_size == 64 and text.num_hidden_layers == 4
    with torch.device("meta"):
        size = sum(weight.numel() for weight in AutoModelForCausalLM.from_config(config).parameters())
    assert size < 3e6
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.ndim <= 1:
                    weight.add_(torch.randn(weight.shape) * 0.2)
    return Reader(model.eval().requires_grad_(False), tokenizer)


def log_odds(reader: Reader, model, question: str, answer: str) -> float:
    """Of yes, from the whole text by itself."""
    ids = reader.start() + reader.question(question) + reader.answer(answer) + reader.query
    no, yes = reader.choices
    with torch.no_grad():
        logits = model(torch.tensor([ids]), use_cache=False).logits[0, -1]
    return float(logits[yes] - logits[no])


def frames() -> dict[str, pd.DataFrame]:
    return {
        name: pd.DataFrame({"question_id": range(3), "question": QUESTIONS, "answer": texts, "split": "test"})
        for name, texts in SAID.items()
    }


def hold_answers(reader: Reader) -> None:
    """Against the whole text at every step: there is no cache that could be wrong."""
    asked = [
        ("What is on?", ["the first"], "shot"),
        ("Who was?", ["it was"], "shot"),
        *((question, ["i"], "test") for question in QUESTIONS),
    ]
    table = pd.DataFrame(asked, columns=["question", "gold", "split"]).assign(
        task="made_up", kind="open", question_id=[*range(5)]
    )
    written = answer_stage.answer(reader, table, 5, 512)
    before = reader.examples(["What is on?", "Who was?"], ["the first", "it was"])
    for line, question in zip(written.itertuples(), reader.questions(list(QUESTIONS), after_examples=True)):
        ids, logprobs = before + question, []
        while len(logprobs) < line.tokens:
            with torch.no_grad():
                step = reader.model(torch.tensor([ids]), use_cache=False).logits[0, -1].log_softmax(-1)
            ids, logprobs = [*ids, int(step.argmax())], [*logprobs, float(step.max())]
        assert (
            reader.tokenizer.decode(ids[-line.tokens :], skip_special_tokens=True).split("\n")[0].strip() == line.answer
        )
        assert line.sum_logprob == pytest.approx(sum(logprobs), abs=2e-3)


def hold_reading(reader: Reader) -> None:
    features = extract(reader, pack(reader, frames(), [True] * 3), None, 512)
    for name, texts in SAID.items():
        for at, (question, answer) in enumerate(zip(QUESTIONS, texts)):
            ids = reader.start() + reader.question(question) + reader.answer(answer)
            with torch.no_grad():
                states = torch.stack(
                    reader.model(torch.tensor([ids]), use_cache=False, output_hidden_states=True).hidden_states
                )[:, 0]
            torch.testing.assert_close(features.states[name][at].float(), states[:, -1], rtol=1e-2, atol=1e-2)
            assert float(features.zero_shot[name][at]) == pytest.approx(
                log_odds(reader, reader.model, question, answer), abs=1e-4
            )


def hold_training(reader: Reader, plain: Reader, first_layer: float, wanted) -> bool:
    """Scores of shaken adapters are plain PEFT's, from cached activations above block 0; whether it was fast."""
    estimator = LoraPrompt(reader, LORA | {"first_layer": first_layer, "targets": wanted}, 0, 512)
    random_ = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in estimator.weights:
            weight.add_(torch.randn(weight.shape, generator=random_) * 0.05)
    packed, first = pack(reader, frames(), [True] * 3), estimator.first
    cached = extract(plain, packed, first, 512).cached if first else None
    parts = None if cached is None else cached.split([len(example) for example in packed.examples])
    scores = estimator.score(gather(packed, parts, [0, 1, 2]))
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=targets(plain.model, wanted, estimator.first),
        layers_to_transform=[*range(estimator.first, plain.depth)],
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft = get_peft_model(plain.model, config).eval()
    with torch.no_grad():
        for weight, shaken in zip([p for p in peft.parameters() if p.requires_grad], estimator.weights, strict=True):
            weight.copy_(shaken)
    for name, texts in SAID.items():
        for at, (question, answer) in enumerate(zip(QUESTIONS, texts)):
            assert float(scores[name][at]) == pytest.approx(log_odds(reader, peft, question, answer), abs=1e-4)
    return not estimator.is_alone


@pytest.mark.filterwarnings("ignore:.*the plain way")
@pytest.mark.parametrize("kind", KINDS)
def test_all_numbers_are_those_of_plain_transformers_and_a_way_is_fast_only_where_it_gives_them(kind):
    more, fast = KINDS[kind]
    reader = make(kind, more)
    hold_answers(reader)
    hold_reading(reader)
    ways = {"prefix": proof.prefix(reader, 100), "packing": proof.packing(reader, 100)}
    ways["adapters"] = hold_training(reader, make(kind, more), 0.0, TARGETS.get(kind, "all-linear"))
    assert {way for way, suits in ways.items() if suits} == fast


@pytest.mark.filterwarnings("ignore:.*the plain way")
@pytest.mark.parametrize("kind, fast", [("granite", True), ("gemma3_text", True), ("lfm2", False), ("gpt_neox", True)])
def test_adapters_on_upper_blocks_go_on_from_a_trunk_where_that_is_right(kind, fast):
    assert hold_training(make(kind, KINDS[kind][0]), make(kind, KINDS[kind][0]), 0.5, "all-linear") is fast


@pytest.mark.filterwarnings("ignore")
def test_of_architectures_that_nobody_chose_each_is_right_or_refused_in_one_sentence():
    """Drawn from all that the installed transformers can build in so small a size."""
    drawn, tried = random.Random(1).sample(sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES), 60), 0
    for kind in drawn:
        try:
            reader = make(kind, {})
        except Exception:
            continue
        tried += 1
        try:
            hold_reading(reader)
            hold_answers(reader)
        except WhoknowsError as error:
            assert len(str(error).splitlines()) == 1
        if tried == 6:
            return
    pytest.fail("too few could be built")


def test_a_text_whose_beginning_depends_on_its_end_is_refused():
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 8, "long_factor": [4.0] * 8}
    reader = make("phi3", {"sliding_window": None, "original_max_position_embeddings": 120, "rope_parameters": rope})
    for fast in (proof.packing, proof.prefix):
        assert fast(reader, 120)  # shorter texts are all read in one way
        with pytest.raises(WhoknowsError, match="otherwise than its beginning alone"):
            fast(reader, 121)


@pytest.mark.parametrize("block", [64, 90], ids=["a text", "a row alone"])
def test_attention_that_chooses_blocks_of_a_row_is_tried_beyond_a_block(block):
    kind, more = "minimax_m3_vl_text", {"index_block_size": block, "layer_types": ["minimax_m3_sparse"] * 4}
    reader, packed = make(kind, EXPERTS | more), None
    packed = pack(reader, frames(), [True] * 3)
    assert (packed.longest > block) is (block == 64) and packed.widest > block
    with pytest.warns(UserWarning, match="not several answers in one row, since hidden states differ"):
        hold_reading(reader)


def test_a_model_that_looks_ahead_is_refused_before_it_answers():
    with pytest.raises(WhoknowsError, match="otherwise than its beginning alone"):
        proof.prefix(make("bert", {}), 100)


def test_a_model_without_one_vector_for_each_token_and_layer_is_refused_before_it_answers():
    reader = make("opt", {"ffn_dim": 96, "word_embed_proj_dim": 32, "do_layer_norm_before": False})
    for fast in (proof.prefix, proof.packing):
        with pytest.raises(WhoknowsError, match="4 blocks, but does not give one hidden state of 64"):
            fast(reader, 100)


def test_a_way_that_is_not_taken_says_why_and_is_remembered(monkeypatch):
    reader = make("lfm2", KINDS["lfm2"][0])
    with pytest.warns(
        UserWarning,
        match="not several answers in one row, since hidden states differ by .* each text takes the plain way, "
        "which is right and slower",
    ):
        assert not proof.packing(reader, 100)
    monkeypatch.setattr(proof, "OUTCOMES", {})  # as in another process
    monkeypatch.setattr(proof, "_read", lambda *_: pytest.fail("it was proven before"))
    with pytest.warns(UserWarning, match="several answers in one row"):
        assert not proof.packing(reader, 90)


@pytest.mark.parametrize("what", ["together", "alone"])
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        OSError("Stale file handle"),
    ],
)
def test_that_the_machine_failed_is_not_remembered(monkeypatch, tmp_path, llama, what, error):
    monkeypatch.setattr(proof, "_remembered", lambda what: tmp_path / f"{len(what)}")  # nothing is known yet
    with monkeypatch.context() as patch, pytest.warns(UserWarning, match="since this could not be tried now"):
        patch.setattr(proof, what, Mock(side_effect=error))
        assert not proof.packing(llama, 100)
    with pytest.warns(UserWarning, match="could not be tried"):
        assert not proof.packing(llama, 100)  # threads of one process never try it again
    monkeypatch.setattr(proof, "OUTCOMES", {})
    assert proof.packing(llama, 100)


def test_where_the_cache_cannot_be_written_a_process_proves_it_once(monkeypatch, tmp_path, llama):
    (tmp_path / "file").touch()
    monkeypatch.setattr(proof, "_remembered", lambda what: tmp_path / "file" / "proof.json")
    assert proof.packing(llama, 100)
    monkeypatch.setattr(proof, "_read", lambda *_: pytest.fail("it was proven before"))
    assert proof.packing(llama, 90)


@pytest.mark.parametrize("side", [-1, 0], ids=["a question's end", "an answer's first token"])
def test_a_last_block_that_is_wrong_there_where_few_places_are_wanted_is_found(monkeypatch, tmp_path, llama, side):
    monkeypatch.setattr(proof, "_remembered", lambda what: tmp_path / f"{len(what)}")  # nothing is known yet
    right = proof.together

    def together(reader, examples, at, sizes, *rest):
        states, *more = right(reader, examples, at, sizes, *rest)
        broken = {(row, example.offsets()[0] + side) for row, example in enumerate(examples)}
        for i, place in enumerate(zip(*(some.tolist() for some in at))):
            if place in broken and len(sizes) < sum(map(len, examples)):
                states[i, -1] *= 1.1
        return states, *more

    monkeypatch.setattr(proof, "together", together)
    with pytest.warns(UserWarning, match="not several answers in one row, since hidden states differ"):
        assert not proof.packing(llama, 100)


def test_blocks_that_do_not_go_on_as_they_should_are_not_cached(monkeypatch, tmp_path, llama):
    monkeypatch.setattr(proof, "_remembered", lambda what: tmp_path / f"{len(what)}")  # nothing is known yet
    assert proof.packing(llama, 100)
    right = proof.final
    monkeypatch.setattr(proof, "final", lambda *inputs: right(*inputs) * 1.1)
    with pytest.warns(UserWarning, match="not blocks below the adapters .* since final hidden states differ"):
        assert not proof.cached(llama, 2, 100)


def test_a_router_of_experts_has_no_adapter():
    more = EXPERTS | {"sliding_window": None}
    assert hold_training(make("phimoe", more), make("phimoe", more), 0.0, "all-linear")


def test_experts_below_the_adapters_are_not_trained():
    estimator = LoraPrompt(make("deepseek_v3", KINDS["deepseek_v3"][0]), LORA | {"first_layer": 0.5}, 0, 512)
    names = [name for name, weight in estimator.reader.model.named_parameters() if weight.requires_grad]
    assert {int(name.split("layers.")[1].split(".")[0]) for name in names} == {2, 3}
    assert any("experts" in name for name in names)


def test_targets_that_no_block_has_are_named_beside_those_that_there_are():
    model = make("phi", {}).model
    assert targets(model, "all-linear") == ["q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"]
    with pytest.raises(
        WhoknowsError,
        match="no linear module 'gate_proj'; theirs are q_proj, k_proj, v_proj, dense, fc1, fc2; name some of those",
    ):
        targets(model, ["q_proj", "gate_proj"])


@pytest.mark.parametrize("wrong, sentence", [
    ({"kind": "t5"}, "is of the kind t5, which is no causal language model; use one that goes on from a text"),
    ({"targets": ["q_proj", "up_projection"]}, "have no linear module 'up_projection'; theirs are q_proj, k_proj, "
     "v_proj, o_proj, gate_proj, up_proj, down_proj"),
    ({"token": " ii"}, "need two single tokens"),
    ({"source": "chat:"}, "has no chat template; leave chat: out of its source in the grid"),
    ({"config.json": {"vocab_size": 300}}, "has more tokens than the model has embeddings (300)"),
    ({"config.json": {"model_type": "new", "auto_map": {"AutoConfig": "code.New"}}}, "brings code of its own, which"),
    ({"tokenizer.json": {"normalizer": {"type": "Replace", "pattern": {"String": "\n"}, "content": " "}}},
     "keeps no line ends"),
    ({"tokenizer_config.json": {"tokenizer_class": "BioGptTokenizer"}, "vocab.json": {}}, "install sacremoses"),
])  # fmt: skip
def test_what_no_stage_can_use_is_refused_before_any_runs(tmp_path, wrong, sentence):
    reader = make("llama", {})
    reader.model.config.save_pretrained(tmp_path)  # no weights: nobody looks at them
    reader.tokenizer.save_pretrained(tmp_path)
    adapt(loading.check(str(tmp_path)), LORA | {"first_layer": 0.5})
    if "kind" in wrong:
        CONFIG_MAPPING[wrong["kind"]](d_model=64, num_layers=2).save_pretrained(tmp_path)
    if "vocab.json" in wrong:
        (tmp_path / "tokenizer.json").rename(tmp_path / "vocab.json")
        (tmp_path / "merges.txt").touch()
    if "token" in wrong:
        merges = json.loads((tmp_path / "tokenizer.json").read_text())["model"]
        merges["merges"] = [pair for pair in merges["merges"] if "".join(pair).replace(" ", "") != "Ġii"]
        wrong = {"tokenizer.json": {"model": merges}}
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        if name in wrong:
            (tmp_path / name).write_text(json.dumps(json.loads((tmp_path / name).read_text()) | wrong[name]))
    with pytest.raises(WhoknowsError, match=re.escape(sentence)):
        settings = {"targets": wrong.get("targets", "all-linear"), "first_layer": 0.0}
        adapt(loading.check(wrong.get("source", "") + str(tmp_path)), LORA | settings)


@pytest.mark.parametrize("kind, wanted, sentence", [
    ("mamba", "all-linear", "PEFT cannot adapt these of .*out_proj.*; name others of in_proj, x_proj, dt_proj, out_pr"),
    ("deepseek_v3", ["o_proj", "gate_proj"], "PEFT cannot adapt these of .*without also targeting up_proj"),
])  # fmt: skip
def test_targets_that_peft_does_not_take_are_refused_in_one_sentence(kind, wanted, sentence):
    with pytest.raises(WhoknowsError, match=sentence):
        adapt(make(kind, KINDS[kind][0]), LORA | {"targets": wanted, "first_layer": 0.0})


def test_modules_beside_experts_that_peft_gives_no_adapter_are_named():
    reader = make("deepseek_v3", KINDS["deepseek_v3"][0])
    with pytest.warns(UserWarning, match="no adapters on mlp.gate_proj, .*mlp.shared_experts.gate_proj, .* since PEFT"):
        adapt(reader, LORA | {"first_layer": 0.0})
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        adapt(make("mixtral", KINDS["mixtral"][0]), LORA | {"first_layer": 0.0})


def test_proofs_leave_a_model_as_it_was():
    reader = make("llama", {})
    reader.model.bfloat16()
    reader.model.model.rotary_emb.inv_freq = reader.model.model.rotary_emb.inv_freq.float()
    estimator = LoraPrompt(reader, LORA | {"first_layer": 0.5}, 0, 512)
    before = {name: (tensor.dtype, tensor.clone()) for name, tensor in estimator.reader.model.state_dict().items()}
    assert proof.packing(estimator.reader, 100) and proof.adapters(estimator, 100)
    for name, tensor in estimator.reader.model.state_dict().items():
        assert tensor.dtype == before[name][0] and torch.equal(tensor, before[name][1])


RWKV = {"attention_hidden_size": 64, "context_length": 4096, "rescale_every": 2}


@pytest.mark.filterwarnings("ignore:.*the plain way")
def test_weights_that_the_first_pass_scales_in_place_stay_scaled_after_a_proof():
    reader, plain = make("rwkv", RWKV), make("rwkv", RWKV)
    for one in (reader, plain):
        one.model.bfloat16()
    proof.packing(reader, 100)
    ids = torch.tensor([reader.question(QUESTIONS[0])])
    one, other = (some.model(ids, use_cache=False, output_hidden_states=True).hidden_states for some in (reader, plain))
    assert all(map(torch.equal, one, other))


def test_a_model_that_is_trained_as_one_function_and_scored_as_another_is_refused():
    estimator = LoraPrompt(make("rwkv", RWKV), LORA | {"first_layer": 0.0}, 0, 512)
    with pytest.raises(WhoknowsError, match="in training it is another function than afterwards .log-odds of yes"):
        proof.adapters(estimator, 100)
