"""Tokenizers of every kind that causal language models have, trained on the spot: pieces join to what they give a text.

The kinds differ in what stands for a space, whether a text gets one in front, what becomes of line ends, and who puts
BOS there.
"""

import json
from dataclasses import replace

import pytest
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import BPE, Unigram, WordLevel
from transformers import AddedToken, PreTrainedTokenizerFast

from made_up import CHATML, LLAMA_2, QUESTIONS
from whoknows import WhoknowsError
from whoknows.data.prompts import PLAIN, QUERY, chat
from whoknows.models.reader import Reader
from whoknows.models.tiny import END, PAD, START, UNKNOWN, _corpus, byte_level, metaspace

# How GPT-4, Llama 3 and Qwen 2 cut a text before merging: digits alone or in threes, line ends with what precedes them.
CUTS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def fast(tokenizer: Tokenizer, bos: bool) -> PreTrainedTokenizerFast:
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{START} $A", special_tokens=[(START, tokenizer.token_to_id(START))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=START if bos else None, eos_token=END, pad_token=PAD
    )


def whole_text(prefix: bool, more: tuple[str, ...] = ()) -> PreTrainedTokenizerFast:
    """SentencePiece's BPE as in LLaMA-2 and Mistral 7B (with a space put before the text) and Gemma (without).

    Spaces are rewritten, and then the whole text is merged at once, so that merges could reach over separate pieces.
    """
    learned = Tokenizer(BPE())
    learned.pre_tokenizer = pre_tokenizers.Metaspace()
    lines = (line for text in _corpus() for line in text.split("\n"))
    learned.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=140, show_progress=False))
    model = json.loads(learned.to_str())["model"]
    vocabulary = {token: at for at, token in enumerate([UNKNOWN, START, END, PAD, *BYTES, *more, *model["vocab"]])}
    merges = [*(("\n" * at, "\n") for at in range(1, len(more))), *(tuple(pair) for pair in model["merges"])]
    tokenizer = Tokenizer(BPE(vocabulary, merges, byte_fallback=True, fuse_unk=True, unk_token=UNKNOWN))
    spaces = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces]) if prefix else spaces
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    return fast(tokenizer, bos=True)


def cut_bytes(bos: bool) -> PreTrainedTokenizerFast:
    """Byte-level BPE as Llama 3 (with BOS) and Qwen 2 (without) have it."""
    tokenizer = Tokenizer(BPE())
    cuts = pre_tokenizers.Split(Regex(CUTS), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [cuts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=[START, END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    return fast(tokenizer, bos)


KINDS = {
    "GPT-2": byte_level,
    "Llama 3": lambda: cut_bytes(bos=True),
    "Qwen 2": lambda: cut_bytes(bos=False),
    "SentencePiece, cut at spaces": lambda: metaspace(_corpus(), 140),
    "LLaMA-2": lambda: whole_text(prefix=True),
    "Gemma": lambda: whole_text(prefix=False, more=("\n", "\n\n", "\n\n\n")),
}


@pytest.fixture(scope="module", params=KINDS)
def reader(request):
    return Reader(None, KINDS[request.param]())


@pytest.mark.parametrize("answer", ["the sun", "i", "1808", "(A)", "'s", "ünïcode 🙂"])
def test_pieces_join_to_the_encoding_of_the_whole(reader, answer):
    for question in QUESTIONS:
        pieces = reader.question(question) + reader.answer(answer) + reader.encode(QUERY)
        whole = f"Question: {question}\nAnswer: {answer}{QUERY}"
        assert reader.start() + pieces == reader.tokenizer(whole).input_ids
        assert reader.tokenizer.decode(pieces) == whole
        after = reader.examples(["Who?"], ["42"]) + reader.questions([question], after_examples=True)[0]
        shown = f"Question: Who?\nAnswer: 42\n\nQuestion: {question}\nAnswer: {answer}"
        assert after + reader.answer(answer) == reader.tokenizer(shown).input_ids


@pytest.mark.parametrize("template", [CHATML, LLAMA_2, "Be brief. " + CHATML], ids=["ChatML", "LLaMA-2", "text first"])
@pytest.mark.parametrize("kind", KINDS)
def test_pieces_join_to_the_encoding_of_a_whole_chat(kind, template):
    tokenizer = KINDS[kind]()
    special = [AddedToken(token, special=True) for token in ("<|im_start|>", "<|im_end|>")]
    tokenizer.add_special_tokens({"bos_token": START, "additional_special_tokens": special})
    tokenizer.chat_template = template
    reader, texts = Reader(None, tokenizer, chat(tokenizer)), ["Question: Who?", "42", "Question: Why?"]
    for turns in (texts[2:], texts):
        roles = [{"role": ("user", "assistant")[k % 2], "content": text} for k, text in enumerate(turns)]
        whole = tokenizer.apply_chat_template(roles, tokenize=False, add_generation_prompt=True)
        shots = (["Who?"], ["42"]) if len(turns) > 1 else ([], [])
        asked = reader.examples(*shots) + reader.questions(["Why?"], after_examples=len(turns) > 1)[0]
        assert asked == tokenizer.apply_chat_template(roles, add_generation_prompt=True, return_dict=False)
        for answer in ("the sun", "1808"):
            text = tokenizer(whole + reader.wording.lead + answer, add_special_tokens=False).input_ids
            assert asked + reader.answer(answer) == text


def test_an_empty_answer_has_a_token_that_nothing_else_is_merged_with(reader):
    # Llama 3 and Qwen 2 would merge the colon with the line ends of the query, and the answer would have no place
    (token,) = reader.answer("")
    assert reader.tokenizer.decode([token]).strip() == ""
    question = reader.question("Why?")
    assert (
        reader.tokenizer.decode([*question, token, *reader.encode(QUERY)]).split()
        == f"Question: Why?\nAnswer:{QUERY}".split()
    )


def test_bos_stands_once_at_the_beginning_or_nowhere(reader):
    bos = reader.tokenizer.bos_token_id
    ids = reader.start() + reader.question("Why?") + reader.answer("a") + reader.encode(QUERY)
    usual = reader.tokenizer("Question: Why?").input_ids
    assert ids.count(bos) == (1 if bos is not None and usual[0] == bos else 0)
    assert (ids[0] == bos) == (ids.count(bos) == 1)


def test_the_last_token_of_an_answer_is_the_answers_own(reader):
    question, answer = reader.question("Why?"), reader.answer("the moon")
    together = reader.tokenizer("Question: Why?\nAnswer: the moon", add_special_tokens=False).input_ids
    assert together[-1] == answer[-1] and len(together) == len(question) + len(answer)
    assert reader.tokenizer.decode(answer).strip() == "the moon"


def test_the_choices_are_single_tokens_as_they_stand_after_the_query(reader):
    for token, text in zip(reader.choices, (" i", " ii"), strict=True):
        assert reader.encode(QUERY + text) == [*reader.encode(QUERY), token]


@pytest.mark.parametrize("text", [f"the {END} moon", f"{END}", f"moon{END}sun", f"{START}{END} {PAD}"])
def test_control_tokens_within_a_text_are_text(reader, text):
    control = set(reader.tokenizer.all_special_ids)
    assert control & set(reader.tokenizer(text, add_special_tokens=False).input_ids), "or there is nothing to see"
    for ids, whole in (
        (reader.question(text), f"Question: {text}\nAnswer:"),
        (reader.question("Why?") + reader.answer(text), f"Question: Why?\nAnswer: {text}"),
        (reader.examples([text], [text])[len(reader.start()) :], f"Question: {text}\nAnswer: {text}\n\n"),
    ):
        assert not control & set(ids) and reader.tokenizer.decode(ids) == whole
        assert reader.start() + ids == reader.tokenizer(whole, split_special_tokens=True).input_ids


@pytest.mark.parametrize("is_chat", [False, True], ids=["plain", "chat"])
@pytest.mark.parametrize("kind", KINDS)
def test_added_tokens_that_the_chat_template_writes_are_text_within_a_text(kind, is_chat):
    tokenizer, added = KINDS[kind](), ("<|im_start|>", "<|im_end|>", "<think>", "</think>")  # as in Qwen 3
    tokenizer.add_tokens([AddedToken(token, special="|" in token, normalized=False) for token in added])
    tokenizer.chat_template = CHATML + "{# <think></think> #}"
    reader, text = Reader(None, tokenizer, chat(tokenizer) if is_chat else PLAIN), "a </think> b <|im_end|><think>c"
    ids = reader.answer(text)
    assert not {*map(tokenizer.convert_tokens_to_ids, added)} & {*ids}
    assert tokenizer.decode(reader.question("Why?") + ids).endswith(text)
    assert tokenizer.convert_tokens_to_ids("</think>") in tokenizer("</think>").input_ids, "or there is nothing to see"


@pytest.mark.parametrize("is_chat", [False, True], ids=["plain", "chat"])
def test_a_control_token_that_cannot_be_text_is_refused_in_one_sentence(is_chat):
    pieces = [(piece, -1.0) for piece in (UNKNOWN, START, END, "\n", "▁", *map(chr, range(33, 127)))]
    tokenizer = Tokenizer(Unigram(pieces, unk_id=0))  # its own pieces are control tokens, as in XGLM
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=START, eos_token=END, unk_token=UNKNOWN)
    wrapped.chat_template = CHATML
    reader = Reader(None, wrapped, chat(wrapped) if is_chat else PLAIN)
    assert wrapped.eos_token_id not in reader.answer("the moon")
    with pytest.raises(WhoknowsError, match="cannot write a control token of the text 'the </s> moon' as text"):
        reader.answer(f"the {END} moon")


def test_what_the_tokenizer_puts_before_a_text_is_put_before_ours_once():
    tokenizer = cut_bytes(bos=False)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[gMASK]", "<sop>"]})
    both = tokenizer.convert_tokens_to_ids(["[gMASK]", "<sop>"])
    pieces = list(zip(("[gMASK]", "<sop>"), both))
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[gMASK] <sop> $A", special_tokens=pieces
    )  # as GLM-4 has it
    reader = Reader(None, tokenizer)
    assert (
        reader.start() + reader.question("Why?") == tokenizer("Question: Why?\nAnswer:").input_ids
        and reader.start() == both
    )
    assert reader.examples(["Why?"], ["so"])[:3] == [*both, *reader.encode("Question")[:1]]
    brought = replace(PLAIN, first="[gMASK]<sop>Question: ")  # as in its chat template
    assert Reader(None, tokenizer, brought).start() == []


def test_choices_that_are_no_single_tokens_are_refused():
    letters = whole_text(prefix=True)
    model = json.loads(letters.backend_tokenizer.to_str())
    model["model"]["merges"] = [pair for pair in model["model"]["merges"] if "".join(pair) not in ("▁i", "▁ii", "ii")]
    broken = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(model)), bos_token=START, name_or_path="broken"
    )
    with pytest.raises(WhoknowsError, match="broken splits ' i' or ' ii'.*use another model as reader"):
        Reader(None, broken).choices


def test_a_tokenizer_without_any_token_for_an_empty_answer_is_refused():
    words = Tokenizer(
        WordLevel({word: at for at, word in enumerate([UNKNOWN, "Question", "Answer", ":", "i"])}, UNKNOWN)
    )
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    reader = Reader(None, PreTrainedTokenizerFast(tokenizer_object=words, unk_token=UNKNOWN))
    assert reader.answers(["i", "the sun"]) == [[4], [0, 0]]
    with pytest.raises(WhoknowsError, match="has a token neither for a space nor for a line end"):
        reader.answer("")
