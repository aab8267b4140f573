"""What the pages of results say of a model alone, and of one whose answers are known but which reads nothing."""

from dataclasses import replace

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_notebook

from made_up import graded
from whoknows.data.files import ROOT
from whoknows.data.rows import ALL_MODELS
from whoknows.evaluation import bootstrap, cells, scores
from whoknows.evaluation.auroc import mean_auroc
from whoknows.report import chapters
from whoknows.report.pages import claims, controls, differences, heatmaps, layers, shift
from whoknows.run import grid

TASKS = [
    {"name": name, "role": role} for name, role in (("trivia_qa", "train"), ("sciq", "train"), ("nq_open", "shift"))
]
ONE = {"reader": "a", "trained_on": "a", "scored": "a"}
DRAWS = 50


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    for name in ("draws", "samples", "metric_samples"):
        usual = getattr(bootstrap, name)
        defaults = tuple(DRAWS if value == bootstrap.DRAWS else value for value in usual.__defaults__)
        monkeypatch.setattr(usual, "__defaults__", defaults)


def alone(**strengths):
    return graded(strengths or {"probe": 1.0, "lora_prompt": 2.0}, 120, **ONE)


def beside():
    """A reader, and a model that does not read, left every seventh question out, and has a likelihood of some."""
    parts = [graded({"likelihood": 0.5}, 120, reader="", trained_on="", scored=scored) for scored in "ag"]
    for trained_on, scored in ("aa", "ag", "ga", "gg"):
        names = {"reader": "a", "trained_on": trained_on, "scored": scored}
        parts.append(graded({"probe": 1.0 + (trained_on == "g"), "lora_prompt": 1.5}, 120, **names))
    rows = pd.concat(parts, ignore_index=True)
    number = rows["question_id"].str.extract(r"(\d+)$")[0].astype(int)
    left_out = (rows["scored"] == "g") & ((number % 7 == 0) | ((rows["method"] == "likelihood") & (number % 3 == 1)))
    return rows[~left_out].reset_index(drop=True)


def table_of(rows, models, readers):
    measured = cells.measure(rows, scores.by_task(rows, only_auroc=True), TASKS)
    return cells.heatmap_table(cells.enough(measured), models, TASKS, readers), measured


def says(table):
    return heatmaps.heatmaps_sentences(table, pd.Series(dtype=float))


def test_the_heatmaps_of_one_model_are_one_cell_and_compare_nothing():
    table, measured = table_of(alone(), ["a"], ["a"])
    assert set(table["reading"]) == {"A"} and len(table) == 2 * table["test_set"].nunique()
    assert "a is the only model: it reads, is trained on and is scored, and is compared with no other." in says(table)
    spec = heatmaps.heatmaps_chart(table, ["a"], "x").to_dict()
    assert not [one for one in spec["params"] if one["name"] == "reading" and "bind" in one], "there is nothing to turn"
    html = heatmaps.heatmaps_html(table, ["a"])
    assert "Probe, One model, in-distribution" in html and "<th>a</th>" in html
    assert "transfer" not in html + str(spec), "nothing is transferred"


def test_one_model_has_one_difference_and_with_one_method_none():
    table = differences.of_grid(alone(), ["a"], TASKS)
    first = table[table["test_set"] == "in-distribution"]
    assert first["kind"].tolist() == [differences.METHOD] and first["reading"].tolist() == ["A and B"]
    nothing = differences.of_grid(alone(probe=1.0), ["a"], TASKS)
    assert nothing.empty and differences.differences_chart(nothing) is None
    assert "nothing to compare" in differences.differences_sentences(nothing)
    assert {*nothing} >= {*table}, "the file has the same columns"


def test_claims_about_two_models_are_not_tested_on_one():
    stated = claims.load()
    table, players = claims.evaluate(stated, alone(), ["a"], TASKS)
    assert players == {"Mistral": "a"}
    measured = table[table["source"] == "measured"]
    assert set(measured["reading"]) == {"A"} and set(measured.loc[measured["cells"] != "", "hypothesis"]) == {
        bootstrap.hypothesis({("probe", "a", "a", "a"): 1.0, ("lora_prompt", "a", "a", "a"): -1.0})
    }
    foreign = measured[measured["contrast"].str.contains("LLaMA-2")]
    assert len(foreign) and foreign["estimate"].isna().all() and foreign["reason"].str.contains("no other model").all()
    verdicts = claims.verdicts(table)
    tested = set(verdicts.loc[verdicts["source"] == "measured", "claim"])
    assert "Native training is above cross training for every model" not in tested and tested
    text = claims.summary_sentences(verdicts, players, table)
    assert "Here a alone reads and has an estimator of its own answers, and stands for Mistral. What" in text
    assert "are 1 distinct primary hypothesis. " in text and "for LLaMA-2:" not in text
    html = claims.verdicts_html(verdicts)
    assert html.count("not tested: it takes two models with estimators of their own") == len(stated) - len(tested)
    assert claims.contrasts_chart(table).to_dict() and claims.claims_sentences(stated, table, verdicts)


def test_who_reads_nothing_is_scored_and_trained_on_and_has_no_estimator():
    table, measured = table_of(beside(), ["a", "g"], ["a"])
    first = table[(table["test_set"] == "in-distribution") & (table["method"] == "probe")]
    places = {reading: [*zip(one["model"], one["trained_on"])] for reading, one in first.groupby("reading")}
    assert places["A"] == [("a", "a"), ("g", "a")] and places["B"] == [("a", "a"), ("a", "g")]
    assert len(places["all"]) == 4 and first["auroc"].notna().all() and set(first["reader"]) == {"a"}
    sentence = (
        "Of g only answers are known, and a reads them. Reading A has no column, and reading B no row, for a model "
        "that does not read; the rest is in reading All."
    )
    assert sentence in says(table)
    assert heatmaps.heatmaps_chart(table, ["a", "g"], "x", True).to_dict() and heatmaps.heatmaps_html(table, ["a", "g"])
    counts = first[first["reading"] == "A"].set_index("model")["n"]
    assert counts["a"] == 240 and counts["g"] == 240 - 2 * 18, "what it did not answer does not count"


def test_differences_of_who_reads_nothing_say_who_reads_it():
    table = differences.of_grid(beside(), ["a"], TASKS)
    asked = table[(table["test_set"] == "in-distribution") & table["what"].str.contains("which a reads")]
    assert asked["what"].tolist() == ["LoRA + Prompt, scored on g, which a reads", "Probe, scored on g, which a reads"]
    assert (asked["says"] == bootstrap.EXPLORATORY).all() and asked["estimate"].iloc[1] > 0.05
    assert set(table.loc[table["p_holm"].notna(), "what"]) == {"a trained on a, scored on a"}


def test_controls_compare_on_the_answers_that_both_have_scored():
    rows = beside()
    table = controls.contest(rows, ["a"], TASKS).set_index(["method", "scored"])
    text = controls.contest_sentences(table.reset_index())
    assert (
        "- **a**, on its own answers: the probe has" in text and "- **g**, with a as its reader: the probe has" in text
    )
    assert table.loc[("probe", "g"), ["reader", "trained_on"]].tolist() == ["a", "g"]
    known = rows[(rows["method"] == "likelihood") & (rows["scored"] == "g") & (rows["task"] != "nq_open")]
    probe = rows[(rows["method"] == "probe") & (rows["trained_on"] == "g") & (rows["scored"] == "g")]
    probe = probe[probe["question_id"].isin(known["question_id"])]
    on_shared = [
        mean_auroc(*(some[name].to_numpy() for name in ("logit", "correct", "task"))) for some in (known, probe)
    ]
    line = table.loc[("likelihood", "g")]
    assert np.isclose(line["difference"], on_shared[0] - on_shared[1]) and line["difference_low"] < line["difference"]
    assert not np.isclose(line["difference"], line["auroc"] - table.loc[("probe", "g"), "auroc"], atol=1e-4)
    same = table.loc[("likelihood", "a")]
    assert np.isclose(same["difference"], same["auroc"] - table.loc[("probe", "a"), "auroc"])
    html = controls.contest_html(table.reset_index())
    assert "g with a as its reader: " in html and controls.contest_chart(table.reset_index()).to_dict()


def test_shift_has_the_estimators_that_its_reader_learned_from_its_answers():
    table = shift.shift(beside(), TASKS, ["a"])
    lines = table[(table["scored"] == "g") & (table["method"] == "probe")]
    assert set(lines["trained_on"]) == {"g"} and lines["test_set"].tolist() == ["in-distribution", "nq_open"]
    assert "- **g**, with a as its reader:\n  - on nq_open, " in shift.shift_sentences(table)
    assert "g with a as its reader: AUROC" in shift.shift_html(table) and shift.shift_chart(table).to_dict()
    assert "g" not in set(shift.shift(beside()[beside()["method"] == "probe"], TASKS)["scored"]), "without a reader"


def test_the_book_leaves_out_what_a_model_did_before_it_was_known_by_a_file(tmp_path):
    smoke = grid.load(ROOT / "grids/smoke.yml")
    judge = grid.Endpoint("http://localhost/v1", "wise")
    mine = replace(smoke, models=(smoke.models[0], grid.Model("g", answers="g.csv")), search=None, judge=judge)
    mine = replace(mine, tasks=(*mine.tasks, grid.Task("sciq", "shift")))
    about = {
        "answer-g": {"model": "g"},
        "answer_file-g": {"model": "g"},
        "answer-tiny-llama": {"model": "tiny-llama"},
        "judge-g": {"model": "g"},
        "extract-g": {"reader": "g"},
        "probe-g_tiny-llama_seed0": {"reader": "g", "trained_on": "tiny-llama", "seed": 0},
        "probe-tiny-llama_g_seed0": {"reader": "tiny-llama", "trained_on": "g", "seed": 0},
    }
    for name, values in about.items():
        page = new_notebook(metadata={"whoknows": {"parameters": values, "stage": name.split("-")[0]}})
        (tmp_path / f"{name}.ipynb").write_text(nbformat.writes(page))
    kept = [chapter.name for chapter in chapters.collect(tmp_path, mine)]
    assert kept == ["answer-tiny-llama", "answer_file-g", "probe-tiny-llama_g_seed0", "judge-g"]
    assert "judge-g" not in [chapter.name for chapter in chapters.collect(tmp_path, replace(mine, judge=None))]


@pytest.mark.parametrize(
    "models, lora, is_kept", [(2, ["all_models"], True), (2, [], False), (1, ["all_models"], False)]
)
def test_the_book_has_the_training_on_all_models_while_the_grid_asks_for_it(tmp_path, models, lora, is_kept):
    smoke = grid.load(ROOT / "grids/smoke.yml")
    mine = replace(smoke, models=smoke.models[:models], controls=replace(smoke.controls, lora=tuple(lora)))
    values = {"reader": "tiny-llama", "trained_on": ALL_MODELS, "seed": 0, "method": "lora_prompt"}
    page = new_notebook(metadata={"whoknows": {"parameters": values, "stage": "ablate_lora"}})
    name = "ablate_lora-tiny-llama_lora_prompt_all_models"
    (tmp_path / f"{name}.ipynb").write_text(nbformat.writes(page))
    assert [chapter.name for chapter in chapters.collect(tmp_path, mine)] == [name] * is_kept


def test_the_page_layers_has_the_sweeps_of_those_that_read(tmp_path):
    lines = [
        {"reader": "a", "trained_on": trained_on, "scored": scored, "size": 100, "layer": layer, "strength": 1.0}
        for trained_on in "ag" for scored in "ag" for layer in range(3)
    ]  # fmt: skip
    table = pd.DataFrame(lines).assign(last_layer=2, validation_auroc=0.6, auroc=0.7, n_rarer=30)
    table.to_parquet(tmp_path / "a.parquet")
    read = layers.read(str(tmp_path), ["g", "a"], ["a"])
    assert len(read) == len(table)
    text = layers.layers_chart(read, ["g", "a"]).to_json()
    assert "trained on g, scored on a" in text and "trained on g, scored on g" not in text, "is in neither reading"
    alone = read[(read["trained_on"] == "a") & (read["scored"] == "a")]
    spec = layers.layers_chart(alone, ["a"]).to_dict()
    assert not [one for one in spec["params"] if one["name"] == "reading" and "bind" in one]


def test_a_cell_of_the_sweep_without_a_value_has_no_colour():
    drawn = layers._heatmap(["a", "g"], (0.5, 0.8), {"layer": "true", "reading": "true"}).to_dict(validate=False)
    rects = [layer for layer in drawn["layer"] if layer["mark"]["type"] == "rect"]
    assert [rect["encoding"]["color"]["field"] for rect in rects] == ["auroc"], "Vega leaves out what has none"
