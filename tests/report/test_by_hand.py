"""Every number and sentence of a run's pages once more, from a made-up run's files, by scikit-learn, sorting and loops.

A page's notebook runs as it is, in this process; what it shows is held against `Hand`, which calls no evaluation code
of the project. A page that says the estimator, reader, seed, task, family or level of another differs in a number.
"""

import functools
import hashlib
import itertools
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.special import expit
from scipy.stats import norm, rankdata
from sklearn import metrics as sklearn
from sklearn.linear_model import LogisticRegression

from made_up import FOUR, IMPROVING, NEVER_RUN, THREE, a_run, pages_of
from whoknows.evaluation import plateau
from whoknows.evaluation.metrics import smooth_ece

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SETS = {
    "in-distribution": ["sciq", "trivia_qa"],
    "sciq": ["sciq"],
    "trivia_qa": ["trivia_qa"],
    "shift": ["nq_open", "capitals"],
    "nq_open": ["nq_open"],
    "capitals": ["capitals"],
}
HOME = SETS["in-distribution"]
NAMES = {
    "probe": "Probe",
    "lora_prompt": "LoRA + Prompt",
    "zero_shot": "Zero-shot P(True)",
    "likelihood": "Answer likelihood",
    "embedder": "Sentence embedder, question and answer",
}
STRONG, WEAK = "cedar", "birch"  # by right answers to in-distribution test questions
FIGURE = {
    "probe": {"Mistral": (0.80, 0.70), "LLaMA-2": (0.65, 0.60)},
    "lora_prompt": {"Mistral": (0.75, 0.70), "LLaMA-2": (0.70, 0.65)},
}  # trained on Mistral, LLaMA-2
FEW, UNFINISHED = "too few right or wrong answers", "still improving"
METRICS = {
    "brier": "Brier score", "log_loss": "Log loss", "ece": "ECE", "ece_equal_mass": "ECE, equal mass",
    "smooth_ece": "Smooth ECE", "aurc": "AURC", "prr": "PRR", "threshold_accuracy": "Accuracy at the threshold",
    "ece_temperature": "ECE after temperature scaling", "ece_platt": "ECE after Platt scaling",
    "commoner_accuracy": "Always the commoner grade",
}  # fmt: skip
DRAWS = 5000
MARGIN = 0.025  # half of what is between two values of the figure
BENEATH = "Beneath a value stands its 95 % interval over questions, where it has one."


class Hand:
    """What a run's cells, (method, reader, trained_on, scored), are worth; NaN for one that is not there."""

    def __init__(self, folder: Path):
        rows = pd.concat(
            pd.read_parquet(path) for kind in ("rows", "controls") for path in (folder / kind).rglob("*.parquet")
        )
        self.test, self.held = (
            {
                key: part.sort_values("question_id")
                for key, part in rows[rows["split"] == split].groupby(
                    ["method", "reader", "trained_on", "scored", "seed", "task"]
                )
            }
            for split in ("test", "validation")
        )
        self.seeds = {key[:4]: sorted({other[4] for other in self.test if other[:4] == key[:4]}) for key in self.test}
        tested = rows.loc[rows["split"] == "test", "question_id"]
        self.answers = {model: pd.read_parquet(folder / "answers" / f"{model}.parquet") for model in THREE}
        self.grades = {model: frame[frame["question_id"].isin(tested)] for model, frame in self.answers.items()}
        self.both = {
            model: {task for task, grades in frame.groupby("task")["correct"] if 0 < grades.mean() < 1}
            for model, frame in self.grades.items()
        }
        self.of_parts = {}

    def measurable(self, scored: str, tasks: list[str]) -> list[str]:
        """The tasks that a model has right and wrong answers of."""
        return [task for task in tasks if task in self.both[scored]]

    def graded(self, scored: str, tasks: list[str]) -> np.ndarray:
        """The grades of all of a model's test answers to those tasks."""
        return self.grades[scored].loc[self.grades[scored]["task"].isin(tasks), "correct"].to_numpy()

    def rarer(self, scored: str, tasks: list[str]) -> int:
        """Right or wrong answers, the fewer in each task."""
        return sum(
            min(grades.sum(), (~grades).sum())
            for task, grades in self.grades[scored].groupby("task")["correct"]
            if task in tasks
        )

    def mean(self, cell: tuple, tasks: list[str], of, seeds=None):
        """Mean over seeds of the mean over tasks of a function of test answers; what has one class is in no mean."""
        both = self.measurable(cell[3], tasks)
        if cell not in self.seeds or not both:
            return np.nan
        seeds = seeds or self.seeds[cell]
        return sum(sum(self.once(of, (*cell, seed, task)) for task in both) / len(both) for seed in seeds) / len(seeds)

    def once(self, of, key: tuple):
        if (of, key) not in self.of_parts:
            self.of_parts[of, key] = of(key)
        return self.of_parts[of, key]

    def auroc(self, cell, tasks, seeds=None):
        return self.mean(cell, tasks, self.one_auroc, seeds)

    def drawn(self, cell, tasks):
        return self.mean(cell, tasks, self.one_drawn) * np.ones(DRAWS)

    def one_auroc(self, key):
        return sklearn.roc_auc_score(self.test[key]["correct"], self.test[key]["logit"])

    def one_drawn(self, key):
        """AUROC of each resample of a task's questions.

        Summed over confidences: right answers at one, times wrong ones below it and half of those at it.
        """
        part = self.test[key]
        times = chosen(key[-1], len(part))[:, part["logit"].argsort()]
        at_once = np.unique(part["logit"].sort_values(), return_index=True)[1]
        correct = part["correct"].to_numpy()[part["logit"].argsort()]
        right, wrong = (np.add.reduceat(times * of_class, at_once, axis=1) for of_class in (correct, ~correct))
        return (right * (wrong.cumsum(axis=1) - wrong / 2)).sum(axis=1) / (right.sum(axis=1) * wrong.sum(axis=1))

    def measures(self, cell: tuple, tasks: list[str], pooled: bool = False) -> dict[str, float]:
        """All metrics of a cell: of each task by itself, or of all thrown together."""
        groups = [tasks] if pooled else [[task] for task in self.measurable(cell[3], tasks)]
        of = [self.once(self.metrics_of, (*cell, seed, tuple(group))) for seed in self.seeds[cell] for group in groups]
        return pd.DataFrame(of).mean().to_dict()

    def metrics_of(self, key):
        *place, seed, tasks = key
        part = pd.concat(self.test[*place, seed, task] for task in tasks)
        method, reader, trained_on, scored = place
        return metrics(
            part["logit"].to_numpy(float),
            part["correct"].to_numpy(),
            *self.calibrated(method, reader, trained_on, trained_on or scored, seed),
        )

    @functools.cache
    def calibrated(self, *place):
        """The slope of a temperature, Platt's slope and offset, and the best threshold, by validation answers."""
        held = pd.concat(self.held[*place, task] for task in HOME)
        logit, correct = held["logit"].to_numpy(float), held["correct"].to_numpy()
        one, two = (
            LogisticRegression(C=np.inf, tol=1e-8, fit_intercept=both).fit(logit[:, None], correct)
            for both in (False, True)
        )
        return (
            max(one.coef_[0, 0], 0),
            (two.coef_[0, 0], two.intercept_[0]),
            max((((logit >= cut) == correct).mean(), cut) for cut in [np.inf, *logit])[1],
        )

    def improving(self, *cells) -> bool:
        return any((*cell[:3], seed) in IMPROVING for cell in cells for seed in self.seeds.get(cell, []))

    def contrast(self, weights: dict[tuple, float], tasks: list[str]) -> tuple[float, np.ndarray]:
        return tuple(
            sum(weight * of(cell, tasks) for cell, weight in weights.items()) for of in (self.auroc, self.drawn)
        )

    @functools.cached_property
    def primary(self) -> list[dict]:
        """The contrasts of all claims in both readings, with estimate, resamples and p-values."""
        contrasts = []
        for reading, claim in itertools.product("AB", CLAIMS):
            for name, weights in claim["contrasts"].items():
                cells = Counter()
                for place, weight in weights.items():
                    method, model, column = place.split("/")
                    cells[
                        at(
                            reading,
                            method,
                            {"Mistral": STRONG, "LLaMA-2": WEAK}[model],
                            {"Mistral": STRONG, "LLaMA-2": WEAK}[column],
                        )
                    ] += weight
                estimate, drawn = self.contrast(cells, HOME)
                below = norm.cdf((estimate - MARGIN) / np.std(drawn))
                contrasts.append(
                    {
                        "claim": claim["claim"],
                        "contrast": name,
                        "reading": reading,
                        "weights": cells,
                        "estimate": estimate,
                        "drawn": drawn,
                        "p": p_value(estimate, drawn),
                        "p_margin": 2 * below,
                    }
                )
                contrasts[-1]["p_margin"] = min(1.0, contrasts[-1]["p_margin"])
        distinct = {name: [] for name in ("p", "p_margin")}
        for (name, lines), line in itertools.product(distinct.items(), contrasts):
            if not any(same_hypothesis(name, line, other) for other in lines):
                lines.append(line)
        family = [(line[name], name, line) for name, lines in distinct.items() for line in lines]
        self.distinct, largest = len(distinct["p"]), 0.0
        for rank, (p, name, line) in enumerate(sorted(family, key=lambda entry: entry[0])):  # Holm, 1979
            largest = max(largest, min(1.0, p * (len(family) - rank)))
            line[f"{name}_holm"] = largest
        for (name, lines), line in itertools.product(distinct.items(), contrasts):
            line[f"{name}_holm"] = next(other[f"{name}_holm"] for other in lines if same_hypothesis(name, line, other))
        return contrasts

    def difference(self, weights: dict[tuple, float], test_set: str) -> dict:
        """A difference of cells as a page shows it: estimate, low, high, p, p_holm, n_rarer and says."""
        tasks = SETS[test_set]
        estimate, drawn = self.contrast(weights, tasks)
        known = (
            [line["p_holm"] for line in self.primary if parallel(line["weights"], weights)]
            if test_set == "in-distribution"
            else []
        )
        fewest, holm = min(self.rarer(cell[3], tasks) for cell in weights), known[0] if known else np.nan
        significant = "not significant" if not holm < 0.05 else "above" if estimate > 0 else "below"
        says = (
            UNFINISHED if self.improving(*weights) else FEW if fewest < 25 else significant if known else "exploratory"
        )
        values = {
            "estimate": estimate,
            "low": interval(drawn)[0],
            "high": interval(drawn)[1],
            "p": p_value(estimate, drawn),
            "p_holm": holm,
        }
        return (values if fewest >= 25 else dict.fromkeys(values, np.nan)) | {"n_rarer": fewest, "says": says}


@functools.cache
def chosen(task: str, count: int) -> np.ndarray:
    """How often each of a task's questions, in the order of their names, is in each resample."""
    seed = int.from_bytes(hashlib.sha256(f"{task}\n{count}".encode()).digest()[:8], "big")
    drawn = np.random.default_rng(seed).integers(count, size=(DRAWS, count))
    return np.array([np.bincount(line, minlength=count) for line in drawn])


CLAIMS = yaml.safe_load((ROOT / "book/claims.yml").read_text())


def metrics(logit, correct, slope, platt, threshold) -> dict[str, float]:
    """All metrics of test answers, with what `Hand.calibrated` found."""
    p, n = expit(logit), len(logit)

    def ece(p, bins):
        return sum(abs((p - correct)[bins == at].sum()) for at in range(10)) / n

    def risks(logit):  # of the k most confident: all above the k-th, and of those tied with it their share
        risks_at = []
        for k, last in enumerate(sorted(logit, reverse=True), 1):
            above, tied = logit > last, logit == last
            risks_at.append(((~correct)[above].sum() + (k - above.sum()) * (~correct)[tied].mean()) / k)
        return np.mean(risks_at)

    temperature, scaled = expit(logit * slope), expit(logit * platt[0] + platt[1])
    accuracy, chance = correct.mean(), (~correct).mean()
    return {
        "auroc": sklearn.roc_auc_score(correct, logit),
        "brier": sklearn.brier_score_loss(correct, p),
        "log_loss": sklearn.log_loss(correct, p),
        "ece": ece(p, np.floor(p * 10)),
        "ece_equal_mass": ece(p, np.floor((rankdata(logit) - 0.5) * 10 / n)),
        "smooth_ece": smooth_ece(logit, correct),
        "ece_temperature": ece(temperature, np.floor(temperature * 10)),
        "ece_platt": ece(scaled, np.floor(scaled * 10)),
        "aurc": risks(logit),
        "prr": (chance - risks(logit)) / (chance - risks(correct.astype(float))),
        "threshold_accuracy": ((logit >= threshold) == correct).mean(),
        "commoner_accuracy": max(accuracy, chance),
        "accuracy": accuracy,
    }


def at(reading: str, method: str, row: str, column: str) -> tuple:
    """The cell in a heatmap's row and column.

    In A the column's estimator judges the row's answers, in B the row's model its own, trained on the column's.
    """
    return (method, column, column, row) if reading == "A" else (method, row, column, row)


def native(method: str, model: str) -> tuple:
    return (
        method,
        "" if method in ("likelihood", "embedder") else model,
        "" if method in ("likelihood", "zero_shot") else model,
        model,
    )


def above(text: str) -> float:
    """A table's value, above its interval."""
    return float(text.split("<br/>")[0])


def interval(drawn) -> tuple[float, float]:
    return tuple(np.nanpercentile(drawn, [2.5, 97.5])) if not np.isnan(drawn).all() else (np.nan, np.nan)


def p_value(estimate, drawn) -> float:
    return 2 * norm.sf(abs(estimate) / np.std(drawn))


def parallel(one: dict, other: dict) -> bool:
    """Whether two contrasts say that the same is zero."""
    cells = sorted({*one, *other})
    a, b = (np.array([weights.get(cell, 0.0) for cell in cells]) for weights in (one, other))
    return bool(abs(a @ b) > (1 - 1e-9) * np.linalg.norm(a) * np.linalg.norm(b))


def shown_p(p: float) -> str:
    return "under 0.001" if p < 0.001 else f"{p:.3f}"


def named_p(p: float) -> str:
    return f"p {shown_p(p)}".replace(" ", "\u00a0")


def same_hypothesis(name: str, one: dict, other: dict) -> bool:
    """Whether two lines test the same: that a combination of cells is zero, or that it is at least the margin."""
    a, b = ({cell: weight for cell, weight in line["weights"].items() if weight} for line in (one, other))
    return parallel(a, b) if name == "p" else a == b


def tables(html: str) -> dict[str, list[list[str]]]:
    """The cells of each table of a page, line by line, by its caption; the first of those without."""
    html_tables = re.findall(r"<table.*?</table>", html, re.DOTALL)
    caption = [re.findall(r"<caption>(.*?)</caption>", table)[:1] for table in html_tables]
    lines = [
        [
            re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", line, re.DOTALL)
            for line in re.findall(r"<tr.*?</tr>", table, re.DOTALL)
        ]
        for table in html_tables
    ]
    return {"".join(name): table for name, table in reversed([*zip(caption, lines)])}


def dataset(chart) -> list[dict]:
    return [line for lines in chart.to_dict()["datasets"].values() for line in lines]


def same(shown, expected) -> bool:
    """Whether a text, or each of a list of texts, is the expected one; what lies half-way may be rounded either way."""
    if not isinstance(expected, str):
        return len(shown) == len(expected) and all(map(same, shown, expected))
    decimal = r"[-+]?\d+\.\d+"
    numbers = zip(re.findall(decimal, shown), re.findall(decimal, expected))
    near = all(
        len(one) == len(other) and abs(float(one) - float(other)) < 1.1 * 10.0 ** -len(one.split(".")[1])
        for one, other in numbers
    )
    return re.sub(decimal, "#", shown) == re.sub(decimal, "#", expected) and near


def says(text: str, line: str) -> bool:
    """Whether one of a text's lines is this one, as `same` has it."""
    return any(same(each, line) for each in text.splitlines())


def span(values, form: str = "") -> str:
    low, high = (f"{value:{form}}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def signed(value: float, digits: int = 2) -> str:
    return f"{value:+.{digits}f}".replace("-", "−") if round(value, digits) else f"{0:.{digits}f}"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    a_run(folder)
    return folder


@pytest.fixture(scope="module")
def hand(run):
    return Hand(run)


@pytest.fixture(scope="module")
def page(run):
    return pages_of(run)


def cell_of(line) -> tuple:
    if line.reading != "all":
        return at(line.reading, line.method, line.model, line.trained_on)
    scored, reader = line.model.split("\nread by ")
    return line.method, reader, line.trained_on, scored


def reason(hand, cell: tuple, tasks: list[str]) -> str:
    """Why a cell has no value, or "" if it has one."""
    if cell not in hand.seeds:
        return "no rows: nothing can be learned from these answers, its stage did not finish, or the grid leaves it out"
    rarer = hand.rarer(cell[3], tasks)
    if not rarer:
        return "; ".join(f"{task}: no right answer among the test answers" for task in tasks)
    return f"{rarer} answers of the rarer grade within tasks, and a value takes 25" if rarer < 25 else ""


def test_the_run_has_what_a_mistake_could_mistake(hand):
    right = {model: hand.graded(model, HOME).sum() for model in THREE}
    assert max(right, key=right.get) == STRONG and min(right, key=right.get) == WEAK and len({*right.values()}) == 3
    counts = hand.grades["ash"].groupby("task").size()
    assert counts.nunique() == 4 and (hand.grades["ash"]["task"] != hand.grades["ash"]["task"].shift()).mean() > 0.5
    assert not hand.graded("birch", ["capitals"]).any() and not any(
        ("lora_prompt", *key[:2], scored) in hand.seeds for key in NEVER_RUN[:1] for scored in THREE
    )
    assert {line["p_holm"] < 0.05 for line in hand.primary} == {True, False} and any(
        line["p"] < 0.05 < line["p_holm"] for line in hand.primary
    )


def test_every_value_of_the_heatmaps(page, hand):
    _, table = page("heatmaps")
    assert (
        len(table) == len(SETS) * 2 * (9 + 9 + 27)
        and not table.duplicated(["test_set", "reading", "method", "model", "trained_on"]).any()
    )
    for line in table.itertuples():
        cell, tasks = cell_of(line), SETS[line.test_set]
        assert (line.reader, line.trained_on, line.scored) == cell[1:] and line.reason == reason(hand, cell, tasks), (
            line
        )
        if line.reason:
            assert np.isnan([line.auroc, line.low, line.high, line.lowest_seed, line.ece, line.pooled_auroc]).all(), (
                line
            )
            continue
        right, seeds = hand.graded(cell[3], tasks), [hand.auroc(cell, tasks, [seed]) for seed in hand.seeds[cell]]
        assert (line.n, line.n_right, line.n_rarer, line.seeds, line.of_tasks) == (
            len(right),
            right.sum(),
            hand.rarer(cell[3], tasks),
            len(seeds),
            len(tasks),
        ), line
        assert line.n_tasks == (1 if (cell[3], line.test_set) == ("birch", "shift") else len(tasks)) and (
            line.unsettled == plateau.IMPROVING
        ) == hand.improving(cell), line
        values = [line.auroc, line.low, line.high, line.lowest_seed, line.highest_seed]
        assert values == pytest.approx(
            [np.mean(seeds), *interval(hand.drawn(cell, tasks)), min(seeds), max(seeds)], abs=1e-6
        ), line


@pytest.mark.parametrize("before, pooled", [("", False), ("pooled_", True)])
def test_every_metric_of_the_heatmaps(page, hand, before, pooled):
    _, table = page("heatmaps")
    shown = table[(table["reading"] != "all") & (table["reason"] == "") & (table["test_set"] == "in-distribution")]
    assert len(shown) == 18 + 17, "LoRA + Prompt never ran for one place of reading B"
    for line in shown.itertuples():
        for name, value in hand.measures(cell_of(line), SETS[line.test_set], pooled).items():
            loose = 3e-3 if name in ("ece_temperature", "ece_platt") else 1e-6  # scikit-learn's fits stop elsewhere
            assert getattr(line, before + name) == pytest.approx(value, abs=loose), (line, name)


def drawn_in(hand, cell: tuple, tasks: list[str]) -> str:
    """What the tables beneath the heatmaps say of a cell."""
    why = reason(hand, cell, tasks)
    if why:
        return f"— ({why})"
    low, high = interval(hand.drawn(cell, tasks))
    seeds, of = [hand.auroc(cell, tasks, [seed]) for seed in hand.seeds[cell]], len(tasks)
    there = len(hand.measurable(cell[3], tasks))
    fewer = f", {there}/{of}" if there < of else ""
    spread = f", by seed {min(seeds):.2f} – {max(seeds):.2f}" if len(seeds) > 1 else ""
    right, mark = hand.graded(cell[3], tasks).sum(), " ↗" if hand.improving(cell) else ""
    return f"{np.mean(seeds):.2f}{mark} ({low:.2f} – {high:.2f}, {right} right{fewer}{spread})"


@pytest.mark.parametrize("reading, title", [("A", "A · estimator transfer"), ("B", "B · data transfer")])
def test_every_table_beneath_the_heatmaps(page, hand, reading, title):
    grids = tables(page("heatmaps")[0][10])
    for test_set, method in itertools.product(SETS, ("probe", "lora_prompt")):
        head, _, *lines = grids[f"{NAMES[method]}, {title}, {test_set}"]
        assert head == ["Trained On", *THREE] and [line[0] for line in lines] == THREE
        for row, *values in lines:
            for column, value in zip(THREE, values):
                cell = at(reading, method, row, column)
                text = drawn_in(hand, cell, SETS[test_set])
                page_of = f"run/cell-{method}_{cell[1]}_{cell[2]}.html?scored={cell[3]}"
                assert same(value, text if text.startswith("—") else f'<a href="{page_of}">{text}</a>'), (
                    test_set,
                    cell,
                )


def test_every_cell_that_the_heatmaps_draw(page, hand):
    drawn = [line for line in dataset(page("heatmaps")[0][2]) if line.get("reading") in ("A", "B")]
    plain = [line for line in drawn if line["trained_on"] == "no training"]
    assert len(drawn) == len(SETS) * 2 * (18 + 3) and len(plain) == len(SETS) * 2 * 3
    for line in plain:
        value = hand.auroc(native(line["method"], line["scored"]), SETS[line["test_set"]])
        few = reason(hand, native(line["method"], line["scored"]), SETS[line["test_set"]])
        assert line["model"] == line["scored"] and line["page"] == ""
        assert few if line["auroc"] is None else line["auroc"] == pytest.approx(value, abs=1e-6)
    drawn = [line for line in drawn if line["trained_on"] != "no training"]
    for line in drawn:
        cell, tasks = at(line["reading"], line["method"], line["model"], line["trained_on"]), SETS[line["test_set"]]
        if line["auroc"] is None:
            assert line["reason"] == reason(hand, cell, tasks) != ""
            continue
        right, (low, high) = hand.graded(cell[3], tasks), interval(hand.drawn(cell, tasks))
        assert (line["method"], line["reader"], line["trained_on"], line["scored"]) == cell and line["page"].endswith(
            f"_{cell[1]}_{cell[2]}.html?scored={cell[3]}"
        )
        assert line["auroc"] == pytest.approx(hand.auroc(cell, tasks), abs=1e-6) and same(
            line["interval_auroc"], f"{low:.2f} – {high:.2f}"
        )
        assert same(line["right"], f"{right.sum()} of {len(right)} ({100 * right.mean():.1f}\u00a0%)") and line[
            "mark"
        ].strip() == ("↗" if hand.improving(cell) else "")


def test_the_sentences_of_the_first_page(page, hand):
    cells = [at("A", method, row, column) for method in ("probe", "lora_prompt") for row in THREE for column in THREE]
    settled = [cell for cell in cells if not hand.improving(cell)]
    value = {cell: hand.auroc(cell, HOME) for cell in cells}
    ends = {cell: interval(hand.drawn(cell, HOME)) for cell in settled}
    both = [cell[1:] for cell in settled if cell[0] == "probe" and ("lora_prompt", *cell[1:]) in settled]
    less = {place: value["probe", *place] - value["lora_prompt", *place] for place in both}
    holm = {
        place: hand.difference({("probe", *place): 1, ("lora_prompt", *place): -1}, "in-distribution")["p_holm"]
        for place in both
    }
    tested, sure = (
        [place for place in both if not np.isnan(holm[place])],
        [place for place in both if holm[place] < 0.05],
    )
    reached = {
        method: span([value[cell] for cell in settled if cell[0] == method], ".2f")
        for method in NAMES
        if method in ("probe", "lora_prompt")
    }
    higher, lower = (sum(sign * less[place] > 0 for place in sure) for sign in (1, -1))
    assert (
        0 < lower < higher < len(tested) < len(both)
        and higher + lower < len(tested)
        and reached["probe"] != reached["lora_prompt"]
    )
    above = better_than_chance(hand, settled)
    right = span([hand.graded(model, HOME).sum() for model in THREE])
    wide = span([high - low for low, high in ends.values()], ".2f")
    expected = [
        "In the view shown first (reading A, in-distribution test questions):",
        "",
        f"- **Significantly better than chance in {above} of {len(settled)} cells**: **Probe** reaches an AUROC of "
        f"{reached['probe']} and **LoRA + Prompt** reaches an AUROC of {reached['lora_prompt']}.",
        f"- The cells rest on {right} right answers, so that their 95 % intervals are {wide} wide.",
        f"- The probe is higher than LoRA + Prompt in {sum(d > 0 for d in less.values())} of {len(both)} cells that "
        f"have both. Of these, {len(tested)} are primary hypotheses: it is significantly higher in {higher} and lower "
        f"in {lower}.",
        f"- **{len(cells) - len(settled)} of {len(cells)} cells were still improving when training ended** (↗): they "
        "count in none of these sentences and in no verdict.",
    ]
    shown = page("heatmaps")[0][4]
    assert same(re.sub("</?a[^>]*>", "", shown).splitlines(), expected)
    pages = {f"cell-{c[0]}_{c[1]}_{c[2]}.html?scored={c[3]}": f"{value[c]:.2f}" for c in settled}
    linked = re.findall(r'<a href="run/([^"]+)">([^<]+)</a>', shown)
    assert len(linked) == 4 and all(same(text, pages[address]) for address, text in linked)


def better_than_chance(hand, cells) -> int:
    """How many cells are above one half, by p-values that are corrected for all of them."""
    p = sorted(
        (p_value(hand.auroc(cell, HOME) - 0.5, hand.drawn(cell, HOME)), hand.auroc(cell, HOME) > 0.5) for cell in cells
    )
    corrected = itertools.accumulate((one * (len(p) - rank) for rank, (one, _) in enumerate(p)), max)  # Holm, 1979
    return sum(one < 0.05 and is_above for one, (_, is_above) in zip(corrected, p))


def best_untrained(hand) -> str:
    """The training-free method that is best on the validation answers of all models that read."""
    held = {
        method: np.mean([
            np.mean([
                sklearn.roc_auc_score(part["correct"], part["logit"])
                for part in (hand.held[(*native(method, model), 0, task)] for task in HOME)
            ])
            for model in THREE
        ])
        for method in ("likelihood", "zero_shot")
    }  # fmt: skip
    return max(held, key=held.get)


def test_what_training_adds_to_each_cell(page, hand):
    best, drawn, texts = best_untrained(hand), dataset(page("heatmaps")[0][6]), {}
    points = {(*(line[name] for name in ("method", "reader", "trained_on", "scored")), line["test_set"]): line
              for line in drawn}  # fmt: skip
    for test_set, tasks in (("in-distribution", HOME), ("shift", SETS["shift"])):
        for method, row, column in itertools.product(("probe", "lora_prompt"), THREE, THREE):
            cell = at("A", method, row, column)
            estimate, resampled = hand.contrast({cell: 1, native(best, row): -1}, tasks)
            low, high = interval(resampled)
            point, place = points.pop((*cell, test_set)), (column, row, NAMES[method], test_set)
            assert [point[name] for name in ("estimate", "low", "high")] == pytest.approx(
                [estimate, low, high], abs=6e-5
            )
            assert point["hollow"] == hand.improving(cell) and point["title"] == NAMES[method]
            assert point["says"] == (UNFINISHED if hand.improving(cell) else "exploratory")
            mark = " ↗" if hand.improving(cell) else ""
            texts[place] = f"{signed(estimate, 3)} ({signed(low, 3)} to {signed(high, 3)}){mark}"
    assert not points and len(texts) == 36
    assert {line["hollow"] for line in drawn} == {True, False}
    ((head, *lines),) = tables(page("heatmaps")[0][11]).values()
    assert head == ["Reader and trained on", "Scored", "Method", "in-distribution", "shift"] and len(lines) == 18
    for line in lines:
        assert all(same(text, texts[(*line[:3], test_set)]) for text, test_set in zip(line[3:], head[3:])), line
    assert [line[:3] for line in lines[:2]] == [["birch", "birch", "Probe"], ["birch", "birch", "LoRA + Prompt"]]
    caption = page("heatmaps")[0][7]
    name = NAMES[best].replace("Answer", "answer")
    assert f"each cell of reading A, less that of {name} on the same answers" in caption
    assert "still improving when its training ended." in caption and "empty" not in caption


def test_the_answer_of_the_first_page(page, hand):
    best = best_untrained(hand)
    weights = {
        method: {native(method, model): 1 / 3 for model in THREE} | {native(best, model): -1 / 3 for model in THREE}
        for method in ("probe", "lora_prompt")
    }
    values = {method: hand.contrast(cells, HOME) for method, cells in weights.items()}
    raw = {method: p_value(*value) for method, value in values.items()}
    first = min(raw, key=raw.get)
    holm = {method: min(1, 2 * raw[first]) if method == first else max(2 * raw[first], p) for method, p in raw.items()}

    def said(estimate, drawn, p, verdict):
        low, high = interval(drawn)
        p = "" if p is None else f", {named_p(p)}"
        return f"{signed(estimate, 3)} (95 % interval {signed(low, 3)} to {signed(high, 3)}{p}, {verdict})"

    assert hand.improving(*weights["lora_prompt"]) and not hand.improving(*weights["probe"])
    unfinished = "no verdict, a cell was still improving ↗"
    verdicts = {"probe": "significant" if holm["probe"] < 0.05 else "not significant", "lora_prompt": unfinished}
    training = "; ".join(f"{NAMES[m]} {said(*values[m], holm[m], verdicts[m])}" for m in weights)
    pair = [(column, row) for column in (STRONG, WEAK) for row in (STRONG, WEAK)]
    means = {
        "Probe − LoRA + Prompt": {("probe", c, c, r): 0.25 for c, r in pair}
        | {("lora_prompt", c, c, r): -0.25 for c, r in pair},
        "Self-trained − cross-trained": {
            (m, c, c, r): 0.25 if c == r else -0.25 for m in ("probe", "lora_prompt") for c, r in pair
        },
    }
    paired = {
        "Probe − LoRA + Prompt": [(("probe", c, c, r), ("lora_prompt", c, c, r)) for c, r in pair],
        "Self-trained − cross-trained": [
            ((m, r, r, r), (m, c, c, r)) for m in ("probe", "lora_prompt") for c, r in pair if c != r
        ],
    }
    mean, plain = "mean over 3 models, each on its own answers", NAMES[best].replace("Answer", "answer")
    lines = [f"- **Trained − training-free**, against {plain}, {mean}: {training}."]
    for kind, cells in means.items():
        line = hand.difference(cells, "in-distribution")
        assert line["says"] in ("above", "below", "not significant")
        verdict = line["says"] if line["says"].startswith("not") else "significant"
        shown = said(*hand.contrast(cells, HOME), line["p_holm"], verdict)
        parts = [{cell: 1, less: -1} for cell, less in paired[kind]]
        alone = [hand.difference(part, "in-distribution")["says"] for part in parts]
        sides = [f"{alone.count(side)} {side} zero" for side in ("above", "below") if side in alone]
        over = "" if kind.startswith("Probe") else ", of both methods and two scored models"
        two = "of the models with the most and the fewest right validation answers"
        over = f"mean over 4 differences between cells of Figure 1{over}, {two}"
        lines.append(f"- **{kind}**, {over}: {shown}. Significant alone: {' and '.join(sides) or 'none'}.")
    far = [f"{NAMES[method]} {said(*hand.contrast(weights[method], SETS['shift']), None, verdict)}"
           for method, verdict in (("probe", "exploratory"), ("lora_prompt", unfinished))]  # fmt: skip
    lines.append(f"- **Trained − training-free on shift questions**, of other tasks, {mean}: {'; '.join(far)}.")
    shown = page("heatmaps")[0][0]
    assert all(says(shown, line) for line in lines), lines
    says_of = {1: "Training helps: the probe is better", -1: "Training does not help: the probe is worse"}
    sure = verdicts["probe"] == "significant"
    helps = says_of[np.sign(values["probe"][0])] if sure else "The probe shows no significant gain"
    cells = [at("A", method, row, column) for method in ("probe", "lora_prompt") for row in THREE for column in THREE]
    settled = [cell for cell in cells if not hand.improving(cell)]
    above = better_than_chance(hand, settled)
    lead = f"In part: better than chance in {above} of {len(settled)} cells."
    assert shown.startswith(f'<p class="answer">{lead} {helps}') and ". LoRA + Prompt is inconclusive. " in shown


def test_figures_are_numbered_as_they_stand(page):
    texts = [part for part in page("heatmaps")[0] if isinstance(part, str)]
    figures = re.findall(r"<b>Figure (\d+)\.</b> (What training adds)?", "".join(texts))
    assert figures == [("1", ""), ("2", ""), ("3", "What training adds")], "the last, since some runs have none"


def test_what_the_heatmaps_rest_on(page, hand):
    (lines,) = tables(page("heatmaps")[0][12]).values()
    lines = [*zip(*lines)]  # a column for each model
    assert [*lines[0][1:]] == [
        "Layer of its probes",
        "Right answers that chose layer and strength",
        "Steps of its LoRA + Prompt",
    ]
    assert [line[0] for line in lines[1:]] == THREE
    for row, (model, layers, chose, steps) in enumerate(lines[1:]):
        held = [[hand.held["probe", model, model, model, seed, task]["correct"] for task in HOME] for seed in (0, 1)]
        right, count = ([sum(of(part) for part in parts) for parts in held] for of in (sum, len))
        first = [2 + row + 4 * column + seed for column in range(3) for seed in (0, 1)]
        ran = [
            10 * (place + 3)
            for place, key in zip(first, itertools.product(THREE, (0, 1)))
            if (model, *key) not in NEVER_RUN
        ]
        assert (layers, chose, steps) == (span(first), f"{span(right)} of {span(count)}", span(ran)) and len(
            {*right}
        ) == len({*count}) == 2


def test_the_box_of_the_first_page(page, hand):
    lines = {line[0]: line[1:] for line in next(iter(tables(page("heatmaps")[0][1]).values()))[1:]}
    assert lines["Weights"] == [f"owner/{model}-7b-chat, float32" for model in THREE]
    assert lines["Instruction-tuned"] == ["yes"] * 3 and lines["Parameters"] == ["7 billion"] * 3
    for label in ("in-distribution", "shift"):
        graded = [hand.grades[model][hand.grades[model]["task"].isin(SETS[label])]["correct"] for model in THREE]
        right = [f"{grades.sum()} of {len(grades)} ({100 * grades.mean():.0f} %)" for grades in graded]
        assert lines[f"Right answers, {label}"] == right and len({*right}) == 3
        assert lines[f"Test questions, {label}"][0].startswith(f"{len(graded[0])} questions (")
    assert lines["Seeds"] == ["2 (seeds 0, 1)"]


def claimed(hand) -> list[dict]:
    """Every measured difference of the claims: what `Hand.primary` has, and low, high, says and reason."""
    lines = []
    for line in hand.primary:
        low, high = interval(line["drawn"])
        small, above = line["p_margin_holm"] < 0.05, line["p_holm"] < 0.05 and line["estimate"] > 0
        open_ = (
            "neither significantly above zero nor below 0.025, after Holm's correction" if not (small or above) else ""
        )
        why = "a cell was still improving when training ended" if hand.improving(*line["weights"]) else open_
        lines.append(
            line
            | {
                "low": low,
                "high": high,
                "reason": why,
                "says": "inconclusive" if why else "fails" if small else "holds",
            }
        )
    return lines


def verdict(lines: list[dict]) -> str:
    says = {line["says"] for line in lines}
    return "fails" if "fails" in says else "holds" if says == {"holds"} else "inconclusive"


def of_figure(claim: dict) -> list[dict]:
    """The contrasts of a claim in the eight values of the figure."""
    value = {
        f"{method}/{model}/{column}": values[at]
        for method, rows in FIGURE.items()
        for model, values in rows.items()
        for at, column in enumerate(rows)
    }
    estimates = {
        name: round(sum(weight * value[place] for place, weight in weights.items()), 9)
        for name, weights in claim["contrasts"].items()
    }
    return [
        {"contrast": name, "estimate": estimate + 0.0, "says": "holds" if estimate > 0 else "fails"}
        for name, estimate in estimates.items()
    ]


def test_every_difference_of_the_claims(page, hand):
    _, table = page("claims")
    measured, expected = table[table["source"] == "measured"], claimed(hand)
    assert len(measured) == len(expected) == 56 and {line["says"] for line in expected} == {
        "holds",
        "fails",
        "inconclusive",
    }
    for shown, line in zip(measured.itertuples(), expected):
        assert [shown.claim, shown.contrast, shown.reading, shown.says, shown.reason] == [
            line[name] for name in ("claim", "contrast", "reading", "says", "reason")
        ]
        names = ("estimate", "low", "high", "p", "p_margin", "p_holm", "p_margin_holm")
        assert [getattr(shown, name) for name in names] == pytest.approx([line[name] for name in names], abs=1e-6), line
        named = {
            f"{weight:+g} {NAMES[method]}, {reader} trained on {trained_on}, scored on {scored}"
            for (method, reader, trained_on, scored), weight in line["weights"].items()
        }
        assert {*shown.cells.split("; ")} == named and shown.n_rarer == min(
            hand.rarer(cell[3], HOME) for cell in line["weights"]
        )
    figure = table[table["source"] == "figure"]
    for shown, line in zip(figure.itertuples(), [line for claim in CLAIMS for line in of_figure(claim)], strict=True):
        assert (shown.contrast, shown.says) == (line["contrast"], line["says"]) and shown.estimate == pytest.approx(
            line["estimate"]
        )
    head, *lines = next(iter(tables(page("claims")[0][5]).values()))
    assert head == [
        "Claim",
        "Difference",
        "By",
        "Of the cells",
        "Estimate",
        "95 % interval",
        "p (Holm) of zero",
        "p (Holm) of 0.025 or more",
        "Verdict",
        "Because",
    ]
    shown = [
        [
            line["claim"],
            line["contrast"],
            f"measured, {line['reading']}",
            f"{signed(line['estimate'], 3)}",
            f"{signed(line['low'], 3)} to {signed(line['high'], 3)}",
            shown_p(line["p_holm"]),
            shown_p(line["p_margin_holm"]),
            line["says"],
            line["reason"],
        ]
        for line in expected
    ]
    assert same([[*line[:3], *line[4:]] for line in lines if line[2].startswith("measured")], shown)


def test_the_sentences_and_verdicts_of_the_claims(page, hand):
    (_, _, summary, verdicts, _, _, findings, *_), _ = page("claims")
    by = {
        ("measured", reading): {
            claim["claim"]: [
                line for line in claimed(hand) if (line["claim"], line["reading"]) == (claim["claim"], reading)
            ]
            for claim in CLAIMS
        }
        for reading in "AB"
    }
    by["figure", ""] = {claim["claim"]: of_figure(claim) for claim in CLAIMS}
    leads = {
        ("measured", "A"): "Measured here, reading A",
        ("measured", "B"): "Measured here, reading B",
        ("figure", ""): "By its own numbers",
    }
    (head, *lines), marks = (
        next(iter(tables(verdicts).values())),
        {"holds": "✓ holds", "fails": "✗ fails", "inconclusive": "? inconclusive"},
    )
    for source, of_claims in by.items():
        count = Counter(verdict(lines) for lines in of_claims.values())
        holds, fails = (f"{count[word]} {word if count[word] == 1 else word[:-1]}" for word in ("holds", "fails"))
        assert (
            f"- {leads[source]}: of 9 claims, {holds}, {fails}, {count['inconclusive']} inconclusive."
            in summary.splitlines()
        )
        column = head.index({"figure": "Its own numbers"}.get(source[0], leads[source]))
        assert {line[0]: line[column].replace("\xa0", " ") for line in lines} == {
            claim: marks[verdict(of)] for claim, of in of_claims.items()
        }
        for claim, of in of_claims.items():
            shown = findings.split(f"### {claim}\n")[1].split("\n### ")[0].splitlines()
            lead = f"- {leads[source]}, it **{verdict(of).replace('inconclusive', 'is inconclusive')}**:"
            one, *more = deciding(of)
            lines_of = [lead, *(f"  - {part}" for part in (one, *more))] if more else [f"{lead} {one}."]
            assert any(same(shown[at : at + len(lines_of)], lines_of) for at in range(len(shown)))
    assert f"Here {STRONG} stands for Mistral, and {WEAK} for LLaMA-2" in summary
    assert f"The 56 measured differences, of both readings, are {hand.distinct} distinct primary hypotheses" in summary
    assert "gives its values in steps of 0.05, so that a difference below 0.025 could not be seen in it" in summary
    wrong = [claim for claim, lines in by["figure", ""].items() if verdict(lines) == "fails"]
    assert f"in {len(wrong)} of its claims: {'; '.join(f'“{claim}”' for claim in wrong)}." in summary


def deciding(lines: list[dict]) -> list[str]:
    """The differences that a claim's verdict rests on, at most three of them."""
    says = verdict(lines)
    those = (
        [line for line in lines if line["says"] == says]
        if says != "holds"
        else [min(lines, key=lambda line: line["estimate"])]
    )
    lead = "the smallest difference is " if says == "holds" and len(lines) > 1 else ""
    shown = [
        f"{line['contrast']}, {signed(line['estimate'])}"
        + (f" ({signed(line['low'])} to {signed(line['high'])})" if "low" in line else "")
        + (f", {line['reason']}" if line.get("reason") else "")
        for line in those[:3]
    ]
    return [lead + shown[0], *shown[1:], *([f"and {len(those) - 3} more"] if len(those) > 3 else [])]


def asked(hand) -> dict[tuple[str, str, str], dict]:
    """Every difference that the page on differences has, by kind, reading and what: the weights of its cells."""
    there = {cell for cell in hand.seeds if cell[0] in ("probe", "lora_prompt")}
    contrasts = {}
    for reading, row, column in itertools.product("AB", THREE, THREE):
        cell = at(reading, "probe", row, column)
        if ("lora_prompt", *cell[1:]) in there:
            shown = "A and B" if row == column else reading
            contrasts["Probe − LoRA + Prompt", shown, f"{cell[1]} trained on {cell[2]}, scored on {cell[3]}"] = {
                cell: 1.0,
                ("lora_prompt", *cell[1:]): -1.0,
            }
    for reading, method, row in itertools.product("AB", ("probe", "lora_prompt"), THREE):
        others = [cell for column in THREE if column != row and (cell := at(reading, method, row, column)) in there]
        contrasts["Self-trained − cross-trained", reading, f"{NAMES[method]}, scored on {row}"] = {
            native(method, row): 1.0
        } | dict.fromkeys(others, -1 / len(others))
    for method, scored in itertools.product(("probe", "lora_prompt"), THREE):
        readers = sorted(reader for reader in THREE if (method, reader, scored, scored) in there)
        for reader in readers if len(readers) > 2 else readers[:1]:
            others = [(method, other, scored, scored) for other in readers if other != reader]
            less = "the others" if len(others) > 1 else others[0][1]
            what = f"{NAMES[method]} trained and scored on {scored}: reader {reader} − {less}"
            contrasts["A reader − the other readers", "", what] = {
                (method, reader, scored, scored): 1.0
            } | dict.fromkeys(others, -1 / len(others))
    return contrasts


def test_every_difference_of_the_page_on_differences(page, hand):
    (text, _, html), table = page("differences")
    expected = asked(hand)
    assert {name: {*group["says"]} for name, group in table.groupby("test_set")}["in-distribution"] == {
        "above",
        "below",
        "not significant",
        "exploratory",
        UNFINISHED,
    }
    for test_set in SETS:
        differences = table[table["test_set"] == test_set].set_index(["kind", "reading", "what"])
        assert {*differences.index} == {*expected} and len(differences) == len(expected) == 14 + 12 + 16
        head, *shown = tables(html)[test_set]
        assert head == [
            "Kind",
            "Reading",
            "Of",
            "Difference",
            "95 % interval",
            "p",
            "p (Holm)",
            "Right or wrong, the fewer",
            "Verdict",
        ]
        for (key, shown_line), texts in zip(differences.iterrows(), shown, strict=True):
            line = hand.difference(expected[key], test_set)
            names = ("estimate", "low", "high", "p", "p_holm")
            assert shown_line[[*names]].astype(float).tolist() == pytest.approx(
                [line[name] for name in names], abs=1e-6, nan_ok=True
            ), (test_set, key)
            assert (shown_line["says"], shown_line["n_rarer"]) == (line["says"], line["n_rarer"]), (test_set, key)
            holm, few = "—" if np.isnan(line["p_holm"]) else shown_p(line["p_holm"]), line["n_rarer"] < 25
            values = (
                ["—"] * 4
                if few
                else [
                    f"{signed(line['estimate'], 3)}",
                    f"{signed(line['low'], 3)} to {signed(line['high'], 3)}",
                    shown_p(line["p"]),
                    holm,
                ]
            )
            assert same(texts, [*key, *values, str(line["n_rarer"]), line["says"]]), (test_set, key)
    lines = {key: hand.difference(weights, "in-distribution") for key, weights in expected.items()}
    for kind in {key[0] for key in lines}:
        of_kind = [line for key, line in lines.items() if key[0] == kind]
        count = Counter(line["says"] for line in of_kind)
        parts = ", ".join(
            f"{count[word]} {word}"
            for word in ("above", "below", "not significant", "exploratory", UNFINISHED, FEW)
            if count[word]
        )
        ends = [of(line["estimate"] for line in of_kind) for of in (min, max)]
        assert says(
            text,
            f"- **{kind}**: {parts} of {len(of_kind)}; the differences are {signed(ends[0])} to {signed(ends[1])}.",
        )


def changed(hand, method: str, model: str, test_set: str) -> dict:
    """A native cell on a shift: value, interval, and its change from in-distribution; `FEW` where one of the two is."""
    cell, tasks = native(method, model), SETS[test_set]
    change = hand.auroc(cell, tasks) - hand.auroc(cell, HOME)
    drawn = hand.drawn(cell, tasks) - hand.drawn(cell, HOME)
    few, none = min(hand.rarer(model, tasks), hand.rarer(model, HOME)) < 25, reason(hand, cell, tasks) != ""
    values = {
        "auroc": np.nan if none else hand.auroc(cell, tasks),
        "low": interval(hand.drawn(cell, tasks))[0] if not none else np.nan,
        "high": interval(hand.drawn(cell, tasks))[1] if not none else np.nan,
    }
    values |= (
        dict.fromkeys(("change", "change_low", "change_high", "p"), np.nan)
        if few
        else dict(zip(("change", "change_low", "change_high"), (change, *interval(drawn))))
        | {"p": p_value(change, drawn)}
    )
    return values | {"says": UNFINISHED if hand.improving(cell) else FEW if few else "exploratory"}


def test_every_change_of_the_page_on_shift(page, hand):
    (sentences, _, html, *_), table = page("shift")
    cells, methods = (
        table.set_index(["method", "scored", "test_set"]),
        ("probe", "lora_prompt", "zero_shot", "likelihood"),
    )
    assert {*cells.index} == {*itertools.product(methods, THREE, ("in-distribution", "nq_open", "capitals"))}
    for model in THREE:
        head, *lines = tables(html)[f"{model} on its own answers: AUROC, 95 % interval; less in-distribution"]
        assert head == ["Test questions", "Right answers", "Tasks measured", *(NAMES[method] for method in methods)]
        lines, sentence = {line[0]: line[1:] for line in lines}, []
        for test_set in ("in-distribution", "nq_open", "capitals"):
            right, texts, parts = hand.graded(model, SETS[test_set]), [], []
            for method in methods:
                line, by_hand = cells.loc[(method, model, test_set)], changed(hand, method, model, test_set)
                names = (
                    [name for name in by_hand if name != "says"]
                    if test_set != "in-distribution"
                    else ["auroc", "low", "high"]
                )
                assert line[names].astype(float).tolist() == pytest.approx(
                    [by_hand[name] for name in names], abs=1e-6, nan_ok=True
                ), (model, method, test_set)
                assert line["says"] == by_hand["says"] if test_set != "in-distribution" else pd.isna(line["says"])
                auroc, low, high, change = (by_hand[name] for name in ("auroc", "low", "high", "change"))
                text, moved = "—" if np.isnan(auroc) else f"{auroc:.3f} ({low:.3f} – {high:.3f})", not np.isnan(change)
                texts.append(text + (f"; {signed(change, 3)}" if moved and test_set != "in-distribution" else ""))
                unfinished = f", {UNFINISHED}" if by_hand["says"] == UNFINISHED else ""
                between = f"from {signed(by_hand['change_low'])} to {signed(by_hand['change_high'])}"
                change = f" ({signed(change)}, {between}{unfinished})" if moved else ""
                parts.append(f"{NAMES[method]} {auroc:.2f}{change}")
            there = len(hand.measurable(model, SETS[test_set]))
            assert same(lines[test_set], [str(right.sum()), f"{there} of {len(SETS[test_set])}", *texts]), (
                model,
                test_set,
            )
            few = f"no value ({reason(hand, ('probe', model, model, model), SETS[test_set])})"
            sentence.append(f"on {test_set}, {', '.join(parts) if '—' not in texts else few}")
        at = sentences.splitlines().index(f"- **{model}**, on its own answers:") + 1
        shown = [f"  - {part}." for part in sentence[1:]]
        assert same(sentences.splitlines()[at : at + len(shown)], shown)


def test_what_leaving_a_task_out_costs(page, hand):
    *_, sentence, html = page("shift")[0]
    (head, *lines), changes = next(iter(tables(html).values())), []
    assert head == [
        "Method",
        "Model",
        "Task",
        "Right answers",
        "Trained with it",
        "Trained without it",
        "Change, 95 % interval",
    ]
    assert [line[:3] for line in lines] == [["Probe", model, "sciq"] for model in sorted(THREE)]
    for _, model, _, right, with_it, without, change in lines:
        known, unknown = ((method, model, model, model) for method in ("probe", "probe_without_sciq"))
        assert right == str(hand.graded(model, ["sciq"]).sum())
        if hand.rarer(model, ["sciq"]) < 25:
            assert (with_it, without, change) == ("—",) * 3
            continue
        a, b = (hand.auroc(cell, ["sciq"]) for cell in (known, unknown))
        low, high = interval(hand.drawn(unknown, ["sciq"]) - hand.drawn(known, ["sciq"]))
        moved = f"{signed(b - a, 3)} ({signed(low, 3)} to {signed(high, 3)})"
        assert same([with_it, without, change], [f"{a:.3f}", f"{b:.3f}", moved])
        changes += [(b - a, high)] * (not hand.improving(known, unknown))
    few, unfinished = sum(line[4] == "—" for line in lines), sum(line[4] != "—" for line in lines) - len(changes)
    falls = f"{sum(high < 0 for _, high in changes)} of {len(changes)} cases"
    expected = (
        f"Without a task in training, AUROC on it changes by {signed(min(changes)[0])} to {signed(max(changes)[0])}. "
        f"It falls in {falls} by an interval below zero; {few} more rest on fewer than 25 right or wrong answers; "
        f"{unfinished} more were still improving when training ended."
    )
    assert same(sentence, expected)


def test_the_probe_of_one_task_is_tested_on_every_task(page, hand):
    _, _, _, sentences, chart, html, *_ = page("shift")[0]
    drawn = {(line["learned"], line["test_set"]): line["auroc"] for line in dataset(chart) if "row" in line}
    places = {"trivia_qa": "probe_without_sciq", "all of these": "probe"}
    assert len(drawn) == 3 * len(FOUR)
    for model in THREE:
        grid = tables(html)[
            f"{model} on its own answers: AUROC by task tested, 95 % interval, and number of test answers"
        ]
        head, *lines = grid
        assert head == ["Trained on", "Training answers", *(task["name"] for task in FOUR)]
        learned = hand.answers[model].query("split == 'train'")["task"].value_counts()
        for (name, count, *values), known in zip(lines, ("sciq", "trivia_qa", "all of these"), strict=True):
            assert (name, int(count)) == (known, learned.get(known, learned.sum()))
            for task, value in zip(head[2:], values):
                cell, right = (places.get(name), model, model, model), hand.graded(model, [task])
                if name == "sciq" or hand.rarer(model, [task]) < 25:
                    assert value.startswith("— (")
                    continue
                low, high = interval(hand.drawn(cell, [task]))
                assert same(value, f"{hand.auroc(cell, [task]):.3f} ({low:.3f} – {high:.3f}) of {len(right)}")
    assert sentences.count("\n- **") == 3


def test_estimators_of_other_models_answers_beside_the_self_trained_one(page, hand):
    sentences, html = page("controls")[0][5:7]
    ran = {("lora_prompt", *line[:2]) for line in itertools.product(THREE, THREE, (0, 1)) if line not in NEVER_RUN}
    for model in THREE:
        right = hand.graded(model, HOME)
        head, *lines = tables(html)[f"{model} on its own answers: {right.sum()} right of {len(right)}"]
        assert head == [
            "Method", "Trained on", "Training answers", "AUROC, 95 % interval", "Difference from self-trained"
        ]  # fmt: skip
        trained = [model, *(other for other in THREE if other != model)]
        places = [("probe", on) for on in trained]
        places += [("lora_prompt", on) for on in trained if ("lora_prompt", model, on) in ran]
        assert [(line[0], line[1]) for line in lines] == [(NAMES[method], on) for method, on in places]
        parts = {"probe": [], "lora_prompt": []}
        for (method, on), (_, _, count, value, text) in zip(places, lines):
            cell, own = (method, model, on, model), native(method, model)
            low, high = interval(hand.drawn(cell, HOME))
            assert int(count) == (hand.answers[on]["split"] == "train").sum()
            assert same(value, f"{hand.auroc(cell, HOME):.3f} ({low:.3f} – {high:.3f})")
            if on == model:
                assert text == ""
                continue
            line = hand.difference({cell: 1.0, own: -1.0}, "in-distribution")
            p = named_p(line["p"]) if np.isnan(line["p_holm"]) else f"{named_p(line['p_holm'])} after Holm"
            estimate, low, high = (signed(line[name], 3) for name in ("estimate", "low", "high"))
            assert same(text, f"{estimate} ({low} to {high}), {p}, {line['says']}")
            parts[method].append(f"{on} {signed(line['estimate'])} ({line['says']})")
        for method, those in parts.items():
            assert says(sentences, f"- **{model}**, on its own answers, {NAMES[method]}: {'; '.join(those)}.")
    assert sentences.endswith("This run has no Probe or LoRA + Prompt that was trained on all models' answers.")


def test_every_number_of_the_page_on_controls(page, hand):
    (sentences, _, html, *_), table = page("controls")
    cells = table.set_index(["method", "scored"])
    assert {*cells.index} == {*itertools.product(NAMES, THREE)}
    for model in THREE:
        right, probe = hand.graded(model, HOME), native("probe", model)
        head, *lines = tables(html)[f"{model} on its own answers: {right.sum()} right of {len(right)}. {BENEATH}"]
        assert head == ["Method", "AUROC", "Difference from the probe", *METRICS.values()]
        less, lines = {}, {line[0]: line[1:] for line in lines}
        for method in NAMES:
            cell, text = native(method, model), lines[NAMES[method]]
            low, high = interval(hand.drawn(cell, HOME))
            assert same(text[0], f"{hand.auroc(cell, HOME):.3f}<br/><small>{low:.3f} – {high:.3f}</small>")
            values = hand.measures(cell, HOME)
            assert [above(value) for value in text[2:]] == pytest.approx([values[name] for name in METRICS], abs=3e-3)
            if method != "probe":
                less[method] = line = hand.difference({cell: 1.0, probe: -1.0}, "in-distribution")
                names = {
                    "difference": "estimate",
                    "difference_low": "low",
                    "difference_high": "high",
                    "p": "p",
                    "p_holm": "p_holm",
                }
                assert cells.loc[(method, model), [*names]].astype(float).tolist() == pytest.approx(
                    [line[name] for name in names.values()], abs=1e-6, nan_ok=True
                )
                p = named_p(line["p"]) if np.isnan(line["p_holm"]) else f"{named_p(line['p_holm'])} after Holm"
                estimate, low, high = (signed(line[name], 3) for name in ("estimate", "low", "high"))
                assert same(text[1], f"{estimate} ({low} to {high}), {p}, {line['says']}")
        words = {
            "above": "Above it",
            "not significant": "Not significantly different",
            "below": "Below it",
            "exploratory": "Exploratory, by their difference",
            UNFINISHED: f"With one of the two {UNFINISHED} when training ended",
        }
        by = {
            word: [
                method for method in sorted(less, key=lambda m: -less[m]["estimate"]) if less[method]["says"] == verdict
            ]
            for verdict, word in words.items()
        }
        parts = [
            f"{word}: " + ", ".join(f"{NAMES[method]} ({signed(less[method]['estimate'])})" for method in those) + "."
            for word, those in by.items()
            if those
        ]
        low, high = interval(hand.drawn(probe, HOME))
        value = f"the probe has {hand.auroc(probe, HOME):.2f} ({low:.2f} to {high:.2f}). {' '.join(parts)}"
        assert says(sentences, f"- **{model}**, on its own answers: {value}")


def test_the_metrics_of_all_tasks_together(page, hand):
    parts = page("controls")[0][2].split("<details>")[1:]
    for model, part in zip(sorted(THREE), parts, strict=True):
        head, *lines = tables(part)[""]
        assert head == ["Method", "AUROC", *METRICS.values()] and {line[0] for line in lines} == {*NAMES.values()}
        for method, name in NAMES.items():
            (values,) = [line[1:] for line in lines if line[0] == name]
            measures = hand.measures(native(method, model), HOME, pooled=True)
            assert [above(value) for value in values] == pytest.approx(
                [measures[name] for name in ("auroc", *METRICS)], abs=3e-3
            ), (model, method)


def test_what_needs_no_training_and_what_less_of_it_gives(page, hand):
    (_, _, _, html, below, _, _, layers, _, sizes, _, no_sweep, *places_of_tokens), _ = page("controls")
    for test_set in SETS:
        head, *lines = tables(html)[f"AUROC by scored model, {test_set}"]
        assert head == ["Method", "Reader", *sorted(THREE)] and len(lines) == 4
        for name, reader, *values in lines:
            method = {"Answer likelihood": "likelihood", "Zero-shot P(True)": "zero_shot"}[name]
            assert same(values, [drawn_in(hand, (method, reader, "", model), SETS[test_set]) for model in head[2:]])
    places = [("zero_shot", reader, "", scored) for reader in THREE for scored in THREE]
    ends = {cell: interval(hand.drawn(cell, HOME)) for cell in places}
    (cell,) = [cell for cell in places if ends[cell][1] < 0.5]
    assert same(
        below.split("one half: ")[1].split(". There")[0],
        f"Zero-shot P(True) of reader {cell[1]}, scored on {cell[3]}: "
        f"{hand.auroc(cell, HOME):.2f} ({ends[cell][0]:.2f} to {ends[cell][1]:.2f})",
    )
    chosen = {model: {2 + 5 * at, 3 + 5 * at} for at, model in enumerate(THREE)}
    for line in {line["scored"] + str(line["layer"]): line for line in dataset(layers)}.values():
        assert line["validation_auroc"] == pytest.approx(
            np.mean([0.7 - abs(line["layer"] - at) / 100 for at in chosen[line["scored"]]]), abs=1e-4
        )
        assert line["chosen"] == (line["layer"] in chosen[line["scored"]]) and line["depth"] == pytest.approx(
            line["layer"] / 19, abs=1e-4
        )
    assert no_sweep == "<p>There is no sweep to show.</p>" and places_of_tokens == ["", None, ""]
    head, *lines = next(iter(tables(sizes).values()))
    assert head == ["Model", "20", "all"] and {line[0] for line in lines} == {*THREE}
    for model, *values in lines:
        for method, value in zip(("probe_n20", "probe"), values):
            low, high = interval(hand.drawn((method, model, model, model), HOME))
            assert same(value, f"{hand.auroc((method, model, model, model), HOME):.3f} ({low:.3f} – {high:.3f})")


ESTIMATOR = {"method": "probe", "reader": "cedar", "trained_on": "birch"}


def test_every_number_of_the_page_of_a_cell(page, hand):
    (_, html, training, _, _, _), table = page("cell", **ESTIMATOR)
    head, *lines = tables(html)[BENEATH]
    shown = {(line[0], line[2]): dict(zip(head, line)) for line in lines}
    assert {*shown} == {*itertools.product(THREE, SETS)}
    for (scored, test_set), line in shown.items():
        cell, tasks = (*ESTIMATOR.values(), scored), SETS[test_set]
        right, why = hand.graded(scored, tasks), reason(hand, cell, tasks)
        assert (line["Method"], line["Right answers"], line["Answers"], line["No value because"]) == (
            "Probe",
            str(right.sum()),
            str(len(right)),
            why,
        )
        if not why:
            low, high = interval(hand.drawn(cell, tasks))
            assert same(line["AUROC"], f"{hand.auroc(cell, tasks):.3f}<br/><small>{low:.3f} – {high:.3f}</small>")
            assert above(line["Brier score"]) == pytest.approx(hand.measures(cell, tasks)["brier"], abs=6e-4)
    assert training.startswith("Probe was not still improving when its training ended")
    for scored, answers in table.groupby("scored"):
        logit = np.mean(
            [
                pd.concat(
                    hand.test[*ESTIMATOR.values(), scored, seed, task] for task in (t["name"] for t in FOUR)
                ).set_index("question_id")["logit"]
                for seed in (0, 1)
            ],
            axis=0,
        )
        order = pd.concat(hand.test[*ESTIMATOR.values(), scored, 0, task] for task in (t["name"] for t in FOUR))[
            "question_id"
        ]
        assert answers.set_index("question_id").loc[order, "p_correct"].tolist() == pytest.approx(
            expit(logit).tolist(), abs=1e-6
        )


def test_the_answers_that_it_was_most_wrong_about(page, hand):
    (*_, html), table = page("cell", **ESTIMATOR)
    blocks = re.findall(r"<summary>Probe on the answers of (\w+): (.*?)</summary>(.*?)</details>", html, re.DOTALL)
    assert {block[:2] for block in blocks} == {
        *itertools.product(THREE, ("highest confidence, though wrong", "lowest confidence, though right"))
    }
    for scored, kind, table in blocks:
        frame = hand.grades[scored][hand.grades[scored]["task"].isin(HOME)].set_index("question_id")
        logit = (
            pd.concat(hand.test[*ESTIMATOR.values(), scored, seed, task] for seed in (0, 1) for task in HOME)
            .groupby("question_id")["logit"]
            .mean()
        )
        wrong = kind.endswith("wrong")
        worst = expit(logit[frame.index[frame["correct"] != wrong]].astype(float)).sort_values(ascending=not wrong)[:10]
        lines = tables(table)[""][1:]
        assert same([line[0] for line in lines], [f"{p:.2f}" for p in worst])
        for _, question, answer, gold, task in lines:
            name = question.removeprefix("Which is ").removesuffix("?")
            assert (answer, gold, task) == (
                f"{scored} on {name}",
                f"gold {name}; {name}",
                frame.loc[name, "task"],
            ) and frame.loc[name, "correct"] != wrong


def test_every_curve_of_a_cell(page, hand):
    drawn = {
        (line["scored"], line["test_set"], line["curve"], line["series"]): line
        for line in dataset(page("cell", **ESTIMATOR)[0][0])
        if "curve" in line
    }
    for scored, test_set in itertools.product(THREE, ("in-distribution", "trivia_qa")):
        cell, tasks = (*ESTIMATOR.values(), scored), SETS[test_set]
        parts = [hand.test[*cell, seed, task] for seed in (0, 1) for task in tasks]
        risk, roc = drawn[scored, test_set, "risk", ""], drawn[scored, test_set, "roc", ""]
        for share, value in zip(risk["x"], risk["y"]):
            assert value == pytest.approx(np.mean([risk_at(part, share) for part in parts]), abs=1e-4)
        assert np.trapezoid(roc["y"], roc["x"]) == pytest.approx(hand.auroc(cell, tasks), abs=0.015)
        whole = pd.concat(parts)
        for series, right in (("right", True), ("wrong", False)):
            p = expit(whole.loc[whole["correct"] == right, "logit"].astype(float))
            line = drawn[scored, test_set, "confidence", series]
            assert line["y"] == pytest.approx(
                [((p >= middle - 0.025) & (p < middle + 0.025)).mean() for middle in line["x"]], abs=1e-4
            )
        fitted = {seed: hand.calibrated(*ESTIMATOR.values(), ESTIMATOR["trained_on"], seed)[1] for seed in (0, 1)}
        after = np.concatenate(
            [
                expit(slope * part["logit"] + offset)
                for part in parts
                for slope, offset in [fitted[part["seed"].iloc[0]]]
            ]
        )
        for series, p in (("as it is", expit(whole["logit"].to_numpy(float))), ("after Platt scaling", after)):
            line = drawn[scored, test_set, "reliability", series]
            right, edges = whole["correct"].to_numpy(bool), np.arange(11) / 10
            bins = [(p >= low) & ((p < high) | (high == 1)) for low, high in zip(edges, edges[1:])]
            sizes = [bin.sum() / 2 for bin in bins if bin.any()]  # two seeds have scored the same answers
            for name, values in (("x", p), ("y", right)):
                assert line[name] == pytest.approx([values[bin].mean() for bin in bins if bin.any()], abs=1e-3)
            for low, value, high, n in zip(line["low"], line["y"], line["high"], sizes):
                middle, spread = (
                    (value * n + 1.92) / (n + 3.84),
                    1.96 / (n + 3.84) * np.sqrt(value * (1 - value) * n + 0.96),
                )
                assert [low, high] == pytest.approx([middle - spread, middle + spread], abs=1e-3)


def risk_at(part: pd.DataFrame, share: float) -> float:
    """Wrong answers among the most confident share, ties by their share."""
    k, logit, wrong = int(np.ceil(round(share * len(part), 6))), part["logit"].to_numpy(), ~part["correct"].to_numpy()
    last = np.sort(logit)[-k]
    above, tied = logit > last, logit == last
    return (wrong[above].sum() + (k - above.sum()) * wrong[tied].mean()) / k
