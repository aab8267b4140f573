"""What beats what, and what is missing when something is taken away."""

import json

import pandas as pd
import pytest
from made_up import graded

from whoknows import bootstrap, cell_tables, contest, findings, plots

TASKS = [{"name": "trivia_qa", "role": "train"}, {"name": "sciq", "role": "train"}, {"name": "nq_open", "role": "shift"}]


def test_the_contest_is_among_native_cells_and_against_the_probe():
    untrained = graded({"likelihood": 2.5}, reader="", trained_on="")
    control = graded({"embedder": 0.1}, reader="")
    foreign = graded({"lora_prompt": 3.0}, trained_on="b")
    table = contest.contest(pd.concat([graded({"probe": 1.0, "probe_mlp": 1.0}), untrained, control, foreign]), TASKS)
    found = table.set_index("method")
    assert set(found.index) == {"probe", "probe_mlp", "likelihood", "embedder"} and set(table["test_set"]) == {"in-distribution"}
    assert pd.isna(found.loc["probe", "against"])
    assert found["against"].drop("probe").to_dict() == {"probe_mlp": bootstrap.INSIGNIFICANT, "likelihood": bootstrap.ABOVE, "embedder": bootstrap.BELOW}
    line = found.loc["likelihood"]
    assert line["difference"] == pytest.approx(line["auroc"] - found.loc["probe", "auroc"])
    assert line["difference_low"] < line["difference"] < line["difference_high"]
    assert found.loc["probe_mlp", ["difference", "difference_low", "difference_high"]].tolist() == [0, 0, 0]


def test_a_contest_without_a_probe_has_values_and_no_differences():
    table = contest.contest(graded({"lora_prompt": 1.0}), TASKS)
    assert table["auroc"].notna().all() and table["difference"].isna().all()
    assert findings.contest_findings(table) == "There is no probe to compare with yet."


def test_few_right_answers_get_no_verdict():
    table = contest.contest(graded({"probe": 0.0, "probe_mlp": 9.0}, count=48), TASKS).set_index("method")
    assert table.loc["probe_mlp", ["n_rarer", "against"]].tolist() == [24, bootstrap.FEW] and table.loc["probe_mlp", "difference_low"] > 0
    assert "With too few right or wrong answers to tell: Probe (MLP)" in findings.contest_findings(table.reset_index())


def test_the_findings_and_the_table_of_a_contest_say_what_it_found():
    table = contest.contest(pd.concat([graded({"probe": 1.0}), graded({"likelihood": 2.5}, reader="", trained_on="")]), TASKS)
    auroc, difference = table.set_index("method")["auroc"], table.set_index("method")["difference"]["likelihood"]
    said = findings.contest_findings(table)
    assert f"the probe has {auroc['probe']:.2f}" in said and f"Above it: Answer likelihood ({difference:+.2f})." in said
    html = cell_tables.contest(table)
    assert f"{auroc['likelihood']:.3f}" in html and "200 right of 800" in html
    drawn = plots.contest(table).to_dict()
    values = [line for lines in drawn["datasets"].values() for line in lines]
    assert {line["auroc"] for line in values} == {round(value, 4) for value in auroc}


def test_the_learning_curve_is_in_the_order_of_sizes():
    rows = graded({"probe_n100": 0.5, "probe_n1000": 1.0, "probe_n20": 0.1, "probe": 1.2, "probe_last": 3.0})
    table = contest.learning_curve(rows, TASKS).set_index("size")["auroc"]
    assert set(table.index) == {"20", "100", "1000", "all"}
    assert table["20"] < table["100"] < table["1000"] < table["all"]
    html = cell_tables.learning_curve(contest.learning_curve(rows, TASKS))
    assert html.index(">20<") < html.index(">100<") < html.index(">1000<") < html.index(">all<")


def test_layers_are_those_of_the_probes_that_judge_their_own(tmp_path):
    for seed, best in ((0, 2), (1, 0)):
        folder = tmp_path / "probe" / "a" / "a" / f"seed{seed}"
        folder.mkdir(parents=True)
        search = [{"layer": layer, "strength": s, "validation_auroc": 0.5 + (layer == best) * 0.2 - s / 100} for layer in range(3) for s in (0.0, 1.0)]
        (folder / "probe.json").write_text(json.dumps({"chosen": {"layer": best}, "search": search}))
    table = contest.layers(tmp_path, ["a", "b"], [0, 1])
    assert table["validation_auroc"].tolist() == pytest.approx([0.6, 0.5, 0.6])
    assert table["chosen"].tolist() == [True, False, True] and table["depth"].tolist() == [0, 0.5, 1]
    assert plots.layers(table).to_dict() and contest.layers(tmp_path / "nothing", ["a"], [0]).empty
