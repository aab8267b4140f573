"""What a plan says that a grid costs: counts, bytes and growth are right, and what was measured comes first."""

import json
import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from whoknows.data import assets, questions, tasks
from whoknows.run import cost, grid, stages

ROOT = Path(__file__).parents[2]
SMOKE = grid.load(ROOT / "grids/smoke.yml")


@pytest.fixture(autouse=True)
def without_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    cost._here.cache_clear()


def of_size(n: int) -> grid.Grid:
    """The smoke grid with n models of one size."""
    return replace(SMOKE, models=tuple(grid.Model(f"model-{index}", "a-135m") for index in range(n)))


def everything(of: grid.Grid) -> Counter:
    return Counter({stage: one.jobs for stage, one in cost.work(of).items()})


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-mistral"])
def test_a_config_gives_the_weights_that_the_model_has(readers, name):
    reader = readers[name]
    linear = [
        m.weight.numel() for block in reader.base.layers for m in block.modules() if isinstance(m, torch.nn.Linear)
    ]
    shape = cost.size(reader.tokenizer.name_or_path)
    assert (shape.layers, shape.width, shape.blocks, shape.head) == (
        reader.depth,
        reader.head.shape[1],
        sum(linear),
        reader.head.numel(),
    )
    assert shape.origin == ""


@pytest.mark.parametrize(
    "source, weights, origin",
    [
        ("meta-llama/Llama-2-7b-hf", 7e9, "its name says"),
        ("mistralai/Mistral-7B-v0.1", 7e9, "its name says"),
        ("Qwen/Qwen2.5-0.5B-Instruct", 5e8, "its name says"),
        ("some/model", 7e9, "a guess"),
    ],
)
def test_without_a_config_the_name_tells(source, weights, origin, monkeypatch, tmp_path):
    monkeypatch.setenv("WHOKNOWS_CACHE", str(tmp_path))
    shape = cost.size(source)
    assert math.isclose(shape.blocks, weights, rel_tol=0.1) and shape.origin == origin
    if origin == "a guess":
        assert (
            "some/model has 7e+09 weights, as a guess"
            in cost.assumptions(replace(SMOKE, models=(grid.Model("it", source), SMOKE.models[0])))[-1]
        )


@pytest.mark.parametrize(
    "config, shape, origin",
    [
        (
            {
                "model_type": "mistral",
                "hidden_size": 64,
                "num_hidden_layers": 2,
                "intermediate_size": 96,
                "vocab_size": 100,
            },
            (2, 64, {"q_proj": 128, "down_proj": 160}),
            "",
        ),
        (
            {"model_type": "gpt2", "n_embd": 64, "n_layer": 3, "n_head": 4},
            (3, 64, {"q_proj": 128, "down_proj": 5 * 64}),
            "its config.json says in part",
        ),
        (
            {"model_type": "mamba", "hidden_size": 64, "num_hidden_layers": 3, "vocab_size": 100},
            (3, 64, {}),
            "its config.json says in part",
        ),
        ({"model_type": "llama", "hidden_size": 64}, (32, 64, {}), ""),
        (
            {
                "text_config": {
                    "hidden_size": 64,
                    "num_hidden_layers": 2,
                    "num_attention_heads": 4,
                    "num_key_value_heads": None,
                    "intermediate_size": 96,
                    "vocab_size": 9,
                }
            },
            (2, 64, {"k_proj": 128}),
            "",
        ),
        ({"model_type": "of-tomorrow", "hidden_size": 64}, None, "a guess"),
        ("no json", None, "a guess"),
        ([], None, "a guess"),
    ],
    ids=["heads", "GPT-2", "mamba", "nearly all", "null", "unknown", "text", "list"],
)
def test_every_config_gives_a_plan_and_what_is_unknown_is_said(tmp_path, config, shape, origin):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    known = cost.size(str(folder))
    assert known.origin == origin and known.blocks > 0 and known.head > 0
    if shape:
        assert (known.layers, known.width) == shape[:2] and known.sides.items() >= shape[2].items()
    text = cost.table(
        replace(SMOKE, models=(grid.Model("it", str(folder)), SMOKE.models[1])),
        Counter({"answer": 2, "lora_prompt": 4}),
        tmp_path,
        tmp_path,
    )
    assert re.findall(rf"{folder} has \S+ weights, as (.*?)(?:;|\.$)", text, re.M) == [origin] * bool(origin)


@pytest.mark.slow
def test_lengths_of_questions_are_those_of_the_sets():
    for asset in ("questions", "geonames"):
        assets.fetch(asset)
    assert tuple(cost.CHARACTERS) == tasks.TASKS
    for task, length in cost.CHARACTERS.items():
        asked = questions.build(
            [{"name": task, "size": 150, "role": "shift"}], {"train": 0.6, "validation": 0.2, "test": 0.2}, 0
        )
        assert math.isclose(asked["question"].str.len().mean() + len("Question: \nAnswer:"), length, rel_tol=0.15), task


def test_stages_grow_with_the_number_of_models_as_the_table_says():
    few, many = cost.work(of_size(100)), cost.work(of_size(200))
    jobs = {
        "answer": 1,
        "extract": 1,
        "ablate": 1,
        "sweep": 1,
        "probe": 2,
        "lora_prompt": 2,
        "ablate_lora": 1,
        "search": 1,
        "cell": 2,
        "surface": 0,
        "heatmaps": 0,
    }
    operations = {"answer": 1, "extract": 2, "ablate": 2, "sweep": 2, "surface": 2, "heatmaps": 3, "controls": 3}
    for stage, power in jobs.items():
        assert many[stage].jobs == few[stage].jobs * 2**power
    for stage, power in operations.items():
        assert math.isclose(math.log2(many[stage].operations / few[stage].operations), power, abs_tol=0.05), stage
    seeds = replace(of_size(3), seeds=(0, 1))
    assert [cost.work(seeds)[stage].jobs for stage in ("answer", "probe", "lora_prompt", "cell")] == [3, 18, 18, 18]
    assert {stage for stage, one in few.items() if one.growth == "1"} == {"questions", "settings"}


def test_a_model_that_only_answers_has_no_jobs_that_read():
    file, api = (
        grid.Model("GPT", answers="gpt.csv"),
        grid.Model("far", api=grid.Endpoint("http://localhost/v1", "wise")),
    )
    asked = replace(of_size(3), models=(*of_size(1).models, file, api), search=None)
    work = cost.work(asked)
    jobs = {stage: work[stage].jobs for stage in ("answer", "answer_file", "answer_api", "extract", "probe", "ablate")}
    assert jobs == dict.fromkeys(jobs, 1) | {"probe": 3} and work["cell"].jobs == 3 * len(asked.methods)
    assert work["extract"].operations < cost.work(replace(of_size(3), search=None))["extract"].operations
    assert work["answer"].operations == cost.work(of_size(1))["answer"].operations
    assert "GPT" not in " ".join(cost.assumptions(asked))


def test_pages_of_results_measure_every_estimator_on_every_task():
    # 3 tasks; 2 probes and LoRA + Prompt in 4 cells, each scoring 2 models; likelihood of 2 models, zero-shot of 2 on 2
    assert cost.work(of_size(2))["heatmaps"].operations == cost.GROUP * 3 * (3 * 4 * 2 + 2 + 4)
    mmlu = replace(of_size(2), tasks=(*SMOKE.tasks, grid.Task("mmlu_mc", "shift", 60)))
    more = cost.work(mmlu)["heatmaps"].operations - cost.work(of_size(2))["heatmaps"].operations
    assert more == cost.GROUP * 57 * (3 * 4 * 2 + 2 + 4)


def test_a_forward_pass_is_two_operations_a_weight_and_token_and_training_costs_more():
    text, model = cost.Texts(SMOKE), cost.size("a-135m")
    assert math.isclose(text.count.total(), 320) and math.isclose(text.count["test"], 152)
    one = cost.work(of_size(2))
    assert math.isclose(one["extract"].operations, 2 * 2 * model.blocks * text.packed_tokens(2))
    untrained = replace(of_size(2), lora_prompt=replace(SMOKE.lora_prompt, epochs=3))
    more = cost.work(untrained)["lora_prompt"].operations - one["lora_prompt"].operations
    assert math.isclose(
        more, 4 * 4 * 2 * model.blocks / 2 * text.packed_tokens(1, "train")
    )  # 4 cells, 2 more epochs, half the blocks


def test_adapters_on_all_linear_modules_take_as_much_as_on_each_of_them():
    kept = [
        cost.work(replace(of_size(2), lora_prompt=replace(SMOKE.lora_prompt, targets=targets)))["lora_prompt"].bytes
        for targets in ("all-linear", grid.LINEAR, ("q_proj",))
    ]
    assert kept[0] == kept[1] > kept[2]


def test_each_position_is_hidden_states_on_the_disk_and_a_probe_of_the_sweep():
    """Of two models' answers: one file before them, and two at each of three further positions, or of four."""
    text, model = cost.Texts(SMOKE), cost.size("a-135m")
    upper, whole = (
        cost.work(replace(of_size(2), lora_prompt=replace(SMOKE.lora_prompt, first_layer=share)))
        for share in (0.5, 0.0)
    )
    file, per_page = 2 * (model.layers + 1) * model.width * text.count.total(), cost.PAGE_BYTES
    assert math.isclose(whole["extract"].bytes, 2 * (7 * file + per_page))
    number = 4 if SMOKE.precision == "float32" else 2
    trunk = (4 + number * model.width) * text.packed_tokens(2)
    assert math.isclose(upper["extract"].bytes, 2 * (9 * file + trunk + per_page))
    assert math.isclose(upper["sweep"].operations / whole["sweep"].operations, (2 + 4) / (2 + 3))


def test_a_search_trains_once_for_each_rate_the_grids_own_among_them_and_on_each_share_of_the_answers():
    def operations(rates, sizes, **changes):
        return cost.work(replace(of_size(2), search=grid.Search(rates, sizes), **changes))["search"].operations

    rate = SMOKE.lora_prompt.learning_rate
    one, two = operations((), ()), operations((0.5,), ())
    assert operations((rate,), ()) == one and operations((0.5, rate), ()) == two
    assert math.isclose(operations((0.5, 0.7), ()) - two, two - one)
    half = operations((), (round(cost.Texts(SMOKE).count["train"] / 2),)) - one
    assert 0.5 * (two - one) < half < two - one and operations((), (10**6,)) == one
    assert "search" not in cost.work(replace(SMOKE, search=None)) and "search" not in cost.work(
        replace(SMOKE, methods=("probe",))
    )


def test_a_training_on_all_models_learns_and_is_stopped_by_the_answers_of_each():
    def operations(*lora):
        of = replace(of_size(3), controls=replace(SMOKE.controls, lora=lora))
        return cost.work(of)["ablate_lora"].operations

    text, settings = cost.Texts(SMOKE), SMOKE.lora_prompt
    passes = {"train": 4 * settings.epochs + 2, "validation": 2 * settings.evaluations}  # and 2 of the reference states
    tokens = sum(count * text.packed_tokens(1, split) for split, count in passes.items())
    more = 3 * (3 - 1) * cost.size("a-135m").blocks / 2 * tokens  # of 3 readers, and 3 models instead of one
    assert math.isclose(operations("all_models"), operations("no_query") + more)
    assert math.isclose(operations("no_query", "all_models"), 2 * operations("no_query") + more)


def rows_of(table: str) -> dict[str, list[str]]:
    lines = [re.split(r"  +", line) for line in table.splitlines()]
    return {line[0]: line[1:] for line in lines if len(line) > 2}


def test_the_table_has_a_line_for_each_stage_that_is_due_and_says_what_it_rests_on(tmp_path):
    due = Counter({"answer": 1, "probe": 3})
    table = cost.table(SMOKE, due, tmp_path, tmp_path)
    assert list(rows_of(table)) == ["stage", "Answers", "Probe", "all"]
    assert rows_of(table)["Probe"][:2] == ["3", "n² cells × seeds"] and rows_of(table)["Answers"][-1] == "arithmetic"
    assert "1e+11 operations a second" in table
    fast = replace(SMOKE, resources=grid.Resources(3e14, {"answer": grid.Stage(gpus=1)}))
    assert "3e+14 operations a second" in cost.table(fast, due, tmp_path, tmp_path)
    assert cost.rate(fast, "answer") == cost.rate(fast, "extract") == 3e14 and cost.rate(fast, "probe") == 1e11
    assert [cost.cards(fast, stage) for stage in ("answer", "extract")] == [1, 0]
    twice = replace(SMOKE, resources=grid.Resources(3e14, {"answer": grid.Stage(gpus=2), "probe": grid.Stage(cores=4)}))
    one, two = (rows_of(cost.table(of, due, tmp_path, tmp_path)) for of in (fast, twice))
    assert math.isclose(
        float(two["Answers"][2]), 2 * float(one["Answers"][2]), abs_tol=0.001
    )  # a job that holds two GPUs spends the hours of both
    assert math.isclose(float(two["Probe"][2]), 4 * float(one["Probe"][2]), abs_tol=0.002)


def test_without_a_word_in_the_grid_the_gpus_are_those_of_this_machine(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    cost._here.cache_clear()
    assert [cost.cards(SMOKE, stage) for stage in ("answer", "extract", "probe")] == [1, 1, 0]
    assert cost.rate(SMOKE, "answer") == cost.RATES["GPU"]
    cost._here.cache_clear()


def test_a_stage_whose_work_is_not_known_still_counts(tmp_path, monkeypatch):
    monkeypatch.setitem(stages.STAGES, "centroid", "Centroid")
    table = rows_of(cost.table(SMOKE, Counter({"answer": 2, "centroid": 4}), tmp_path, tmp_path))
    assert table["Centroid"][:2] == ["4", "1"] and table["all"][0] == "6" and "centroid" not in cost.work(SMOKE)


def run_of(of: grid.Grid, results: Path, slower: float, only: str = "") -> None:
    """Notebooks of a run that took a few times what the arithmetic says."""
    folder = results / of.name / "notebooks"
    folder.mkdir(parents=True)
    for stage, one in cost.work(of).items():
        for job in range(one.jobs if stage.startswith(only) else 0):
            about = {"seconds": slower * cost.seconds(of, stage, one) / one.jobs}
            (folder / f"{stage}-{job}.ipynb").write_text(json.dumps({"metadata": {"whoknows": about}}))
    (folder / "answer-9.failed.ipynb").write_text(json.dumps({"metadata": {}}))


def test_what_notebooks_took_comes_before_arithmetic_and_own_ones_before_those_of_another_grid(tmp_path):
    more = replace(of_size(4), name="more")
    run_of(SMOKE, tmp_path, 50)
    by_hand = rows_of(cost.table(more, everything(more), tmp_path, tmp_path))
    other = rows_of(cost.table(more, everything(more), tmp_path, ROOT / "grids"))
    run_of(more, tmp_path, 100, "answer")
    second = rows_of(cost.table(more, everything(more), tmp_path, ROOT / "grids"))
    hours = [float(table["Answers"][2]) for table in (by_hand, other, second)]
    assert math.isclose(hours[1], 50 * hours[0], rel_tol=0.1) and math.isclose(hours[2], 100 * hours[0], rel_tol=0.1)
    assert [table["Answers"][-1] for table in (by_hand, other, second)] == ["arithmetic", "2 notebooks", "4 notebooks"]
    assert second["Probe"][-1] == "4 notebooks" and second["Probe"][2] == other["Probe"][2]


def test_every_stage_has_a_name_and_those_that_read_are_stages():
    assert {*stages.READING, *stages.HEAVY, *cost.PLACES} <= set(stages.STAGES)
