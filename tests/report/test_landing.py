"""The first page says what the tests allow, names what it rests on, and shows answers that nobody chose."""

import base64
import hashlib
import itertools
import json
import re
from html.parser import HTMLParser

import altair as alt
import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from pybtex.database import parse_string

from made_up import make_rows
from whoknows.data import files
from whoknows.data.files import ROOT
from whoknows.data.methods import METHODS
from whoknows.evaluation import bootstrap, cells, plateau, scores
from whoknows.evaluation.bootstrap import ABOVE, BELOW, EXPLORATORY, FEW, INSIGNIFICANT
from whoknows.evaluation.plateau import IMPROVING, RELEASED
from whoknows.report import chapters, citation
from whoknows.report.pages import claims, gains, landing

TASKS = [{"name": name, "role": role} for name, role in (("cities", "train"), ("sciq", "train"), ("capitals", "shift"))]
MODELS = ["a", "b"]
EVIL = "<script>window.hit = 1</script>\n\n**bold** \"quoted\" <img src=x onerror='window.hit = 2'>"


class Seen(HTMLParser):
    """Tags, their attributes and the text of a piece of HTML, as a browser would take it apart."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def run_of(strength, split="test", count=80, **more):
    """Rows of two models: confidence is noise and the strength of the cell times the grade; the noise is the cell's."""
    parts = []
    for (cell, strong), task in itertools.product(strength.items(), ("cities", "sciq")):
        method, reader, trained_on, scored = cell
        seed = int(hashlib.sha256(repr((cell, task, split)).encode()).hexdigest()[:8], 16)
        right = np.arange(count) % (3 if scored == "a" else 4) == 0
        logit = np.random.default_rng(seed).normal(size=count) + strong * right
        names = {"method": method, "reader": reader, "trained_on": trained_on, "scored": scored, "split": split}
        rows = make_rows(logit, right, task, **names)
        parts.append(rows.assign(question_id=rows["question_id"] + split, unsettled="", **more))
    return pd.concat(parts, ignore_index=True)


def of_all(probe, lora, likelihood):
    """Strengths of all cells of reading A; those of a method as (self-trained, cross-trained)."""
    both = {("probe", r, r, s): probe[r != s] for r in MODELS for s in MODELS}
    both |= {("lora_prompt", r, r, s): lora[r != s] for r in MODELS for s in MODELS}
    return both | {("likelihood", "", "", s): likelihood for s in MODELS}


def compared(rows, baseline="likelihood", readers=MODELS):
    by_task, samples = scores.by_task(rows, only_auroc=True), bootstrap.samples(rows)
    measured = cells.measure(rows, by_task, TASKS, samples)
    primary = claims.corrected(rows, measured, samples, readers, TASKS)
    paired = gains.paired(rows, TASKS, MODELS, readers, baseline)
    return landing.comparisons(rows, measured, samples, paired, primary, readers, TASKS), primary


def auroc_of(rows, cell):
    """The mean over tasks of the share of pairs of a right and a wrong answer in order, by a loop."""
    means, chosen = [], rows[(rows[scores.CELL] == [*cell]).all(axis=1)]
    for _, part in chosen.groupby("task"):
        right, wrong = part.loc[part["correct"], "logit"], part.loc[~part["correct"], "logit"]
        means.append(np.mean([(one > other) + 0.5 * (one == other) for one in right for other in wrong]))
    return np.mean(means)


def test_the_answer_rests_on_two_families_of_tests():
    rows = run_of(of_all((2.2, 0.6), (1.9, 0.5), 1.0))
    table, primary = compared(rows)
    assert table["kind"].tolist() == [landing.TRAINING, landing.TRAINING, landing.METHOD, landing.SELF]
    assert table["method"].tolist() == ["probe", "lora_prompt", "", ""] and table["count"].tolist() == [2, 2, 4, 4]
    value = {cell: auroc_of(rows, cell) for cell in of_all((0, 0), (0, 0), 0)}
    own = {method: np.mean([value[method, m, m, m] for m in MODELS]) for method in ("probe", "lora_prompt")}
    plain = np.mean([value["likelihood", "", "", m] for m in MODELS])
    crossed = {m: np.mean([value[m, "a", "a", "b"], value[m, "b", "b", "a"]]) for m in own}
    expected = [own["probe"] - plain, own["lora_prompt"] - plain]
    expected += [np.mean([own["probe"], crossed["probe"]]) - np.mean([own["lora_prompt"], crossed["lora_prompt"]])]
    expected += [np.mean([*own.values()]) - np.mean([*crossed.values()])]
    assert np.allclose(table["estimate"], expected)
    low, high = sorted(table["p"].iloc[:2])
    holm = sorted(table["p_holm"].iloc[:2])
    assert holm == pytest.approx([min(1, 2 * low), max(2 * low, high)]), "the two are corrected for each other alone"
    assert table["p_holm"].iloc[2:].tolist() == [primary[name] for name in table["hypothesis"].iloc[2:]]
    assert table["says"].iloc[3] == ABOVE and set(table["says"].iloc[:2]) <= {ABOVE, INSIGNIFICANT}


def test_each_difference_that_a_mean_is_over_has_its_own_verdict():
    weak = {(m, "b", "b", "a"): 2.6 for m in ("probe", "lora_prompt")}  # who reads another's answers best
    home, far = (run_of(of_all((2.4, 0.2), (2.4, strong), 1.0) | weak, count=160) for strong in (0.2, 9.0))
    far = far[far["task"] == "sciq"].assign(task="capitals", question_id="x" + far["question_id"])
    rows = pd.concat([home, far], ignore_index=True)
    table, primary = compared(rows)
    value = {cell: auroc_of(home, cell) for cell in of_all((0, 0), (0, 0), 0)}
    expected = {landing.METHOD: [], landing.SELF: []}
    for reader, scored in itertools.product(MODELS, MODELS):
        cells_of = [(method, reader, reader, scored) for method in ("probe", "lora_prompt")]
        expected[landing.METHOD].append(cells_of)
        other = "ab".replace(scored, "")
        expected[landing.SELF] += [[cell, (cell[0], other, other, scored)] for cell in cells_of if reader == scored]
    for kind, pairs in expected.items():
        says = []
        for one, less in pairs:
            p = primary[bootstrap.hypothesis({one: 1.0, less: -1.0})]
            says.append(INSIGNIFICANT if p >= 0.05 else ABOVE if value[one] > value[less] else BELOW)
        line = table[table["kind"] == kind].iloc[0]
        assert sorted(line["alone"]) == sorted(says) and line["count"] == 4
    assert sorted(says) == [ABOVE, ABOVE, INSIGNIFICANT, INSIGNIFICANT], "and on the shift questions they differ more"
    assert table.loc[table["kind"].isin([landing.TRAINING, landing.SHIFT]), "alone"].tolist() == [()] * 4


@pytest.mark.parametrize(
    "says, why", [(IMPROVING, "a cell was still improving ↗"), (RELEASED, "a cell is with a released adapter")]
)
def test_a_cell_whose_plateau_is_not_known_carries_no_part_of_the_answer(says, why):
    rows = run_of(of_all((2.2, 0.6), (1.9, 0.5), 1.0))
    late = (rows["method"] == "lora_prompt") & (rows["reader"] == "b")
    table, _ = compared(rows.assign(unsettled=np.where(late, says, "")))
    assert table["says"].iloc[1:].tolist() == [says] * 3 and table["says"].iloc[0] != says
    text = landing.answer(table, "likelihood")
    assert "How the two methods compare is inconclusive. How self- and cross-trained estimators" in text
    assert ". LoRA + Prompt is inconclusive. " in text and f"no verdict, {why}" in text


def test_what_is_missing_is_compared_with_nothing():
    whole = run_of(of_all((2.0, 0.6), (1.9, 0.5), 1.0))
    without = whole[(whole["method"] != "lora_prompt") | (whole["reader"] != "b")]
    table, _ = compared(without)
    assert table["kind"].tolist() == [landing.TRAINING] * 2 and table["count"].tolist() == [2, 1]
    seen = Seen(landing.answer(table, "likelihood")).text
    assert "mean over 1 to 2 models, each on its own answers: Probe, over 2, +0." in seen, "not the same models"
    assert "; LoRA + Prompt, over 1, +0." in seen and " Left out, since a value is missing: LoRA + Prompt of b." in seen
    alone = compared(whole[(whole["method"] != "likelihood") | (whole["scored"] == "a")])[0]
    seen = Seen(landing.answer(alone, "likelihood")).text
    assert " Left out, since a value is missing: Probe of b; LoRA + Prompt of b." in seen
    none = compared(whole[whole["method"] != "likelihood"])[0]
    assert "Whether training helps over answer likelihood" in landing.answer(none, "likelihood")
    assert landing.answer(compared(whole[whole["method"] == "likelihood"])[0], "likelihood") == (
        '<p class="answer">No difference could be tested.</p>'
    )
    lead = landing.answer(table.iloc[:0], "likelihood", "Yes, better than chance.")
    assert lead == '<p class="answer">Yes, better than chance. No difference could be tested.</p>'


def test_training_is_compared_with_the_baseline_on_the_answers_that_both_have_scored():
    whole = run_of(of_all((2.0, 0.6), (1.9, 0.5), 1.0))
    likelihood = whole.index[(whole["method"] == "likelihood") & (whole["scored"] == "b")]
    fewer, _ = compared(whole.drop(likelihood[:3]))
    assert fewer["count"].tolist()[:2] == [2, 2] and "Left out" not in landing.answer(fewer, "likelihood")
    shared = whole[(whole["scored"] == "a") | ~whole["question_id"].isin(whole.loc[likelihood[:3], "question_id"])]
    own = [("likelihood", "", "", m) for m in MODELS]
    plain = np.mean([auroc_of(shared, cell) for cell in own])
    probe = np.mean([auroc_of(shared, ("probe", m, m, m)) for m in MODELS])
    assert fewer["estimate"].iloc[0] == pytest.approx(probe - plain)
    pd.testing.assert_frame_equal(fewer[2:], compared(whole)[0][2:])  # the heatmaps keep all answers


def test_one_model_has_its_method_compared_and_no_other_model():
    rows = run_of({cell: at for cell, at in of_all((2.0, 0), (0.2, 0), 1.0).items() if {*cell[1:]} <= {"a", ""}})
    table, _ = compared(rows, readers=["a"])
    assert table["kind"].tolist() == [landing.TRAINING] * 2 + [landing.METHOD]
    assert table["count"].tolist() == [1, 1, 1] and table["says"].iloc[2] == ABOVE


def test_the_best_that_needs_no_training_is_chosen_on_validation():
    weak, strong = ({("likelihood", "", "", m): one for m in MODELS} for one in (0.0, 3.0))
    asked = {("zero_shot", m, "", m): 1.0 for m in MODELS} | {("zero_shot", "a", "", "b"): 9.0}
    trained = {("probe", "a", "a", "a"): 9.0}
    rows = pd.concat([run_of(strong | asked | trained), run_of(weak | asked | trained, "validation")])
    assert landing.best_untrained(rows, MODELS, TASKS) == "zero_shot", "on test answers the likelihood is the best"
    assert landing.best_untrained(run_of(strong | asked), MODELS, TASKS) == "", "without validation answers"
    assert landing.best_untrained(run_of(trained), MODELS, TASKS) == ""
    others = {
        (method, "", at, m): value for m in MODELS for method, at, value in (("token_min", "", 2.0), ("lora", m, 9.0))
    }
    rows = pd.concat([rows, run_of(others, "validation")])
    assert landing.best_untrained(rows, MODELS, TASKS) == "token_min", "of the controls those that need no training"


def test_a_model_whose_validation_answers_cannot_tell_has_no_part_in_the_choice():
    strengths = {(m, r, "", s): at for s in MODELS for m, r, at in (("likelihood", "", 0.0), ("zero_shot", s, 1.0))}
    strengths |= {("token_min", "", "", "a"): 9.0}
    rows = run_of(strengths, "validation")
    of_b = rows["scored"] == "b"
    assert landing.best_untrained(rows, MODELS, TASKS) == "zero_shot", "token_min has no value of b"
    assert landing.best_untrained(rows[~of_b], MODELS, TASKS) == "token_min"
    alike = rows.assign(correct=rows["correct"] & ~of_b)
    assert landing.best_untrained(alike, MODELS, TASKS) == "token_min", "all answers of b are wrong"
    assert landing.best_untrained(alike[of_b], MODELS, TASKS) == "", "and none is said to be the best of them"


def table_of(probe, lora, method=INSIGNIFICANT, self=INSIGNIFICANT):
    kinds = [landing.TRAINING, landing.TRAINING, landing.METHOD, landing.SELF]
    lines = zip(kinds, ["probe", "lora_prompt", "", ""], [2, 2, 4, 4], [probe, lora, method, self])
    table = pd.DataFrame(lines, columns=["kind", "method", "count", "says"])
    numbers = {"estimate": 0.0125, "low": -0.02, "high": 0.045, "p": 0.01, "p_holm": 0.0304}
    alone = [(), (), (method, INSIGNIFICANT) * 2, (INSIGNIFICANT, self) * 2]
    return table.assign(test_set="in-distribution", without=[()] * 4, alone=alone, **numbers)


def mean_of(*alone, verdict=ABOVE):
    """What the answer and the bullet say of self-training, whose differences have these verdicts."""
    table = table_of(*[INSIGNIFICANT] * 3, self=verdict)
    table.at[3, "alone"] = alone
    text = landing.answer(table, "likelihood")
    return Seen(text.split("\n")[0]).text.split(". ")[-1], text.split("\n")[6]


def test_a_mean_says_over_how_many_differences_it_is_and_which_are_significant_alone():
    lead = "Self-trained estimators are better than cross-trained ones in the mean over 4 differences, "
    none = [INSIGNIFICANT] * 4
    for alone, sentence, bullet in [
        ([ABOVE] * 2 + none[:2], "2 of them significant alone.", "2 above zero."),
        ([ABOVE] + none[:3], "1 of them significant alone.", "1 above zero."),
        (none, "none of them significant alone.", "none."),
        (
            [ABOVE] * 2 + [BELOW, FEW],
            "2 of them significant alone, and 1 the other way.",
            "2 above zero and 1 below zero.",
        ),
        ([ABOVE] * 2 + [IMPROVING, FEW], "2 of them significant alone.", "2 above zero."),
    ]:
        said, line = mean_of(*alone)
        assert said == lead + sentence and len(said.split()) <= 25
        assert line.startswith(
            "- **Self-trained − cross-trained**, mean over 4 differences between cells of Figure 1, "
        )
        assert line.endswith(f"significant). Significant alone: {bullet}")
    said, line = mean_of(*[BELOW] * 3 + [ABOVE], verdict=BELOW)
    assert said.endswith("cross-trained ones in the mean over 4 differences, 3 of them significant alone, and 1 "
                         "the other way.") and " are worse than " in said  # fmt: skip
    assert mean_of(*[ABOVE, BELOW], verdict=INSIGNIFICANT)[0].endswith("do not differ significantly on average.")


def test_one_difference_is_no_mean():
    table = table_of(*[ABOVE] * 4)
    for at in (2, 3):
        table.at[at, "alone"] = (ABOVE,)
    text = landing.answer(table.assign(count=1), "likelihood")
    assert "The probe is better than LoRA + Prompt. Self-trained estimators are better than cross-trained ones." in text
    assert "mean" not in text and "alone:" not in text


PLAIN = "answer likelihood, the best training-free baseline"
SOME = "in the mean over 4 differences, 2 of them significant alone"


@pytest.mark.parametrize(
    "verdicts, sentence",
    [
        (
            (ABOVE, ABOVE, INSIGNIFICANT, ABOVE),
            f"Training helps: the probe and LoRA + Prompt are better than {PLAIN}. The two methods do not differ "
            f"significantly on average. Self-trained estimators are better than cross-trained ones {SOME}.",
        ),
        (
            (ABOVE, INSIGNIFICANT, ABOVE, BELOW),
            f"Training helps in part: only the probe is better than {PLAIN}. The probe is better than LoRA + Prompt "
            f"{SOME}. Self-trained estimators are worse than cross-trained ones {SOME}.",
        ),
        (
            (INSIGNIFICANT, INSIGNIFICANT, BELOW, INSIGNIFICANT),
            f"Training shows no significant gain over {PLAIN}. The probe is worse than LoRA + Prompt {SOME}. Self- "
            "and cross-trained estimators do not differ significantly on average.",
        ),
        (
            (BELOW, INSIGNIFICANT, INSIGNIFICANT, FEW),
            f"Training shows no significant gain: the probe is worse than {PLAIN}. The probe and LoRA + Prompt do not "
            "differ significantly on average. How self- and cross-trained estimators compare is inconclusive.",
        ),
        (
            (BELOW, BELOW, EXPLORATORY, IMPROVING),
            f"Training does not help: the probe and LoRA + Prompt are worse than {PLAIN}. How the two methods compare "
            "is inconclusive. How self- and cross-trained estimators compare is inconclusive.",
        ),
        (
            (IMPROVING, FEW, INSIGNIFICANT, INSIGNIFICANT),
            f"Whether training helps over {PLAIN}, is inconclusive. The probe and LoRA + Prompt do not differ "
            "significantly on average. Self- and cross-trained estimators do not differ significantly on average.",
        ),
        (
            (ABOVE, IMPROVING, IMPROVING, INSIGNIFICANT),
            f"Training helps: the probe is better than {PLAIN}. LoRA + Prompt is inconclusive. How the two methods "
            "compare is inconclusive. Self- and cross-trained estimators do not differ significantly on average.",
        ),
        (
            (FEW, INSIGNIFICANT, ABOVE, BELOW),
            f"LoRA + Prompt shows no significant gain over {PLAIN}. The probe is inconclusive. The probe is better "
            f"than LoRA + Prompt {SOME}. Self-trained estimators are worse than cross-trained ones {SOME}.",
        ),
    ],
)
def test_each_part_of_the_answer_is_as_strong_as_its_test(verdicts, sentence):
    text = landing.answer(table_of(*verdicts), "likelihood")
    assert Seen(text.split("\n")[0]).text == sentence
    rests, _, *seen = text.split("\n")[2:6]
    held_out = "held-out questions of the tasks that estimators were trained on"
    assert rests == f"This rests on differences of AUROC, on in-distribution test questions ({held_out}):"
    mean = "mean over 2 models, each on its own answers"
    assert seen[0].startswith(
        f"- **Trained − training-free**, against answer likelihood, {mean}: Probe +0.013 "
        "(95 % interval −0.020 to +0.045, p\u00a00.030, "
    ) or seen[0].startswith(f"- **Trained − training-free**, against answer likelihood, {mean}: Probe +0.012")
    assert seen[1].startswith("- **Probe − LoRA + Prompt**, mean over 4 differences between cells of Figure 1: +0.01")


@pytest.mark.parametrize(
    "probe, lora, sentence",
    [
        ((-0.1, -0.01), (-0.2, -0.1), " On questions of other tasks, both are below it (exploratory). "),
        ((0.01, 0.1), (-0.2, -0.1), " the probe is above it and LoRA + Prompt is below it (exploratory). "),
        ((-0.01, 0.1), (0.01, 0.02), " On questions of other tasks, LoRA + Prompt is above it (exploratory). "),
        ((-0.01, 0.1), (-0.2, 0.1), ""),
    ],
)
def test_the_answer_says_what_training_does_elsewhere_where_an_interval_is_without_zero(probe, lora, sentence):
    ends = pd.DataFrame([probe, lora], columns=["low", "high"])
    far = ends.assign(kind=landing.SHIFT, method=["probe", "lora_prompt"], count=2, says=EXPLORATORY, estimate=0.0)
    far = far.assign(alone=[(), ()], without=[(), ()])
    near = table_of(*[INSIGNIFICANT] * 4)
    text = landing.answer(pd.concat([near, far], ignore_index=True), "likelihood")
    assert sentence in text and ("(exploratory)" in text) == bool(sentence)
    both = pd.concat([near, far.assign(says=IMPROVING)], ignore_index=True)
    assert "(exploratory)" not in landing.answer(both, "likelihood"), "no verdict rests on what is still improving"


def test_the_answer_is_short_sentences_that_are_read_at_once():
    verdicts = (ABOVE, INSIGNIFICANT, BELOW, IMPROVING)
    plain = [name for name, method in METHODS.items() if method.family in ("likelihood", "zero_shot")]
    plain = {"likelihood", max(plain, key=lambda name: len(METHODS[name].title.split()))}
    for of, baseline in itertools.product(itertools.product(verdicts, repeat=4), plain):
        if IMPROVING in of[:2] and of[2] != IMPROVING:
            continue  # the difference of two methods rests on the cells of both
        text = Seen(landing.answer(table_of(*of), baseline).split("\n")[0]).text
        words = [word for word in text.split() if word != "+"]
        assert len(words) <= (54 if baseline == "likelihood" else 57), text
        assert all(len(sentence.split()) <= 25 for sentence in text.split(". ")), text


def test_a_difference_that_is_shown_as_zero_has_no_sign():
    table = table_of(*[INSIGNIFICANT] * 4).assign(estimate=-0.0002, low=-0.0004, high=0.0004)
    text = landing.answer(table, "likelihood")
    assert "Probe 0.000 (95 % interval 0.000 to 0.000, p\u00a00.030, not significant)" in text


def test_the_box_counts_what_the_rows_hold(tmp_path):
    rows = run_of({("likelihood", "", "", m): 1.0 for m in MODELS}, count=12)
    shifted = rows[(rows["task"] == "sciq")].assign(task="capitals", question_id="x" + rows["question_id"])
    held = run_of({("likelihood", "", "", m): 1.0 for m in MODELS}, "validation", count=12)
    trained = [run_of({("probe", "a", "a", "a"): 1.0}, count=12).assign(seed=seed) for seed in (5, 3)]
    html = landing.box_html(pd.concat([rows, rows, shifted, held, *trained]), str(tmp_path), MODELS, ["a"], TASKS)
    text = " ".join(Seen(html.replace("<", " <")).text.split())
    assert text == (
        "What it rests on a b Right answers, in-distribution 8 of 24 (33 %) 6 of 24 (25 %) Right answers, shift "
        "4 of 12 (33 %) 3 of 12 (25 %) Test questions, in-distribution 24 questions (cities 12, sciq 12) "
        "Test questions, shift 12 questions (capitals 12) Seeds 2 (seeds 3, 5)"
    ), "without cards nothing is said of the models' weights"


def test_the_box_counts_the_answers_that_trained_the_two_methods(tmp_path, monkeypatch):
    rows = run_of({("likelihood", "", "", m): 1.0 for m in MODELS})
    for method, right in (("probe", 1_000), ("lora_prompt", 700), ("lora_prompt_no_js", 9)):
        card = {"reader": "a", "trained_on": "b", "seed": 0, "training_answers": {"right": right, "wrong": 200}}
        files.write_text(tmp_path / method / f"{method}.json", json.dumps(card))
    read = []
    monkeypatch.setattr(plateau, "cards", lambda folder, cards=plateau.cards: read.append(folder) or cards(folder))
    text = Seen(landing.box_html(rows, str(tmp_path), MODELS, ["a"], TASKS).replace("<", " <")).text
    assert read == [str(tmp_path)], "once for all lines"
    assert "Training answers — 900 to 1,200 Right answers" in " ".join(text.split())


def test_thousands_are_separated_in_the_box(tmp_path):
    rows = run_of({("likelihood", "", "", m): 1.0 for m in MODELS}, count=1200)
    html = landing.box_html(rows, str(tmp_path), MODELS, ["a"], TASKS)
    right = int(rows.loc[rows["scored"] == "a", "correct"].sum())
    assert f"{right:,} of 2,400 (" in html and "2,400 questions (cities\u00a01,200, sciq\u00a01,200)" in html


def answers_of(folder, rows):
    """Answer files of the rows' questions, whose texts are hostile."""
    paths = {}
    for scored, part in rows.groupby("scored"):
        asked = part.drop_duplicates("question_id")
        texts = {"question": EVIL + asked["question_id"], "answer": EVIL, "gold": [[EVIL, "2", "3", "4"]] * len(asked)}
        paths[scored] = str(folder / f"{scored}.parquet")
        files.write_parquet(paths[scored], asked[["question_id"]].assign(**texts))
    return paths


def test_the_examples_are_the_first_by_the_digest_of_their_names(tmp_path):
    strengths = of_all((2.0, 0.5), (1.0, 0.5), 1.0) | {("probe", "a", "b", "a"): 5.0, ("zero_shot", "a", "", "a"): 1.0}
    rows = run_of(strengths, count=30)
    other = rows["trained_on"] != ""
    seeds = pd.concat([rows, rows[other].assign(seed=1, logit=rows["logit"] + 1)], ignore_index=True)
    paths = answers_of(tmp_path, rows)
    table = landing.examples(seeds, paths, MODELS, TASKS, "likelihood")
    estimators = ["Probe · a", "Probe · b", "LoRA + Prompt · a", "LoRA + Prompt · b", "Answer likelihood"]
    assert [name for name in table if "·" in name or "likelihood" in name] == estimators
    assert table.groupby(["scored", "correct"]).size().tolist() == [5] * 4
    for (scored, correct), part in table.groupby(["scored", "correct"]):
        asked = rows[(rows["scored"] == scored) & (rows["correct"] == correct)]["question_id"].unique()
        first = sorted(asked, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:5]
        assert [*part["question_id"]] == first
    line = table.iloc[0]
    for name, cell, more in (("Probe · b", ("probe", "b", "b"), 0.5), ("Answer likelihood", ("likelihood", "", ""), 0)):
        place = (rows[["method", "reader", "trained_on"]] == [*cell]).all(axis=1)
        logit = rows.loc[
            place & (rows["scored"] == line["scored"]) & (rows["question_id"] == line["question_id"]), "logit"
        ]
        assert line[name] == pytest.approx(1 / (1 + np.exp(-(logit.item() + more))), abs=1e-6), "the mean over seeds"


def test_the_examples_are_inert_and_say_who_wrote_them(tmp_path):
    rows = run_of(of_all((2.0, 0.5), (1.0, 0.5), 1.0), count=30).replace({"scored": {"b": 'b"><img src=x>'}})
    paths = answers_of(tmp_path, rows)
    html = landing.examples_html(landing.examples(rows, paths, MODELS, TASKS, "likelihood"))
    seen = Seen(html)
    assert {*seen.tags} == {"table", "caption", "thead", "tbody", "tr", "th", "td"} and "\n" not in html
    lines = [attributes for tag, attributes in seen.attributes if tag == "tr" and attributes]
    assert {line["data-scored"] for line in lines} == {*paths} and len(lines) == 20
    assert [line["data-grade"] for line in lines].count("right") == 10
    assert seen.text.count("window.hit = 1") == 20 * 2 + 10, "question, answer, and what is accepted of a wrong one"
    assert "; and 1 more" in seen.text and {name for tag, one in seen.attributes for name in one} <= {
        "class", "scope", "style", "data-title", "data-scored", "data-grade"
    }  # fmt: skip


def heatmap(**more):
    places = [(method, r, s) for method in ("probe", "lora_prompt") for r in MODELS for s in MODELS]
    table = pd.DataFrame(places, columns=["method", "trained_on", "model"])
    values = {"auroc": np.linspace(0.6, 0.95, 8), "n": pd.array([1112] * 8, "Int64"), "reason": "", "seeds": 2}
    return table.assign(reading="A", test_set="in-distribution", **values | more)


def test_the_caption_says_on_how_many_answers_and_what_is_to_be_beaten():
    text = Seen(landing.caption_html(heatmap(), "likelihood")).text
    lead = "Figure 1. In the view shown first, AUROC on in-distribution test questions, each from 1,112 answers. "
    assert text.startswith(lead) and "The last panel is answer likelihood, which needs no training." in text
    assert "last panel" not in landing.caption_html(heatmap(auroc=np.nan), "")
    assert "Press" not in text and "Press a cell, or Enter" in landing.caption_html(heatmap(), "", links=True)


def test_the_caption_says_what_the_readings_are_where_there_are_two():
    assert "reading" not in landing.caption_html(heatmap(), "")
    both = pd.concat([heatmap(), heatmap().assign(reading="B")])
    assert "reading A, estimator transfer. A column is" in landing.caption_html(both, "")


def test_the_title_is_answered_by_settled_cells_alone():
    def of(*p, unsettled=""):
        return landing.chance(heatmap(p_chance=[*p, *[0.001] * (8 - len(p))], unsettled=unsettled))

    assert of() == "Yes, better than chance." and of(0.06) == "In part: better than chance in 7 of 8 cells."
    assert of(0.03, 0.04) == "In part: better than chance in 6 of 8 cells.", "Holm's correction for two of eight left"
    assert of(*[0.01] * 8) == "No better than chance." and of(unsettled=IMPROVING) == ""
    assert of(0.4, unsettled=[IMPROVING] + [""] * 7) == "Yes, better than chance."
    assert landing.chance(heatmap(p_chance=0.001, auroc=0.4)) == "No better than chance.", "it is worse"
    assert landing.chance(heatmap(p_chance=0.001).assign(auroc=np.nan)) == ""
    text = landing.answer(table_of(*[INSIGNIFICANT] * 4), "zero_shot", "Yes, better than chance.")
    assert text.startswith('<p class="answer">Yes, better than chance. Training shows') and "gave to its" not in text


def test_what_training_adds_on_shift_questions_is_exploratory():
    strengths = of_all((2.2, 0.6), (1.9, 0.5), 1.0)
    far = run_of(of_all((0.5, 0.1), (0.2, 0.0), 1.5), count=160)
    far = far[far["task"] == "sciq"].assign(task="capitals", question_id="x" + far["question_id"])
    rows = pd.concat([run_of(strengths), far], ignore_index=True)
    table, _ = compared(rows)
    added = table[4:]
    assert added["kind"].tolist() == [landing.SHIFT] * 2 and added["method"].tolist() == ["probe", "lora_prompt"]
    pd.testing.assert_frame_equal(table[:4], compared(run_of(strengths))[0], check_like=True)
    value = {cell: auroc_of(far, cell) for cell in strengths}
    plain = np.mean([value["likelihood", "", "", m] for m in MODELS])
    own = [np.mean([value[method, m, m, m] for m in MODELS]) - plain for method in ("probe", "lora_prompt")]
    assert np.allclose(added["estimate"], own) and added["p_holm"].isna().all()
    assert added["says"].tolist() == [EXPLORATORY] * 2
    line = next(line for line in landing.answer(table, "likelihood").splitlines() if "shift" in line)
    mean = "mean over 2 models, each on its own answers"
    assert line.startswith(f"- **Trained − training-free on shift questions**, of other tasks, {mean}: Probe −0.")
    assert line.endswith(f", {EXPLORATORY}).") and " p " not in line


def test_the_papers_figure_stands_beside_this_ones_range():
    html = landing.figures_html(heatmap(unsettled=[""] * 7 + [IMPROVING]), MODELS, TASKS)
    text = " ".join(Seen(html.replace("<", " <")).text.split())
    assert "Probe 0.60 to 0.80 0.60 to 0.75" in text and "LoRA + Prompt 0.65 to 0.75 0.80 to 0.90" in text
    assert "Probe, what it is an MLP a logistic regression Intervals" in text
    none = landing.figures_html(heatmap(auroc=[np.nan] * 4 + [0.8] * 4), MODELS, TASKS)
    assert "Probe, what it is an MLP — Intervals" in " ".join(Seen(none.replace("<", " <")).text.split())
    mlp = landing.figures_html(pd.concat([heatmap(), heatmap(method="probe_mlp")]), MODELS, TASKS)
    assert "a logistic regression; an MLP reaches 0." in mlp
    assert (
        "Models Mistral, LLaMA-2 a, b" in text
        and "in-distribution: cities, sciq" in text
        and "Seeds not in the figure 2 Read" in text
    )


def test_the_drawing_names_a_cell_of_this_run():
    seen = Seen(landing.schematic_html(["a", "b"], ["a", "b", "c<"]))
    assert seen.tags.count("li") == 4 and seen.tags.count("ol") == 1
    assert "in column b and row a of Figure 1" in seen.text and "img" not in seen.tags
    assert "in column a and row a" in Seen(landing.schematic_html(["a"], ["a"])).text


def page_with(*html, answer=""):
    outputs = [new_output("display_data", {"text/html": text}) for text in html]
    outputs += [new_output("display_data", {"text/markdown": answer})] if answer else []
    made = [new_code_cell("1", outputs=[output]) for output in outputs]
    return new_notebook(cells=[new_markdown_cell("# Title"), *made])


def test_the_first_page_has_its_byline_and_the_machine_beneath_its_box():
    page = page_with(f"<table {chapters.BOX}></table>", "<table></table>")
    page.metadata["whoknows"] = {"seconds": 30.0, "machine": "a *machine*", "parameters": {}}
    rest = new_notebook(metadata={"whoknows": {"seconds": 600.0, "machine": "a *machine*", "precision": "bfloat16"}})
    beside = new_notebook(metadata={"whoknows": {"seconds": 9000.0}})
    others = [chapters.Chapter("answer-a", rest, {}, False), chapters.Chapter("beside-claims", beside, {}, False)]
    sources = [
        cell.source for cell in chapters.landing(chapters.Chapter("heatmaps", page, {}, False), others, "by us").cells
    ]
    assert sources[1] == "by us" and sources[2] == "1"
    assert "`a *machine*` · 10.5 min of notebooks · computed in `bfloat16`" in sources[3] and sources[4:] == ["1"]


def test_the_byline_says_what_the_citation_file_says_and_leaves_out_what_it_lacks(tmp_path):
    about = {"title": "whoknows: a question?", "authors": [{"name": "Us"}], "license": "MIT"}
    (tmp_path / "one.cff").write_text(yaml.safe_dump(about))
    line = citation.byline(citation.read(tmp_path / "one.cff"), "2026-01-02", "")
    assert line == ":::{container} byline\nUs · 2026-01-02 · MIT · [How to cite](book/references.md)\n:::"
    about |= {"version": "1.2", "date-released": "2025-05-05", "identifiers": [{"type": "doi", "value": "10.5/x"}]}
    about |= {"authors": [{"given-names": "A", "family-names": "B"}, {"name": "Us"}]}
    (tmp_path / "two.cff").write_text(yaml.safe_dump(about))
    line = citation.byline(citation.read(tmp_path / "two.cff"), "2026-01-02", "https://github.com/o/n")
    assert line.splitlines()[1] == (
        "A B, Us · version 1.2 · 2025-05-05 · MIT · [doi:10.5/x](https://doi.org/10.5/x) · "
        "[Repository](https://github.com/o/n) · [How to cite](book/references.md)"
    )


def test_the_page_on_citing_has_the_year_of_the_release_or_of_the_checkout():
    page = (ROOT / "book/cite.md").read_text()
    assert page.count("(n.d.)") == 1 and citation.dated(page, {}, "") == page
    for about, date, year in (({}, "2031-01-02", "2031"), ({"date-released": "2030-05-05"}, "2031-01-02", "2030")):
        dated = citation.dated(page, about, date)
        assert f"The whoknows authors. ({year}). whoknows" in dated and "n.d." not in dated
        entries = parse_string("\n".join(re.findall(r"```bibtex\n(.*?)```", dated, re.DOTALL)), "bibtex").entries
        assert [entry.fields["year"] for entry in entries.values()] == [year, "2024"]


def test_a_link_shows_the_answer_and_a_picture_of_the_first_chart(tmp_path):
    data = pd.DataFrame({"x": ["a"], "y": [1]})
    chart = alt.Chart(data).mark_bar().encode(x="x:N", y="y:Q").properties(width=300)._repr_mimebundle_()["text/html"]
    page = page_with(chart, "<table></table>", answer='<p class="answer">It &lt; helps.</p>\n\n- more')
    shown = citation.preview(nbformat.from_dict(page), {"title": "whoknows: can it?", "authors": ["Us"]}, tmp_path)
    picture = {"image": "_static/preview.png"}
    assert shown == {"title": "Can it?", "description": "It &lt; helps.", "authors": "Us"} | picture
    assert (tmp_path / "preview.png").read_bytes()[:8] == base64.b64decode("iVBORw0KGgo=")
    nothing = citation.preview(page_with(), {"title": "t", "authors": ["Us"]}, tmp_path / "none")
    assert nothing == {"title": "T", "description": "", "authors": "Us", "image": ""}
