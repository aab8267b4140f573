"""The tiny models are made once, are the same every time, and answer with a letter and a line end."""

import pandas as pd
import pytest
import torch

from whoknows.data import cache
from whoknows.data.questions import as_choice
from whoknows.models import tiny
from whoknows.stages.answer import answer


def test_a_model_is_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv("WHOKNOWS_CACHE", str(tmp_path))
    monkeypatch.setattr(tiny, "STEPS", 1)
    state = torch.random.get_rng_state()
    folder = tiny.make("tiny-llama")
    assert torch.equal(torch.random.get_rng_state(), state)
    monkeypatch.setattr(cache, "_make", lambda *_: pytest.fail("made twice"))
    assert tiny.make("tiny-llama") == folder and str(tmp_path) in folder


def test_two_makings_give_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(tiny, "STEPS", 2)
    for place in "ab":
        monkeypatch.setenv("WHOKNOWS_CACHE", str(tmp_path / place))
        tiny.make("tiny-mistral")
    first, second = (next((tmp_path / place).glob("tiny-*/model.safetensors")).read_bytes() for place in "ab")
    assert first == second


def test_the_letters_that_choices_have_are_single_tokens(reader):
    assert all(len(reader.answer(letter)) == 1 for letter in "ABCDE")


def test_the_tokenizers_are_of_two_kinds(llama, mistral):
    assert mistral.tokenizer.tokenize("\na") == ["▁", "<0x0A>", "a"]
    assert llama.tokenizer.tokenize("\na") == ["Ċ", "a"]


def test_they_answer_with_a_letter_and_a_line_end(reader):
    texts = [f"Which number is {number}?" for number in "one two three four five six seven".split()]
    made = [as_choice(text, ["one", "two", "three", "four"], "three") for text in texts]
    values = {"question_id": texts, "task": "t", "split": ["shot", *["test"] * 6], "kind": "choice"}
    questions = pd.DataFrame(values | {"question": [q for q, _ in made], "gold": [gold for _, gold in made]})
    written = answer(reader, questions, 4, 2048)
    assert set(written["answer"]) <= set("ABCD") and set(written["tokens"]) == {1}
