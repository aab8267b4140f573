"""The cells of the heatmaps: the scores that they average, and their axes.

The tensor is score[method, reader, trained_on, scored, task, seed]; a heatmap is a slice of it.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from whoknows import WhoknowsError
from whoknows.data import files
from whoknows.data.methods import TRAINED, TRAINING_FREE
from whoknows.data.rows import ALL_MODELS, NO_ROWS
from whoknows.data.tasks import CATEGORIES, category_of, grid_task
from whoknows.evaluation import bootstrap, metrics
from whoknows.evaluation.auroc import MIN_PER_CLASS
from whoknows.evaluation.plateau import UNKNOWN, together
from whoknows.evaluation.scores import CELL, MEASURES, POOLED, by_task, fit_all, pooled, within_task

INTERVALS = (*metrics.RESAMPLED, POOLED + "auroc")  # measures, besides AUROC, that have a bootstrap interval
READINGS = {
    "A": "estimator transfer: the estimator of one model scores the answers of another",
    "B": "data transfer: a model scores its own answers, trained on the answers of another",
}
COMPARED = ("probe", "lora_prompt")  # the trained methods that pages compare with each other
ALL = "all"  # reader, trained on and scored, each by itself: A and B are parts of it
# Why a place of the heatmaps has no rows.
ABSENT = "no rows: nothing can be learned from these answers, its stage did not finish, or the grid leaves it out"
MOST_FOR_ALL = 4  # models that read and are scored; more have too many combinations for one picture


def read_rows(
    folder: Path | str, models: list[str], methods: list[str], seeds: list[int], variants: Sequence[str] = ()
) -> pd.DataFrame:
    """The rows under a folder that a grid has: those of models, methods and seeds that it no longer has are left out.

    Args:
        folder: rows/ or controls/ of a run; what is not there yet is left out.
        methods: trained methods, "probe" for both kinds of it; what needs no training is always read.
        variants: the other trainings of LoRA that the grid has among its controls.

    Raises:
        WhoknowsError: a file is damaged, or rows contradict each other.
    """
    paths = {path: path.relative_to(folder).parts for path in sorted(Path(folder).rglob("*.parquet"))}
    kept = [path for path, parts in paths.items() if parts[0] != "lora" or parts[1] in variants]
    rows = pd.concat([NO_ROWS, *map(files.read_parquet, kept)], ignore_index=True)
    asked = rows["method"].map(TRAINED).isin(methods) | ~rows["method"].isin([*TRAINED])
    asked &= rows["seed"].isin(seeds) | (rows["trained_on"] == "")
    for name in ("reader", "trained_on", "scored"):
        asked &= rows[name].isin([*models, "", ALL_MODELS])
    check(rows[asked])
    return rows[asked]


def read_with_baselines(
    folder: Path | str, more: Path | str, models: list[str], methods: list[str], seeds: list[int]
) -> pd.DataFrame:
    """What `read_rows` returns of a run's rows/, and of its controls/ those of the training-free methods."""
    rows, controls = (read_rows(place, models, methods, seeds) for place in (folder, more))
    rows = pd.concat([rows, controls[controls["method"].isin(TRAINING_FREE)]], ignore_index=True)
    check(rows)
    return rows


def read_with_controls(
    folder: Path | str, more: Path | str, models: list[str], methods: list[str], seeds: list[int], variants: list[str]
) -> pd.DataFrame:
    """What `read_rows` returns of a run's rows/ and of its controls/, together."""
    rows = pd.concat([read_rows(place, models, methods, seeds, variants) for place in (folder, more)])
    check(rows := rows.reset_index(drop=True))
    return rows


def check(rows: pd.DataFrame) -> None:
    """Refuse rows that cannot all be true: a file of another run, or scored and trained on swapped.

    Raises:
        WhoknowsError: an answer has two grades, or a question is in the test split and in another.
    """
    remedy = "delete results/<grid>/rows and controls, and run make book again"
    grades = rows.groupby(["scored", "question_id"])["correct"].nunique()
    if (grades > 1).any():
        scored, question = grades.idxmax()
        where = f"{scored}'s answer to {question}"
        raise WhoknowsError(f"rows: {where} is right in one row and wrong in another; {remedy}.")
    tested = (rows["split"] == "test").groupby(rows["question_id"]).nunique()
    if (tested > 1).any():
        raise WhoknowsError(f"rows: the question {tested.idxmax()} is in the test split and in another; {remedy}.")


def own_reader(scored: pd.Series, readers: Sequence[str] = ()) -> pd.Series:
    """Who reads a model's answers where it is with its own: itself, or the first of `readers`, if not all read."""
    return scored.where(scored.isin(readers), readers[0]) if readers else scored


def native_rows(rows: pd.DataFrame, readers: Sequence[str] = ()) -> pd.DataFrame:
    """The rows of what read (see `own_reader`) and was trained on the very model that is scored, or needs neither."""
    reader = (rows["reader"] == "") | (rows["reader"] == own_reader(rows["scored"], readers))
    return rows[reader & ((rows["trained_on"] == "") | (rows["trained_on"] == rows["scored"]))]


def test_sets(tasks: list[dict], measured: list[str]) -> dict[str, list[str]]:
    """The test sets that a grid's tasks make: in-distribution, shift, each task alone, and MMLU's four categories.

    Args:
        tasks: the grid's tasks, dicts with name and role ("train" or "shift").
        measured: task names in the rows; a grid's "mmlu" stands there as "mmlu_anatomy" and so on.
    """
    names = [task["name"] for task in tasks]
    members = {name: [m for m in measured if grid_task(m, names) == name] or [name] for name in names}
    sets = {}
    for label, role in {"in-distribution": "train", "shift": "shift"}.items():
        names = [task["name"] for task in tasks if task["role"] == role]
        if names:
            sets[label] = [member for name in names for member in members[name]]
        if len(names) > 1:
            sets |= {name: members[name] for name in names}
        for name in names if role == "shift" else ():
            sets |= _categories(name, members[name])
    return sets


def first_test_set(tasks: list[dict], rows: pd.DataFrame) -> tuple[str, list[str]]:
    """The test set that pages are about unless they say otherwise: its label and the tasks in it."""
    return next(iter(test_sets(tasks, sorted(rows["task"].unique())).items()))


def _categories(name: str, members: list[str]) -> dict[str, list[str]]:
    """The four categories of MMLU as test sets; nothing for any other task."""
    if name not in ("mmlu", "mmlu_mc"):
        return {}
    labels = {category: f"{name}, {category}" for category in (*CATEGORIES, "STEM")}
    return {label: [m for m in members if category_of(m) == category] or [label] for category, label in labels.items()}


def measure(
    rows: pd.DataFrame, scores: pd.DataFrame, tasks: list[dict], samples: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Every cell on every test set: within-task means, pooled beside them, averaged over seeds.

    Args:
        rows: of any methods, as `plateau.mark` returns if it is to be known whose training ended too early.
        scores: `scores.by_task` of those rows; measures that it leaves out are not pooled either.
        samples: `bootstrap.samples` of those rows, if they are there already.

    Returns:
        The columns of `within_task` without seed and those of `pooled`, and test_set, seeds (how many), lowest_seed and
        highest_seed (their AUROC), low and high (the 95 % bootstrap interval of auroc), p_chance (that it is one half),
        low_… and high_… (the interval of each measure of `INTERVALS`, unless `scores` has AUROC alone) and unsettled
        (see `plateau.mark`; of any seed).
    """
    parts, samples = [], bootstrap.samples(rows) if samples is None else samples
    fitted = fit_all(rows) if scores["brier"].notna().any() else {}
    others = bootstrap.metric_samples(rows, fitted) if fitted else {}
    why = rows.get("unsettled", pd.Series(UNKNOWN, rows.index))
    trained = rows.assign(unsettled=why).groupby(CELL)["unsettled"].unique().map(together)
    for label, members in test_sets(tasks, sorted(scores["task"].unique())).items():
        line = within_task(scores, members)
        drawn = {name: bootstrap.by_cell(draws, members) for name, draws in (others | {"": samples}).items()}
        if len(members) > 1:
            line = line.merge(pooled(rows, members, fitted), on=CELL + ["seed"])
            if others:
                mixed = bootstrap.samples(rows[rows["task"].isin(members)], pooled=True)
                drawn[POOLED + "auroc"] = bootstrap.by_cell(mixed, ["all"])
        else:  # one task alone is the same pooled
            line = line.assign(**{POOLED + name: line[name] for name in MEASURES})
            if others:
                drawn[POOLED + "auroc"] = drawn[""]
        ends = [bootstrap.interval(draws).add_suffix(name and f"_{name}") for name, draws in drawn.items()]
        cells = _mean_over_seeds(line).merge(pd.concat(ends, axis=1), on=CELL).merge(trained, on=CELL)
        above = zip(cells["auroc"] - 0.5, drawn[""].reindex(pd.MultiIndex.from_frame(cells[CELL])).to_numpy() - 0.5)
        parts.append(cells.assign(p_chance=[bootstrap.p_value(*one) for one in above], test_set=label))
    return pd.concat(parts, ignore_index=True)


def on_tasks(rows: pd.DataFrame, tasks: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Each cell's auroc, n and n_rarer on some tasks, as `measure` has them, and `bootstrap.by_cell` of them."""
    by_cell = within_task(by_task(rows, only_auroc=True), tasks).groupby(CELL)
    values = by_cell.agg({"auroc": "mean", "n": "min", "n_rarer": "min"})
    return values, bootstrap.by_cell(bootstrap.samples(rows), tasks)


def enough(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells as pages show them: what rests on too few right or wrong answers has a reason and no values."""
    few = cells["n_rarer"] < MIN_PER_CLASS
    why = [_few_within(rarer) for rarer in cells["n_rarer"]]  # of each task's own: all tasks together may have enough
    measures = {*MEASURES} - {"accuracy", "commoner_accuracy"}  # those say no more than n_right and n do
    names = {*cells.filter(regex="^(low|high|p_chance)"), *measures, *(POOLED + name for name in measures)}
    return cells.assign(
        reason=cells["reason"].mask(few & cells["auroc"].notna(), pd.Series(why, cells.index)),
        **{name: cells[name].mask(few) for name in names & {*cells}},
    )


def _few_within(rarer: int) -> str:
    """Why a mean over tasks is not shown that rests on so many answers of each task's rarer grade."""
    return f"{rarer} answer{'s' * (rarer != 1)} of the rarer grade within tasks, and a value takes {MIN_PER_CLASS}"


def named(reader: str, trained_on: str, scored: str) -> str:
    """All three names of a place in words, in the order in which every page says them."""
    return f"{reader} trained on {trained_on}, scored on {scored}"


def heatmap_axes(cells: pd.DataFrame, reading: str) -> pd.DataFrame:
    """The slice of the tensor that one heatmap shows, with its axes named as in the figure.

    Reading A keeps reader == trained_on and puts the scored model on y ("model"). Reading B keeps reader == scored and
    puts that model on y. "all" keeps everything and puts scored and reader on y, in two lines. All put trained_on on x.

    Returns:
        The lines of that slice with the columns model (y) and reading added; x is trained_on.
    """
    if reading == ALL:
        return cells.assign(model=cells["scored"] + "\nread by " + cells["reader"], reading=reading)
    held_equal = {"A": "trained_on", "B": "scored"}[reading]
    chosen = cells[cells["reader"] == cells[held_equal]]
    return chosen.assign(model=chosen["scored"], reading=reading)


def heatmap_table(
    cells: pd.DataFrame, models: list[str], tasks: list[dict], readers: list[str] | None = None,
    methods: Sequence[str] = COMPARED,
) -> pd.DataFrame:  # fmt: skip
    """Everything that the heatmaps show: all readings, all test sets, and no place left out.

    Args:
        cells: as `measure` returns.
        models: those on both axes; `readers` those that read, None for all.
        methods: the grid's, which have places without rows, too.

    Returns:
        The columns of `measure`, reading and model: one line per (test_set, reading, method, model, trained_on). A
        place without rows has no auroc and says why in reason. Another method, such as the MLP probe, has places only
        if it has rows.
    """
    methods = [method for method in TRAINED if method in {*methods, *cells["method"]}]
    sides = {"test_set": list(test_sets(tasks, [])), "method": methods}
    sides |= {"reader": models if readers is None else readers, "trained_on": models, "scored": models}
    places = pd.MultiIndex.from_product(sides.values(), names=list(sides)).to_frame(index=False)
    places = places.merge(cells, "left", list(sides))
    absent = places["reason"].isna()
    elsewhere = ~absent.groupby([places[name] for name in CELL]).transform("all")  # rows of another test set
    places.loc[absent, "reason"] = ABSENT
    places.loc[absent & elsewhere, "reason"] = "no test answers"
    counts = ["n", "n_right", "n_rarer", "n_tasks", "of_tasks", "seeds"]
    places = places.astype(dict.fromkeys(counts, "Int64"))
    few = len(sides["reader"]) * len(models) <= MOST_FOR_ALL**2
    readings = [*READINGS, *([ALL] if few else [])] if len(models) > 1 else ["A"]  # which are the same of one model
    table = pd.concat([heatmap_axes(places, reading) for reading in readings], ignore_index=True)
    order = {name: at for values in (sides["test_set"], readings, methods) for at, name in enumerate(values)}
    keys = ["test_set", "reading", "method"]
    return table.sort_values(keys, key=lambda values: values.map(order), kind="stable", ignore_index=True)


def first_heatmap(table: pd.DataFrame) -> pd.DataFrame:
    """What `heatmap_table` returns of reading A and the first test set, which pages are about unless they say more."""
    return table[(table["reading"] == "A") & (table["test_set"] == table["test_set"].iloc[0])]


def baseline_table(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells of the training-free baselines, test sets and models in the order in which they were measured."""
    return cells[~cells["method"].isin([*TRAINED])].reset_index(drop=True)


def _mean_over_seeds(lines: pd.DataFrame) -> pd.DataFrame:
    # Counts do not change with the seed of the training, except where a file is incomplete:
    # the smallest is then the one to show.
    how = {name: "mean" for measure in MEASURES for name in (measure, POOLED + measure)}
    how |= {"n": "min", "n_right": "min", "n_rarer": "min", "n_tasks": "min", "of_tasks": "min", "reason": "first"}
    grouped = lines.groupby(CELL, as_index=False)
    spread = grouped.agg(seeds=("seed", "nunique"), lowest_seed=("auroc", "min"), highest_seed=("auroc", "max"))
    return grouped.agg(how).merge(spread, on=CELL)
