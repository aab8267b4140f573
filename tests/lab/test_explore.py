"""explore.py shows the run's own probe at a setting, chosen on nothing; its widgets redraw it, its grid repeats it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest
import torch
import vl_convert
import yaml
from test_probe import MLP
from test_probe import made_up as planted

from made_up import save_hidden
from whoknows import WhoknowsError
from whoknows.data import files
from whoknows.data.positions import FIRST, LAST, MEAN, QUERY, QUESTION
from whoknows.evaluation import auroc, scores
from whoknows.lab import explore
from whoknows.lab.explore import Results, Setting
from whoknows.lab.panel import Panel
from whoknows.report.pages.style import CHART
from whoknows.run import grid, notebook, page, parameters
from whoknows.stages import probe

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LAYERS = {"deep": 4, "flat": 3}
TASKS = {"trivia_qa": 240, "sciq": 160, "nq_open": 80}  # the last one is a shift
SETTING = Setting("deep", "deep", "deep", LAST, layer=2, strength=0.1, size=0, tasks=tuple(TASKS))


def answers(seed, correct):
    """A frame of graded answers to the questions of all tasks."""
    parts = []
    for task, size in TASKS.items():
        split = (
            ["test"] * size if task == "nq_open" else (["train"] * 6 + ["validation"] * 2 + ["test"] * 2) * (size // 10)
        )
        parts.append(pd.DataFrame({"question_id": [f"{task}{i}" for i in range(size)], "task": task, "split": split}))
    texts = {"question": "Why?", "gold": [["the sun"]] * len(correct), "kind": "open", "answer": "A"}
    return pd.concat(parts, ignore_index=True).assign(**texts, correct=correct)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A folder with a grid, its made-up results and the notebooks; both readers have the grades planted in layer 2."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks", symlinks=True)
    values = files.read_yaml(ROOT / "grids/embedded.yml") | {"name": "made-up", "beside": None}
    values["models"] = [{"name": name, "source": "tiny-llama"} for name in LAYERS]
    values["tasks"] = [
        {"name": name, "size": size, "role": "shift" if name == "nq_open" else "train"} for name, size in TASKS.items()
    ]
    del values["probe"], values["controls"]  # what a grid leaves out is as in that one
    files.write_text(folder / "grids/made-up.yml", yaml.safe_dump(values))
    for scored_at, scored in enumerate(LAYERS):
        for reader_at, (reader, layers) in enumerate(LAYERS.items()):
            data = planted(sum(TASKS.values()), layers=layers, signal=[2], seed=scored_at, strength=1.0 + reader_at)
            features = str(folder / "results/made-up/features" / reader)
            save_hidden(features, scored, data.hidden)
            for at, position in enumerate((QUESTION, FIRST, MEAN), start=5):
                noise = torch.randn(data.hidden.shape, generator=torch.Generator().manual_seed(at)).bfloat16()
                save_hidden(features, scored, noise, position)
        files.write_parquet(folder / f"results/made-up/answers/{scored}.parquet", answers(scored_at, data.correct))
    return folder


@pytest.fixture
def results(checkout, monkeypatch):
    monkeypatch.chdir(checkout)
    return Results("grids/made-up.yml")


def test_the_probe_is_the_one_that_the_run_fits_at_that_setting(results, tmp_path):
    made = results.rows(SETTING)
    names = (
        "deep",
        "deep",
        results.seed,
        results.answers,
        "results/made-up/features/deep",
        [2],
        [0.1],
        MLP,
        str(tmp_path),
    )
    rows, _ = probe.run(*names, source="tiny-llama", precision="float32")
    expected = rows[rows["method"] == "probe"].reset_index(drop=True)
    pd.testing.assert_frame_equal(made.drop(columns="logit"), expected.drop(columns="logit"))
    np.testing.assert_allclose(made["logit"], expected["logit"], atol=1e-3)


def test_hidden_states_are_read_when_they_are_asked_for(results, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "whoknows.lab.explore.load_states",
        lambda folder, reader, answers, position: (
            asked.append((folder[-4:], position))
            or {scored: torch.zeros(len(frame), 4, 6) for scored, frame in answers.items()}
        ),
    )
    assert results.layers("deep") == 4 and asked == [("deep", LAST)]
    results.rows(SETTING)
    results.rows(replace(SETTING, layer=1))
    assert asked == [("deep", LAST)]
    results.rows(replace(SETTING, position=MEAN))
    assert asked == [("deep", LAST), ("deep", MEAN)]


def test_one_fit_serves_all_scored_models(results):
    assert results.rows(SETTING) is results.rows(replace(SETTING, scored="flat"))
    assert results.rows(SETTING) is not results.rows(replace(SETTING, strength=1.0))


def test_a_smaller_size_trains_on_the_answers_that_the_control_of_that_size_has(results, monkeypatch):
    from whoknows.lab import explore
    from whoknows.stages import ablations

    seen = []
    fit = explore.fit
    monkeypatch.setattr(explore, "fit", lambda train, strength: seen.append(train.correct) or fit(train, strength))
    results.rows(replace(SETTING, size=50))
    variant = ablations._variants(results.answers["deep"], results.seed, [50])["probe_n50"]
    assert seen[0].tolist() == variant.loc[variant["split"] == "train", "correct"].tolist() and len(seen[0]) == 50
    results.rows(replace(SETTING, size=10_000))
    assert len(seen[1]) == 240


def test_tasks_that_are_left_out_are_neither_trained_on_nor_tested(results):
    rows = results.rows(replace(SETTING, tasks=("sciq", "nq_open")))
    assert set(rows["task"]) == {"sciq", "nq_open"}
    with pytest.raises(WhoknowsError, match="role train, so there is nothing to learn"):
        results.rows(replace(SETTING, tasks=("nq_open",)))


def test_before_the_answer_there_is_one_hidden_state_for_all_scored_models(results):
    rows = results.rows(replace(SETTING, position=QUESTION))
    deep, flat = (
        rows[(rows["scored"] == scored) & (rows["split"] == "test")].set_index("question_id")["logit"]
        for scored in LAYERS
    )
    assert (deep == flat).all() and deep.nunique() > 100
    usual = results.rows(SETTING)
    assert (
        scores.by_task(rows, only_auroc=True)["auroc"].max() < scores.by_task(usual, only_auroc=True)["auroc"].min()
    ), "there only noise was planted"
    for setting, says in (
        (replace(SETTING, position=QUESTION), "A probe of another position, Question's end, is on the page"),
        (replace(SETTING, position=MEAN, trained_on="flat"), "no probe of another position, Mean over the answer"),
        (replace(SETTING, position=QUERY), "This grid has no probe of another position"),
    ):
        assert says in explore.as_grid(results, setting, "mine")


def test_the_positions_are_those_that_the_run_kept_and_one_without_training_answers_is_a_sentence(results, checkout):
    assert Panel(results).choices["position"].options == (
        ("Question's end", QUESTION),
        ("Answer's first token", FIRST),
        ("Mean over the answer", MEAN),
        ("Answer's last token", LAST),
    )
    values = files.read_yaml(checkout / "grids/made-up.yml")
    values["lora_prompt"] |= {"first_layer": 0.5}
    files.write_text(checkout / "grids/upper.yml", yaml.safe_dump(values))
    assert Results("grids/upper.yml").positions == [QUESTION, FIRST, MEAN, LAST, QUERY]
    for scored in LAYERS:  # no query follows an answer, as where the blocks below the adapters cannot be cached
        states = torch.full(results._states("deep", LAST)[scored].shape, torch.nan)
        save_hidden(str(checkout / "results/made-up/features/deep"), scored, states, QUERY)
    with pytest.raises(WhoknowsError, match="deep did not read the query after the training answers"):
        results.rows(replace(SETTING, position=QUERY))


def test_numbers_put_validation_beside_test(results):
    table = explore.numbers(results, replace(SETTING, scored="flat"))
    assert list(table) == ["Validation, deep", "Test, flat"]
    assert list(table.index) == ["in-distribution", "trivia_qa", "sciq", "shift"]
    assert table.loc["shift", "Validation, deep"] == "—"
    rows = results.rows(SETTING)
    group = rows[(rows["scored"] == "flat") & (rows["split"] == "test") & (rows["task"] != "nq_open")]
    value = auroc.mean_auroc(group["logit"], group["correct"], group["task"])
    assert table.loc["in-distribution", "Test, flat"] == f"{value:.3f} ({group['correct'].sum()} right of 80)"


def test_test_answers_have_no_say_in_the_fit_nor_in_validation(results):
    before, logits = explore.numbers(results, SETTING), results.rows(SETTING)["logit"]
    turned = Results("grids/made-up.yml")
    turned.answers = {
        name: frame.assign(correct=frame["correct"] ^ (frame["split"] == "test"))
        for name, frame in turned.answers.items()
    }
    after = explore.numbers(turned, SETTING)
    assert (turned.rows(SETTING)["logit"] == logits).all()
    assert before["Validation, deep"].tolist() == after["Validation, deep"].tolist()
    assert before.loc["in-distribution", "Test, deep"] != after.loc["in-distribution", "Test, deep"]


def test_both_readings_show_each_cell_once(results):
    table = explore.places(results, SETTING)
    assert len(table) == 8 and set(table["reading"]) == {"A", "B"}
    a, b = (table[table["reading"] == reading] for reading in "AB")
    assert (a["reader"] == a["trained_on"]).all() and (b["reader"] == b["scored"]).all()
    assert table["auroc"].between(0.6, 1.0).all()
    value = float(explore.numbers(results, replace(SETTING, scored="flat")).loc["in-distribution", "Test, flat"][:5])
    assert a.set_index(["model", "trained_on"])["auroc"]["flat", "deep"] == pytest.approx(value, abs=6e-4)


def test_a_layer_that_a_reader_lacks_is_said_in_its_cells(results):
    table = explore.places(results, replace(SETTING, layer=3)).set_index(["reading", "reader"])
    assert table.loc[("A", "deep"), "auroc"].notna().all() and table.loc[("A", "flat"), "auroc"].isna().all()
    assert set(table.loc[("B", "flat"), "reason"]) == {
        "flat has the layers 0 to 2, but 3 is asked for; choose one that it has."
    }
    chart = explore.heatmaps(table.reset_index(), results.models).to_dict()
    values = [line for line in next(iter(chart["datasets"].values())) if line["reader"] == "flat"]
    assert {line["value"] for line in values} == {"—"}


def test_who_does_not_read_is_scored_and_trained_on_with_the_answers_that_it_gave(results, checkout):
    whole, kept = results.answers["flat"], [at for at in results.answers["flat"].index if at % 5]
    values = files.read_yaml(checkout / "grids/made-up.yml") | {"name": "filed"}
    values["models"][1] = {"name": "flat", "answers": "flat.csv"}
    files.write_text(checkout / "grids/filed.yml", yaml.safe_dump(values))
    for name, frame in (("deep", results.answers["deep"]), ("flat", whole.iloc[kept])):
        files.write_parquet(checkout / f"results/filed/answers/{name}.parquet", frame)
    for position in (LAST, QUESTION, FIRST):
        for scored, rows in (("flat", kept), ("deep", slice(None))):  # the last one writes all questions
            hidden = results._states("deep", position)[scored][rows].clone()
            save_hidden(str(checkout / "results/filed/features/deep"), scored, hidden, position)
    filed = Results("grids/filed.yml")
    assert filed.models == ["deep", "flat"] and filed.readers == ["deep"]
    for position in (LAST, QUESTION, FIRST):
        setting = replace(SETTING, position=position)
        some, every = filed.rows(setting), results.rows(setting)
        every = every[(every["scored"] == "deep") | every["question_id"].isin(whole["question_id"].iloc[kept])]
        pd.testing.assert_frame_equal(some, every.reset_index(drop=True), atol=1e-3)
    assert set(filed.rows(replace(SETTING, trained_on="flat"))["scored"]) == {"deep", "flat"}
    table = explore.places(filed, SETTING)
    assert set(table["reader"]) == {"deep"} and len(table) == 4 and table["auroc"].notna().all()
    assert explore.heatmaps(table, filed.models).to_dict()
    panel = Panel(filed)
    assert panel.choices["reader"].options == ("deep",) and panel.choices["trained_on"].options == ("deep", "flat")
    made = yaml.safe_load(explore.as_grid(filed, SETTING, "mine"))
    assert made["models"][1] == {"name": "flat", "answers": "flat.csv"}, "its layers would be a mistake"


def test_a_grid_keeps_the_judge_where_it_grades(results, monkeypatch):
    values = files.read_yaml(results.grid_file) | {"judge": {"url": "http://localhost/v1", "model": "wise"}}
    task = {"name": "essays", "file": "a.csv", "role": "train", "grading": "judge"}
    for tasks, kept in ((values["tasks"], None), ([*values["tasks"], task], values["judge"])):
        monkeypatch.setattr(files, "read_yaml", lambda path, tasks=tasks: values | {"tasks": tasks})
        names = tuple(one["name"] for one in tasks)
        assert yaml.safe_load(explore.as_grid(results, replace(SETTING, tasks=names), "mine"))["judge"] == kept


def test_curves_are_of_the_scored_model_alone(results):
    chart = explore.curves(results, replace(SETTING, scored="flat")).to_dict()
    drawn = pd.DataFrame(chart["datasets"][chart["data"]["name"]])
    assert set(drawn["scored"]) == {"flat"} and {"roc", "reliability"} <= set(drawn["curve"])
    assert "after Platt scaling" in set(drawn["series"])


def test_a_grid_repeats_the_setting(results, tmp_path):
    setting = replace(SETTING, size=100, tasks=("sciq", "nq_open"))
    path = explore.save(results, setting, "mine")
    assert path == Path("grids/mine.yml")
    made = grid.load(path)
    assert made.name == "mine" and [model.name for model in made.models] == list(LAYERS)
    assert made.probe.layers == (2,) and made.probe.strengths == (0.1,) and made.controls.sizes == (100,)
    assert [task.name for task in made.tasks] == ["sciq", "nq_open"] and made.methods == ("probe",)
    changed = {key: getattr(made, key) for key in ("name", "tasks", "methods", "probe", "controls")}
    assert made == replace(results.grid, **changed)
    with pytest.raises(WhoknowsError, match="mine.yml is there already"):
        explore.save(results, setting, "mine")
    path.unlink()
    Path("results/mine").mkdir()
    with pytest.raises(WhoknowsError, match="results/mine is there already"):
        explore.save(results, setting, "mine")
    Path("results/mine").rmdir()


def test_what_the_grid_says_runs_to_the_same_validation_value(results, tmp_path):
    files.write_text(tmp_path / "again.yml", explore.as_grid(results, SETTING, "again"))
    again = grid.load(tmp_path / "again.yml")
    settings = again.probe
    rows, search = probe.run(
        "deep",
        "deep",
        again.seeds[0],
        results.answers,
        "results/made-up/features/deep",
        settings.layers,
        list(settings.strengths),
        MLP,
        str(tmp_path),
        source="tiny-llama",
        precision="float32",
    )
    assert (
        explore.numbers(results, SETTING)
        .loc["in-distribution", "Validation, deep"]
        .startswith(f"{search['validation_auroc'].iloc[0]:.3f}")
    )


def test_in_a_grid_of_a_layer_that_a_model_lacks_it_chooses_among_its_own(results, tmp_path):
    files.write_text(tmp_path / "deeper.yml", explore.as_grid(results, replace(SETTING, layer=3), "deeper"))
    made = grid.load(tmp_path / "deeper.yml")
    layers = {reader: json.loads(parameters.probe(made, reader, "deep", "0"))["layers"] for reader in LAYERS}
    assert layers == {"deep": [3], "flat": "all"}
    assert (
        "# Readers without a layer 3 choose among all of theirs on validation: flat.\n"
        in (tmp_path / "deeper.yml").read_text()
    )


def test_a_grid_that_cannot_be_is_refused(results):
    before = sorted(Path("grids").rglob("*"))
    with pytest.raises(WhoknowsError, match="`name` should be letters, digits, dots and hyphens"):
        explore.save(results, SETTING, "a/b")
    assert sorted(Path("grids").rglob("*")) == before


@pytest.fixture
def panel(results):
    return Panel(results)


def drawn(panel):
    """The charts that the panel shows, as Vega-Lite."""
    return [output["data"][CHART] for output in panel.charts.outputs]


def test_it_opens_on_the_setting_that_the_run_published_and_goes_back_to_it(results):
    card = Path("results/made-up/estimators/probe/deep/deep/seed0/probe.json")
    files.write_text(card, json.dumps({"chosen": {"layer": 2, "strength": 0.02}}))
    try:
        panel = Panel(results)
        published = replace(SETTING, strength=0.02)
        assert panel.setting == published and panel.numbers.value == explore.numbers(results, published).to_html(
            border=0
        )
        for name, value in {"position": QUESTION, "layer": 0, "strength": 1.0, "size": 50, "tasks": ("sciq",)}.items():
            panel.choices[name].value = value
        panel.back.click()
        assert panel.setting == published and panel.numbers.value == explore.numbers(results, published).to_html(
            border=0
        )
        panel.choices["reader"].value = "flat"
        before = panel.setting
        panel.back.click()
        assert panel.setting == before and panel.message.value == "The run has no probe of its own for these models."
        panel.choices["reader"].value = "deep"
        assert panel.message.value == "", "for these models it has one"
    finally:
        shutil.rmtree("results/made-up/estimators")


def test_moving_a_widget_redraws(panel):
    before, charts = panel.numbers.value, drawn(panel)
    assert len(charts) == 2 and "Validation, deep" in before
    for name, value in {
        "position": QUESTION,
        "layer": 2,
        "strength": 1.0,
        "size": 50,
        "tasks": ("sciq", "nq_open"),
        "trained_on": "flat",
        "scored": "flat",
    }.items():
        panel.choices[name].value = value
        assert getattr(panel.setting, name) == value
        assert panel.numbers.value == explore.numbers(panel.results, panel.setting).to_html(border=0) != before
        assert drawn(panel)[1] != charts[1]
        before, charts = panel.numbers.value, drawn(panel)


def test_the_charts_are_such_as_jupyterlab_draws_by_itself(panel):
    panel.choices["layer"].value = 3  # which one of the readers lacks
    for chart in drawn(panel):
        assert vl_convert.vegalite_to_vega(chart, vl_version="5.20")["marks"]


def test_a_reader_with_fewer_layers_moves_the_layer(panel):
    panel.choices["layer"].value = 3
    panel.choices["reader"].value = "flat"
    assert panel.setting.layer == panel.choices["layer"].max == 2
    assert panel.numbers.value == explore.numbers(panel.results, panel.setting).to_html(border=0)
    panel.choices["layer"].value = 1
    panel.choices["reader"].value = "deep"
    assert panel.choices["layer"].max == 3 and panel.numbers.value == explore.numbers(
        panel.results, panel.setting
    ).to_html(border=0)


def test_a_mistake_is_a_sentence_and_the_next_move_mends_it(panel):
    panel.choices["tasks"].value = ("nq_open",)
    assert "nothing to learn" in panel.numbers.value and panel.charts.outputs == ()
    panel.choices["tasks"].value = ("sciq",)
    assert "Validation, deep" in panel.numbers.value and len(drawn(panel)) == 2


def test_without_test_answers_of_the_scored_model_there_are_no_curves(results):
    gone = (results.answers["flat"]["task"] == "trivia_qa") & (results.answers["flat"]["split"] == "test")
    results.answers["flat"] = results.answers["flat"].assign(split=results.answers["flat"]["split"].mask(gone, ""))
    panel = Panel(results)
    panel.choices["scored"].value = "flat"
    before = drawn(panel)
    panel.choices["tasks"].value = ("trivia_qa",)
    assert len(before) == 2 and len(drawn(panel)) == 1 and drawn(panel)[0] != before[0]


def test_the_button_saves_a_grid_and_says_what_came_of_it(panel):
    panel.name.value = "pressed"
    panel.button.click()
    assert "make book GRID=grids/pressed.yml" in panel.message.value
    assert grid.load("grids/pressed.yml").probe.layers == (panel.setting.layer,)
    panel.button.click()
    assert "is there already" in panel.message.value
    Path("grids/pressed.yml").unlink()


def test_a_grid_that_was_not_run(checkout, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        WhoknowsError, match="results/made-up/answers/deep.parquet: there is no such file; run `make book`"
    ):
        Results(str(checkout / "grids/made-up.yml"))


@pytest.mark.parametrize("start", [".", "notebooks"])
def test_the_notebook_runs_from_the_root_and_from_its_folder(checkout, tmp_path, start):
    source = notebook._read(ROOT / "notebooks/explore.py")
    assert page.parameters(source) == {"grid": "grids/embedded.yml"}
    notebook._set_environment("explore")
    executed = papermill.execute_notebook(
        source,
        str(tmp_path / "out.ipynb"),
        {"grid": "grids/made-up.yml"},
        cwd=checkout / start,
        kernel_name="python3",
        progress_bar=False,
    )
    nbformat.validate(executed)
    state = executed.metadata.widgets["application/vnd.jupyter.widget-state+json"].state.values()
    shown = [output for widget in state for output in widget["state"].get("outputs", [])]
    assert [list(output["data"]) for output in shown] == [[CHART, "text/plain"]] * 2


def test_the_defaults_are_of_the_grid_that_make_book_runs():
    source = notebook._read(ROOT / "notebooks/explore.py")
    assert f"GRID ?= {page.parameters(source)['grid']}\n" in (ROOT / "Makefile").read_text()
    assert parameters.out(grid.load(ROOT / page.parameters(source)["grid"])) == "results/embedded"
