"""Tiny language models, made on the spot: every stage can be run with them in seconds, and nothing is downloaded.

They know nothing. A few seconds of training teach them to answer a multiple-choice question with a letter and a
line end, which is right about a quarter of the time: without right answers there is nothing to train on.
"""

import hashlib
import json
import random
from functools import partial
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors, trainers
from tokenizers.models import BPE
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

from whoknows.data import cache
from whoknows.data.prompts import QUERY, as_choice
from whoknows.models.reader import Reader

START, END, UNKNOWN, PAD = "<s>", "</s>", "<unk>", "<pad>"
WORDS = (
    "which what who where why how many of the most in on a an is are was were that this water plant animal earth sun "
    "moon light heat energy rock cell blood bone food air gas metal river ocean city country king year number can be "
    "used found made from by for to and or not likely example best describes process results object student "
    "temperature mass force wind weather tree leaf seed"
).split()
BYTES = 260  # tokens for bytes, BOS, EOS, padding and what is unknown
STEPS, ROWS = 30, 8


def make(name: str) -> str:
    """The folder of a tiny model, which is made if it is not in the cache yet.

    Args:
        name: `tiny-llama` (byte-level BPE, no BOS, tied embeddings) or `tiny-mistral` (metaspace and byte
            fallback like SentencePiece, BOS before every text).

    Raises:
        WhoknowsError: the cache cannot be written.
    """
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    return str(cache.folder(f"{name}-{recipe}", partial(_fill, name)))


def _fill(name: str, files: Path, temporary: Path) -> dict:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(len(name))
        tokenizer = byte_level() if name == "tiny-llama" else metaspace(_corpus(), 140)
        model = _untrained(name, tokenizer)
        _teach(Reader(model, tokenizer), random.Random(name))
    model.save_pretrained(files)
    tokenizer.save_pretrained(files)
    return {"name": name}


def _untrained(name: str, tokenizer) -> torch.nn.Module:
    config, kind = (LlamaConfig, LlamaForCausalLM) if name == "tiny-llama" else (MistralConfig, MistralForCausalLM)
    ends = {key: getattr(tokenizer, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4}
    shape |= {"num_attention_heads": 4, "num_key_value_heads": 2}
    spread = {"initializer_range": 0.1, "tie_word_embeddings": name == "tiny-llama"}
    return kind(config(vocab_size=len(tokenizer), max_position_embeddings=4096, **shape, **ends, **spread))


def byte_level() -> PreTrainedTokenizerFast:
    """A tokenizer like GPT-2's: byte-level BPE, and no BOS before a text."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=[END, PAD], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=PAD)


def metaspace(texts: list[str], words: int) -> PreTrainedTokenizerFast:
    """A tokenizer like LLaMA-2's: a space before the text, `▁` for spaces, bytes for unknown characters, BOS first.

    Args:
        texts: what it learns words from.
        words: how many it may have, besides the `BYTES` tokens of every such tokenizer.
    """
    learned = Tokenizer(BPE())
    learned.pre_tokenizer = pre_tokenizers.Metaspace()
    # A line end is left to the bytes, as in SentencePiece.
    lines = (line for text in texts for line in text.split("\n"))
    trainer = trainers.BpeTrainer(vocab_size=words, limit_alphabet=words // 2, show_progress=False)
    learned.train_from_iterator(lines, trainer)
    model = json.loads(learned.to_str())["model"]
    tokens = [UNKNOWN, START, END, PAD, *(f"<0x{byte:02X}>" for byte in range(256)), *model["vocab"]]
    merges = [tuple(pair) for pair in model["merges"]]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(BPE(vocabulary, merges, byte_fallback=True, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(parts)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A", special_tokens=[(START, vocabulary[START])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=START, eos_token=END, unk_token=UNKNOWN, pad_token=PAD
    )


def _corpus() -> list[str]:
    """A short text, the same every time, in which the tokens that the prompts need are frequent."""
    pairs = [(word, letter) for word in WORDS for letter in "ABCDE"]
    begins = [f"Question: {word} {word}?\nAnswer: {letter}{QUERY}" for word, letter in pairs]
    texts = [f"{begin} {choice}" for begin in begins for choice in ("i", "ii")]
    return texts + [f"({letter}): {word}" for word, letter in pairs]


def _teach(reader: Reader, made_up: random.Random) -> None:
    """Trains on made-up questions to write a letter, whichever, and then a line end."""
    letters, (line_end,) = [reader.answer(letter)[0] for letter in "ABCD"], reader.encode("\n")
    optimizer = torch.optim.AdamW(reader.model.parameters(), lr=3e-3)
    for _ in range(STEPS):
        rows = [_prompt(reader, made_up) for _ in range(ROWS)]
        ids = pad_sequence([torch.tensor(ids) for ids, _ in rows], batch_first=True)
        row, column = torch.tensor([(row, end) for row, (_, ends) in enumerate(rows) for end in ends]).T
        hidden = reader.base(input_ids=ids, use_cache=False).last_hidden_state
        first, second = (torch.log_softmax(hidden[row, at] @ reader.head.T, dim=-1) for at in (column, column + 1))
        loss = -first[:, letters].logsumexp(dim=-1).mean() - second[:, line_end].mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def _prompt(reader: Reader, made_up: random.Random) -> tuple[list[int], list[int]]:
    """Ids of two answered questions of random words, and the columns where `Answer:` ends."""
    ids, ends = reader.start(), []
    for has_begun in (False, True):
        choices = [" ".join(made_up.choices(WORDS, k=made_up.randint(1, 2))) for _ in range(4)]
        text = " ".join(made_up.choices(WORDS, k=made_up.randint(2, 8)))
        question, (letter,) = as_choice(text, choices, made_up.choice(choices))
        ids = ids + reader.questions([question], after_examples=has_begun)[0]
        ends.append(len(ids) - 1)
        ids = ids + reader.answer(letter) + reader.encode("\n\n")
    return ids, ends
