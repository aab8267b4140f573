"""The boxes of the first page say what the files of the run say."""

import json

import pandas as pd

from made_up import make_rows
from whoknows.evaluation import plateau
from whoknows.report.pages import heatmaps


def card(folder, method, reader, trained_on, **values):
    place = folder / method / reader / trained_on / "seed0"
    place.mkdir(parents=True, exist_ok=True)
    names = {"method": method, "reader": reader, "trained_on": trained_on, "seed": 0, "precision": "auto"}
    (place / f"{method}.json").write_text(json.dumps(names | values))


def test_every_fact_is_from_the_cards_and_the_rows(tmp_path):
    for reader, source in (("a", "smollm2-135m-instruct"), ("b", "owner/plain-7b")):
        for at, trained_on in enumerate("ab"):
            card(tmp_path, "probe", reader, trained_on, source=source, chosen={"layer": 7 + at}, search=[])
            card(tmp_path, "lora_prompt", reader, trained_on, source=source, history=[{"step": 10}, {"step": 76 + at}])
    held = [
        make_rows([0.0] * 5, [True, True, False, False, False], split="validation", reader=r, trained_on=t, scored=t)
        for r in "ab"
        for t in "a"
    ]
    foreign = make_rows([0.0] * 9, [True] * 9, split="validation", reader="a", trained_on="b", scored="a")
    rows = pd.concat([*held, foreign, make_rows([0.0], [True], reader="a", trained_on="a", scored="a")])
    table = heatmaps.table(rows, str(tmp_path), ["a", "b", "c"]).set_index("Model")
    assert table.loc["a"].tolist() == ["7 to 8", "2 of 5", "76 to 77"]
    assert table.loc["b"].tolist() == ["7 to 8", "—", "76 to 77"]
    assert table.loc["c"].tolist() == ["—", "—", "—"], "an older run has no cards"
    assert heatmaps.facts_of([*plateau.cards(tmp_path).values()], ["a", "b", "c"]) == {
        "Parameters": ["135 million", "7 billion", "—"],
        "Instruction-tuned": ["yes", "no", "—"],
        "Weights": ["4-bit GGUF (Q4_1)", "owner/plain-7b, auto", "—"],
    }
    assert "MLP" not in heatmaps.html(rows, str(tmp_path), ["a"])
    assert "on the switch Heatmaps" in heatmaps.html(
        rows.assign(method=["probe_mlp"] + ["probe"] * (len(rows) - 1)), str(tmp_path), ["a"]
    )


def test_nothing_is_told_of_a_probe_that_a_run_does_not_have(tmp_path):
    card(tmp_path, "lora_prompt", "a", "a", source="owner/plain-7b", history=[{"step": 10}])
    rows = make_rows([0.0], [True], split="validation", method="lora_prompt", reader="a", trained_on="a", scored="a")
    text = heatmaps.html(rows, str(tmp_path), ["a"])
    assert "Steps of its LoRA + Prompt" in text and "caption" not in text
    assert not any(word in text for word in ("probe", "layer", "—"))


def test_a_model_is_as_large_as_its_name_says():
    sizes = {"meta-llama/Llama-2-7b-chat-hf": "7 billion", "google/gemma-3-1.5B-it": "1.5 billion", "tiny-llama": "—"}
    sizes |= {"gemma3-270m": "270 million", "chat:smollm2-135m-instruct": "135 million", "owner/v2bits": "—"}
    assert {name: heatmaps.sized(name) for name in sizes} == sizes


def test_a_model_is_tuned_if_its_name_says_so():
    tuned = {
        "meta-llama/Llama-2-7b-chat-hf": "yes",
        "google/gemma-3-1b-it": "yes",
        "mistralai/Mistral-7B-Instruct-v0.1": "yes",
        "chat:owner/m": "yes",
    }
    assert {name: heatmaps.tuned(name) for name in [*tuned, "gemma3-270m", "owner/digits-1b"]} == tuned | {
        "gemma3-270m": "no",
        "owner/digits-1b": "no",
    }
