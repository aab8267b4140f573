"""A model that was tuned to chat is given every text as its chat template writes it."""

import copy
import json
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
from transformers import AddedToken
from transformers.utils import chat_template_utils

from made_up import CHATML, LLAMA_2, answers, extract
from whoknows import WhoknowsError, __main__
from whoknows.data import assets, hub
from whoknows.data.prompts import CHAT, DATE, PLAIN, QUERY, chat
from whoknows.models import loading
from whoknows.models.generation import Prefix
from whoknows.models.packing import pack
from whoknows.models.reader import Reader
from whoknows.run import grid, parameters
from whoknows.run.cost import size
from whoknows.stages.answer import answer

ROOT = Path(__file__).parents[2]

ASKED, SHOTS = "Which moon?", (["Who sees the sun?", "Why?"], ["the king", "heat"])


@pytest.fixture(params=[("tiny-llama", CHATML), ("tiny-mistral", LLAMA_2)], ids=["ChatML", "LLaMA-2"])
def folder(request, tmp_path):
    """A tiny model whose tokenizer has a chat template and the special tokens that stand in it."""
    name, template = request.param
    loaded = loading.load(name, "float32")
    loaded.tokenizer.add_tokens([AddedToken(token, special=True) for token in ("<|im_start|>", "<|im_end|>")])
    loaded.tokenizer.chat_template = template
    loaded.model.resize_token_embeddings(len(loaded.tokenizer))
    loaded.model.save_pretrained(tmp_path / "model")
    loaded.tokenizer.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


@pytest.fixture
def reader(folder):
    return loading.load(CHAT + folder, "float32")


def rendered(reader, turns, asked):
    roles = [{"role": ("user", "assistant")[k % 2], "content": text} for k, text in enumerate(turns)]
    return reader.tokenizer.apply_chat_template(roles, tokenize=False, add_generation_prompt=asked)


def ids(reader, text):
    return reader.tokenizer(text, add_special_tokens=False).input_ids


def test_a_question_and_its_answer_are_what_the_template_writes(reader):
    asked = rendered(reader, [f"Question: {ASKED}"], True)
    pieces = reader.start() + reader.question(ASKED)
    assert pieces == ids(reader, asked)
    assert pieces + reader.answer("the sun") == ids(reader, asked + reader.wording.lead + "the sun")
    assert pieces.count(reader.tokenizer.bos_token_id) == asked.count("<s>"), (
        "BOS once where the template has it, nowhere else"
    )


def test_the_query_is_another_turn(reader):
    turns = [f"Question: {ASKED}", "the sun", "Is the proposed answer correct?\nChoices:\n(i): no\n(ii): yes"]
    whole = rendered(reader, turns, True)
    pieces = reader.start() + reader.question(ASKED) + reader.answer("the sun") + reader.query
    assert reader.tokenizer.decode(pieces).replace(" ", "") == whole.replace(" ", "")
    for token, choice in zip(reader.choices, ("i", "ii"), strict=True):
        assert reader.tokenizer.decode([*pieces, token]).endswith(choice)


def test_examples_are_earlier_turns(reader):
    whole = rendered(
        reader,
        [f"Question: {SHOTS[0][0]}", SHOTS[1][0], f"Question: {SHOTS[0][1]}", SHOTS[1][1], f"Question: {ASKED}"],
        True,
    )
    pieces = reader.examples(*SHOTS) + reader.questions([ASKED], after_examples=True)[0]
    assert reader.tokenizer.decode(pieces).replace(" ", "") == whole.replace(" ", "")
    assert pieces[: len(reader.examples(*SHOTS))] == reader.examples(*SHOTS)


def test_every_stage_takes_it(reader, folder):
    table = answers().assign(split=["shot"] * 2 + ["test"] * 4, gold=[["A"]] * 6).drop(columns=["answer", "correct"])
    written = answer(reader, table, 5, 400)
    assert len(written) == 4 and written["tokens"].between(1, 5).all()
    frames = {"m": answers()}
    chatted, usual = (
        extract(r, pack(r, frames, [True] * 6), None, 400) for r in (reader, loading.load(folder, "float32"))
    )
    assert torch.isfinite(chatted.zero_shot["m"]).all() and not torch.equal(chatted.states["m"], usual.states["m"])
    assert reader.identity != loading.load(folder, "float32").identity


@pytest.mark.parametrize("text", ["the <|im_end|> moon", "<|im_start|>", "x<|im_end|>\ny </s>"])
def test_control_tokens_within_a_text_are_text_and_those_of_the_template_stay(reader, text):
    control, questions = (
        set(reader.tokenizer.all_special_ids),
        (reader.start() + reader.question(text), reader.start() + reader.question("Why?")),
    )
    assert [[i for i in ids if i in control] for ids in questions[:1]] == [
        [i for i in ids if i in control] for ids in questions[1:]
    ]
    assert not control & set(reader.answer(text)) and reader.tokenizer.decode(reader.answer(text)).strip() == text
    assert text in reader.tokenizer.decode(questions[0])


DATED = "{{ 'Today is ' + (strftime_now('%d %B %Y') if strftime_now is defined else date_string) }}" + CHATML


class Clock:
    def __init__(self, day):
        self.now = lambda: datetime.fromisoformat(day)


def test_a_template_that_tells_the_date_says_the_same_on_every_day(llama, monkeypatch):
    tokenizer = copy.deepcopy(llama.tokenizer)
    tokenizer.chat_template = DATED
    wordings = []
    for today in ("2031-05-06", "2031-05-07"):
        monkeypatch.setattr(chat_template_utils, "datetime", Clock(today))
        wordings.append(chat(tokenizer))
    assert wordings[0] == wordings[1] and wordings[0].first.startswith("Today is 01 January 2025<|im_start|>")
    assert chat(tokenizer, "2031-05-06").first.startswith("Today is 06 May 2031")
    tokenizer.chat_template = DATED.replace("strftime_now", "no_clock")
    assert chat(tokenizer, "2031-05-06").first.startswith("Today is 06 May 2031")


# As in Qwen 3: with thinking off, an empty thought stands before the answer that is asked for, not before earlier ones.
THINKING = (
    CHATML.removesuffix("{% endif %}")
    + "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


def test_thinking_is_off_where_the_template_has_a_switch_unless_the_grid_says_otherwise(llama):
    tokenizer = copy.deepcopy(llama.tokenizer)
    tokenizer.chat_template = THINKING
    quick, thoughtful = (
        Reader(None, tokenizer, chat(tokenizer)),
        Reader(None, tokenizer, chat(tokenizer, thinking=True)),
    )
    turns = [f"Question: {SHOTS[0][0]}", SHOTS[1][0], f"Question: {ASKED}"]
    roles = [{"role": ("user", "assistant")[k % 2], "content": text} for k, text in enumerate(turns)]
    for reader, thinks in ((quick, False), (thoughtful, True)):
        whole = tokenizer.apply_chat_template(roles, tokenize=False, add_generation_prompt=True, enable_thinking=thinks)
        pieces = reader.examples(SHOTS[0][:1], SHOTS[1][:1]) + reader.questions([ASKED], after_examples=True)[0]
        assert tokenizer.decode(pieces) == whole and ("<think>" in whole) is not thinks
        assert tokenizer.decode(reader.query).endswith("<think>\n\n</think>\n\n") is not thinks
    tokenizer.chat_template = CHATML
    with pytest.raises(WhoknowsError, match="has no switch for thinking; leave thinking out of the grid"):
        chat(tokenizer, thinking=True)


@pytest.mark.parametrize("begin", ["\n", "<|channel|>final<|message|>"])
def test_what_every_answer_begins_with_is_not_left_to_the_model(llama, begin):
    tokenizer = copy.deepcopy(llama.tokenizer)  # as GLM-4 and gpt-oss have it
    tokenizer.chat_template = (
        "{% for m in messages %}<|{{ m['role'] }}|>"
        + begin
        + "{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    wording = chat(tokenizer)
    assert (wording.asked, wording.given, wording.lead) == (f"<|assistant|>{begin}", f"<|assistant|>{begin}", "")


def test_the_grid_says_which_day_it_is_and_who_thinks_and_plain_models_are_told_neither(folder):
    chosen = grid.load(ROOT / "grids/smoke.yml")
    tuned = replace(chosen, models=(replace(chosen.models[0], source=CHAT + folder), chosen.models[1]))
    templates = [
        json.loads(parameters.answer(of, "tiny-llama"))["template"]
        for of in (chosen, tuned, replace(tuned, date="2031-05-06"))
    ]
    assert templates == [None, {"day": DATE, "thinking": False}, {"day": "2031-05-06", "thinking": False}]
    thinks = replace(tuned, models=(replace(tuned.models[0], thinking=True), tuned.models[1]))
    assert json.loads(parameters.probe(thinks, "tiny-llama", "tiny-llama", "0"))["template"] == {
        "day": DATE,
        "thinking": True,
    }
    for load in (loading.check, partial(loading.load, precision="float32")):
        with pytest.raises(WhoknowsError, match="no switch for thinking"):
            load(CHAT + folder, template={"day": DATE, "thinking": True})


@pytest.mark.parametrize("text", ["the sun", "42", "1808 moons", "Zürich", "✓ yes", ""])
def test_an_answer_ends_with_its_turn_and_not_with_a_space(reader, monkeypatch, text):
    """A digit or a rare character begins with a token for the space alone, as LLaMA-2's end of a turn does."""
    prefix = Prefix(reader, pd.DataFrame({"question": SHOTS[0], "gold": [[gold] for gold in SHOTS[1]]}))
    answer = reader.answer(text) if text else []
    for turn in (reader.closing, [reader.tokenizer.eos_token_id]):
        left = iter(answer + turn)
        monkeypatch.setattr(prefix, "_chosen", lambda *_: (torch.tensor([next(left)]), torch.zeros(1, 3)))
        (written,) = prefix.generate(reader.questions([ASKED], after_examples=True), 30)
        assert (written.answer, written.tokens) == (text, len(answer) or 1) and not [*left]


@pytest.mark.parametrize("later, closing", [
    ("<|im_end|>\n<|im_start|>user\n", "<|im_end|>"), (" </s><s>", " </s>"), ("### User: ", "#"), ("\nUser: ", ""),
    (" User: ", ""), (" 1", ""),
])  # fmt: skip
def test_a_turn_ends_with_a_control_token_or_a_sign_and_with_no_word(reader, later, closing):
    told, ids = replace(reader, wording=replace(reader.wording, later=later)), reader.encode(closing)
    assert told.closing == ids and told.ends == {reader.tokenizer.eos_token_id, *ids[-1:]}


def test_the_source_without_the_word_is_what_is_loaded(folder):
    assert assets.resolve(CHAT + folder) == assets.resolve(folder)
    assert loading.load(folder, "float32").wording == PLAIN and PLAIN.query == QUERY


@pytest.mark.parametrize("template, complaint", [
    (None, "has no chat template"),
    ("{{ messages[-1]['content'] }}", "leaves out or repeats"),
    ("{{ raise_exception('no such roles') }}", r"cannot be used \(no such roles\)"),
    ("{% for m in messages %}{{ m['role'] + m['content'] }}{% endfor %}{% if add_generation_prompt %}bot:{% endif %}",
     "puts other words before an answer"),
    (CHATML.removesuffix("{% endif %}") + "<think>{% endif %}", "puts other words before an answer"),  # no switch
    (CHATML.removesuffix("{% endif %}") + "{% if not enable_thinking %}<think>{% endif %}{% endif %}", None),
    (CHATML.replace("<|im_start|>assistant", "{% if enable_thinking %}<|im_start|>assistant{% else %}bot:{% endif %}"),
     "puts other words before an answer"),  # a switch of more than the thought
    (CHATML + "{% if messages | length == 1 %} {% endif %}", "has other words around a question alone than"),
    ({"rag": CHATML, "tools": CHATML}, "cannot be used .This model has multiple chat templates with no default"),
])  # fmt: skip
def test_a_template_that_cannot_be_used_is_one_sentence(llama, template, complaint):
    tokenizer = Reader(None, llama.tokenizer).tokenizer
    before, tokenizer.chat_template = tokenizer.chat_template, template
    try:
        with pytest.raises(WhoknowsError, match=f"{complaint}.*leave chat: out") if complaint else nullcontext():
            chat(tokenizer)
    finally:
        tokenizer.chat_template = before


@pytest.mark.slow
def test_checks_and_plans_pass_over_the_word(monkeypatch, tmp_path, hub_server, llama):
    config = (Path(llama.tokenizer.name_or_path) / "config.json").read_bytes()
    names = ["meta-llama/Llama-2-7b-hf", "mistralai/Mistral-7B-Instruct-v0.2"]
    hub_server.repositories |= {name: {"config.json": config} for name in names}
    kapoor = (ROOT / "grids/kapoor2024.yml").read_text()
    chosen = tmp_path / "chat.yml"
    chosen.write_text(
        kapoor.replace("source: mistralai/Mistral-7B-v0.1", "source: chat:mistralai/Mistral-7B-Instruct-v0.2")
    )
    seen = []
    monkeypatch.setattr(hub, "check", seen.append)
    monkeypatch.setattr(assets, "fetch_all", lambda names: None)
    assert __main__.main(["check", str(chosen)]) == 0
    assert seen[:2] == names
    asked = [path for path, _ in hub_server.asked]
    assert all(any(name in path for path in asked) for name in names) and not any(CHAT in path for path in asked)
    assert size(CHAT + seen[1]) == size(seen[1]) and assets.base(CHAT + "smollm2-135m-instruct") == assets.base(
        "smollm2-135m-instruct"
    )
