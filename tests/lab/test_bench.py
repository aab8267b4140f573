"""The plain ways do the same work as this library's, and the table of their speeds is whole."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import LlamaConfig, MistralConfig

from made_up import extract
from whoknows import WhoknowsError, __main__
from whoknows.estimators.lora import LoraPrompt
from whoknows.lab import baseline, bench
from whoknows.models import loading
from whoknows.models.generation import Prefix
from whoknows.models.packing import pack
from whoknows.report import chapters
from whoknows.run import grid
from whoknows.stages import answer

SMOKE = grid.load(Path(__file__).parents[2] / "grids/smoke.yml")
WORDS = "sun moon rock cell plant water heat light tree river metal bone".split()


def questions(count):
    splits = ["shot"] + ["train", "test"] * (count // 2)
    asked = [f"Which {word} is {'a ' * (i % 4)}{word}?" for i, word in enumerate(WORDS[: count + 1])]
    return pd.DataFrame({
        "question_id": [str(i) for i in range(count + 1)], "task": "sciq", "split": splits, "question": asked,
        "gold": [["A"]] * (count + 1), "kind": "open",
    })  # fmt: skip


@pytest.fixture(scope="module", params=["tiny-llama", "tiny-mistral"])
def reader(request):
    return loading.load(request.param, "float32")


def test_generate_writes_the_same_answers(reader):
    table = questions(6)
    prefix = Prefix(reader, table[:1]).ids
    ours = answer.answer(reader, table, 8, 2048)
    asked = reader.questions(ours["question"].tolist(), after_examples=True)
    assert baseline.answer(reader, [prefix + ids for ids in asked], 8) == ours["answer"].tolist()


def test_plain_hidden_states_and_confidences_are_the_same(reader):
    frame = questions(6)[1:].assign(answer=["A", "B rock", "", "moon", "C", "D"]).reset_index(drop=True)
    ours = extract(reader, pack(reader, {"m": frame}, [True] * 6), None, 2048)
    hidden = baseline.hidden_states(reader, bench.texts(reader, frame), 4)
    torch.testing.assert_close(hidden.to(torch.bfloat16), ours.states["m"], atol=0.02, rtol=0.02)
    confidence = baseline.zero_shot(reader, bench.texts(reader, frame, reader.query), 4)
    torch.testing.assert_close(confidence, ours.zero_shot["m"], atol=1e-4, rtol=1e-4)


def test_the_trainer_learns_with_the_adapters_alone():
    loaded = loading.load("tiny-llama", "float32")
    settings = {
        "first_layer": 0.5,
        "r": 2,
        "alpha": 8,
        "dropout": 0.0,
        "targets": ["q_proj"],
        "learning_rate": 0.1,
        "batch_size": 4,
    }
    adapted = LoraPrompt(loaded, settings, 0, 2048).reader
    before = {name: value.clone() for name, value in adapted.model.named_parameters()}
    frame = questions(8)[1:].assign(answer="A")
    baseline.train(adapted, bench.texts(adapted, frame, adapted.query), [True, False] * 4, settings, 0)
    changed = {name for name, value in adapted.model.named_parameters() if not torch.equal(value, before[name])}
    assert changed and all("lora_" in name for name in changed)


def test_two_ways_take_turns_and_are_compared_by_their_medians(monkeypatch):
    turns = []

    def way(name, times):
        times = iter(times)

        def run(items):
            turns.append((name, len(items)))
            return next(times)

        return run

    line = bench.race(way("ours", [9, 1, 5, 2]), way("plain", [9, 8, 4, 3]), 10, "questions", 2, 100, 0.5)
    assert turns == [("ours", 4), ("plain", 4), *[("ours", 10), ("plain", 10)] * 3]
    assert (line["ours_per_second"], line["plain_per_second"], line["ratio"]) == (10, 5, 2)
    assert (line["tokens_per_second"], line["share_of_matmul_rate"], line["repeats"]) == (50, 0.25, 3)
    monkeypatch.setattr(bench, "SECONDS", 0)
    assert bench.race(way("ours", [1, 1]), way("plain", [1, 1]), 10, "questions", 1, 1, 1)["repeats"] == 1


def test_the_arithmetic_is_counted_by_blocks(reader):
    each = [bench.block_parameters(reader, layer, layer + 1) for layer in range(reader.depth)]
    config = reader.model.config
    heads = config.num_attention_heads + config.num_key_value_heads
    assert each[0] == config.hidden_size * (
        2 * heads * config.hidden_size // config.num_attention_heads + 3 * config.intermediate_size
    )
    assert bench.block_parameters(reader) == sum(each)


@pytest.mark.slow
def test_the_table_is_whole(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench, "sample", lambda chosen, count: questions(6))
    monkeypatch.setattr(bench, "REPEATS", 1)
    monkeypatch.chdir(tmp_path)
    assert __main__.main(["bench", str(Path(__file__).parents[2] / "grids/smoke.yml")]) == 0
    table = pd.read_parquet("results/smoke/bench.parquet")
    measures = ["ours_per_second", "plain_per_second", "ratio", "share_of_matmul_rate", "tokens_per_second"]
    assert [*table] == [
        "model",
        "stage",
        *measures[:4],
        "unit",
        "tokens_per_second",
        "ours_peak_gb",
        "plain_peak_gb",
        "repeats",
        "device",
        "precision",
        "random_weights",
    ]
    assert table[["ours_peak_gb", "plain_peak_gb"]].isna().all(axis=None) or torch.cuda.is_available()
    assert sorted(zip(table["model"], table["stage"])) == [
        (model, stage) for model in ("tiny-llama", "tiny-mistral") for stage in ("answer", "extract", "lora_prompt")
    ]
    assert np.isfinite(table[measures]).all(axis=None) and (table[measures] > 0).all(axis=None)
    assert np.allclose(table["ratio"], table["ours_per_second"] / table["plain_per_second"])
    assert set(table["precision"]) == {"float32"} and table["device"].str.len().min() > 0
    assert "results/smoke/bench.parquet" in capsys.readouterr().out


def test_random_weights_have_the_shape_of_the_real_ones(monkeypatch, tmp_path):
    small = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": 600,
    }
    monkeypatch.setattr(
        bench,
        "SHAPES",
        {"meta-llama/Llama-2-7b-hf": LlamaConfig(**small), "mistralai/Mistral-7B-v0.1": MistralConfig(**small)},
    )
    monkeypatch.setattr(bench, "sample", lambda chosen, count: questions(6))
    kapoor = grid.load(Path(__file__).parents[2] / "grids/kapoor2024.yml")
    with bench.random_weights(kapoor) as measured:
        assert [m.name for m in measured.models] == [m.name for m in kapoor.models]
        folders = [Path(m.source) for m in measured.models]
        for folder, kind in zip(folders, ("LlamaForCausalLM", "MistralForCausalLM")):
            made = loading.load(str(folder), "bfloat16")
            assert (
                type(made.model).__name__ == kind
                and made.model.config.hidden_size == 32
                and made.head.dtype == torch.bfloat16
            )
            assert len(made.tokenizer) <= 600 and made.choices
            ids = made.start() + made.question("Which moon is moon?")
            assert ids[0] == made.tokenizer.bos_token_id and len(ids) < 30
    assert not any(folder.exists() for folder in folders)
    with pytest.raises(WhoknowsError, match="the shape of 'tiny-llama' is not known"), bench.random_weights(SMOKE):
        pass


def test_the_report_says_whether_weights_were_random(monkeypatch, tmp_path):
    rates = dict.fromkeys(["ours_per_second", "plain_per_second", "ratio", "share_of_matmul_rate"], 1.0)
    line = rates | {"model": "m", "stage": "answer", "unit": "questions", "device": "d", "precision": "float32"}
    monkeypatch.setattr(bench, "bench", lambda chosen: pd.DataFrame([line]))
    monkeypatch.setattr(bench, "random_weights", nullcontext)
    monkeypatch.chdir(tmp_path)
    for more in ([], ["--random-weights"]):
        bench.main([str(Path(__file__).parents[2] / "grids/smoke.yml"), *more])
        text = chapters.speed(pd.read_parquet("results/smoke/bench.parquet"))
        assert ("in float32, with random weights" in text) == bool(more)


def test_the_papers_shapes_have_the_papers_numbers_of_parameters():
    for source, billions in {
        "meta-llama/Llama-2-7b-hf": 6.74,
        "meta-llama/Llama-2-13b-hf": 13.02,
        "mistralai/Mistral-7B-v0.1": 7.24,
    }.items():
        with torch.device("meta"):
            model = bench.KINDS[type(bench.SHAPES[source])](bench.SHAPES[source])
        assert sum(p.numel() for p in model.parameters()) / 1e9 == pytest.approx(billions, abs=0.01)


def test_the_report_says_of_how_many_rows_the_products_are():
    rows = f"{bench.ROWS['cpu']:,} rows on a CPU and {bench.ROWS['cuda']:,} on a GPU"
    assert rows in " ".join(chapters.SPEED.split())
