"""Metrics of resamples: those of the answers written out, with intervals of the right coverage, which ECE's lack."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from made_up import make_rows
from whoknows.evaluation import bootstrap, cells, metrics, scores
from whoknows.report.pages import cell, heatmaps

MEASURED = {name: scores.MEASURES[name].of for name in metrics.RESAMPLED} | {
    "threshold_accuracy": lambda logit, correct: metrics.threshold_accuracy(logit, correct, 0.3)
}


def calibrated(seed, count):
    """Log-odds, and grades of which as large a share is right as they say."""
    rng = np.random.default_rng(seed)
    logit = 1.5 * rng.normal(size=count)
    return logit, rng.random(count) < expit(logit)


@pytest.mark.parametrize("digits", [6, 0], ids=["all different", "many equal"])
def test_a_resample_has_the_metrics_of_its_answers_written_out(digits):
    logit, correct = calibrated(0, 60)
    logit = logit.round(digits)
    weights = bootstrap.draws("sciq", 60, times=20).T
    resampled = metrics.resampled(logit, correct, weights, 0.3)
    for at, drawn in enumerate(weights.T):
        each = np.repeat(np.arange(60), drawn.astype(int))
        assert {name: values[at] for name, values in resampled.items()} == pytest.approx(
            {name: metric(logit[each], correct[each]) for name, metric in MEASURED.items()}, abs=1e-6
        )


def test_what_cannot_be_measured_is_missing():
    weights = np.array([[1, 0, 2], [1, 2, 0]], np.float32)  # both answers, the wrong one twice, the right one twice
    resampled = metrics.resampled(np.array([np.inf, np.inf]), np.array([True, False]), weights, np.nan)
    assert np.isnan(resampled["log_loss"]).all(), "an infinite loss has no interval"
    assert np.isnan(resampled["threshold_accuracy"]).all() and all(
        np.isnan(values[1:]).all() for values in resampled.values()
    )
    assert resampled["brier"][0] == 0.5 and resampled["aurc"][0] == 0.5 and resampled["prr"][0] == 0


def test_intervals_hold_the_truth_but_that_of_ece_would_not():
    truth = {name: metric(*calibrated(0, 200_000)) for name, metric in MEASURED.items()}
    held, ece = dict.fromkeys(truth, 0), 0
    for seed in range(1, 201):
        logit, correct = calibrated(seed, 150)
        weights = bootstrap.draws(f"task{seed}", 150, times=200).T
        for name, values in metrics.resampled(logit, correct, weights, 0.3).items():
            low, high = np.quantile(values, [0.025, 0.975])
            held[name] += low <= truth[name] <= high
        ece += (
            min(
                metrics.ece(logit[each], correct[each])
                for each in (np.repeat(np.arange(150), drawn.astype(int)) for drawn in weights.T[:20])
            )
            < 0.01
        )
    assert all(0.88 <= count / 200 <= 0.99 for count in held.values()), held
    assert ece < 0.05 * 200, "the truth, zero, lies below all resamples"


def test_cells_have_an_interval_of_each_metric_but_ece_and_the_heatmap_shows_it():
    rng, parts = np.random.default_rng(0), []
    for at, task in enumerate(("trivia_qa", "sciq")):
        correct = np.arange(120) % 2 == 0
        logit = rng.normal(size=120) + correct + at
        parts += [
            make_rows(logit, correct, task),
            make_rows(rng.normal(size=60), correct[:60], task, split="validation", scored="a").assign(
                question_id=[f"v{i}" for i in range(60)]
            ),
        ]
    rows, tasks = pd.concat(parts), [{"name": "trivia_qa", "role": "train"}, {"name": "sciq", "role": "train"}]
    measured = cells.measure(rows, scores.by_task(rows), tasks)
    assert [name.removeprefix("low_") for name in measured if name.startswith("low_")] == list(cells.INTERVALS)
    for line in measured.itertuples():
        for name in cells.INTERVALS:
            low, value, high = (getattr(line, column) for column in (f"low_{name}", name, f"high_{name}"))
            assert low < value < high and 0.01 < high - low < 0.6, (line.test_set, name)
    alone = measured[measured["test_set"] == "sciq"].iloc[0]
    assert (alone["low_pooled_auroc"], alone["high_pooled_auroc"]) == (alone["low"], alone["high"])
    mean = bootstrap.by_cell(bootstrap.metric_samples(rows, scores.fit_all(rows))["brier"], ["trivia_qa", "sciq"])
    both = measured[measured["test_set"] == "in-distribution"].iloc[0]
    assert np.quantile(mean.to_numpy()[0], [0.025, 0.975]) == pytest.approx([both["low_brier"], both["high_brier"]])
    table = cells.heatmap_table(measured, ["a", "b"], tasks)
    shown = heatmaps.with_labels(table[table["auroc"].notna()], 2)
    assert (
        shown["interval_brier"].tolist()
        == [f"{low:.2f} – {high:.2f}" for low, high in zip(shown["low_brier"], shown["high_brier"])]
        and "interval_ece" not in shown
    )
    html = cell.cell_html(measured)
    assert (
        html.count("<small>") == len(measured) * (len(metrics.RESAMPLED) + 1) + len(measured)
        and f"{both['brier']:.3f}<br/><small>{both['low_brier']:.3f} – {both['high_brier']:.3f}</small>" in html
    )


def test_a_heatmap_of_another_metric_shows_its_interval_and_says_if_there_is_none():
    import vl_convert

    table = pd.DataFrame(
        {
            "method": "probe",
            "reader": "a",
            "trained_on": "a",
            "scored": "a",
            "model": "a",
            "reading": "A",
            "test_set": "in-distribution",
            "auroc": [0.8],
            "low": 0.7,
            "high": 0.9,
        }
    )
    table = table.assign(
        brier=0.2,
        low_brier=0.15,
        high_brier=0.25,
        ece=0.1,
        aurc=np.nan,
        n=90,
        n_right=30,
        n_tasks=1,
        of_tasks=1,
        seeds=1,
        lowest_seed=0.8,
        highest_seed=0.8,
        reason="",
    )
    spec = heatmaps.heatmaps_chart(table, ["a"], "x").to_dict()
    (metric,) = [param for param in spec["params"] if param["name"] == "metric"]
    assert metric["bind"]["options"] == ["auroc", "brier", "ece"], "of what nobody measured there is no heatmap"
    for name, title, interval in (
        ("auroc", "AUROC · ", "0.70 – 0.90"),
        ("brier", "Brier score, less is better · ", "0.15 – 0.25"),
        ("ece", "ECE, less is better, without intervals · ", ""),
    ):
        metric["value"] = name
        svg = vl_convert.vegalite_to_svg(spec)
        assert f">{title}" in svg and (f">{interval}</text>" in svg if interval else " – 0" not in svg)
        assert (f"95 % interval: {interval}" in svg) if interval else "95 % interval" not in svg
