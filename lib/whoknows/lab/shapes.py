"""Shapes: models as large as real ones with random weights, to measure speed and memory before anybody has the real weights."""

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from whoknows import WhoknowsError
from whoknows.data.prompts import QUERY
from whoknows.models import loading, tiny

# The defaults of transformers are LLaMA 7B and Mistral 7B v0.1.
SHAPES = {
    "meta-llama/Llama-2-7b-hf": LlamaConfig(max_position_embeddings=4096),
    "meta-llama/Llama-2-13b-hf": LlamaConfig(
        max_position_embeddings=4096, hidden_size=5120, intermediate_size=13824, num_hidden_layers=40, num_attention_heads=40, num_key_value_heads=40
    ),
    "mistralai/Mistral-7B-v0.1": MistralConfig(),
}
KINDS = {LlamaConfig: LlamaForCausalLM, MistralConfig: MistralForCausalLM}


def make(source: str, texts: list[str], folder: Path) -> str:
    """Saves a model with random weights in bfloat16, and a tokenizer that has learned its words from some texts.

    Args:
        source: the name on the hub of the model that it is as large as.
        texts: that the tokenizer is to be good at, so that they have about as many tokens as with the real one.
        folder: a new one.

    Returns:
        The folder, as the source of a model.

    Raises:
        WhoknowsError: the shape of that model is not known.
    """
    if source not in SHAPES:
        raise WhoknowsError(f"models: the shape of {source!r} is not known, only those of {', '.join(SHAPES)}; leave --random-weights out")
    config = SHAPES[source]
    prompts = [f"Question: \nAnswer: {QUERY} {said}" for said in ("i", "ii")]
    tokenizer = tiny.metaspace(texts + prompts * 100, config.vocab_size - tiny.BYTES)
    with loading.device():
        torch.manual_seed(0)
        model = KINDS[type(config)]._from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
