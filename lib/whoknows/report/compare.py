"""Compares finished runs, cell by cell, with the first of them: `python -m whoknows compare RUN RUN…`.

A run is its folder results/<grid>, or a folder that `whoknows pack` wrote. Where two runs ask the same test questions,
the difference of a cell is taken on those that both ask, question by question: both see the same resamples. A cell may
lack some, as where a model has not answered, or a likelihood is not known: then it is taken on those that the cell has
in both. Where two runs ask other questions, each is measured on its own, and resampled by itself. Questions of one task
are the same by their canonical form, whatever their ids.
"""

import argparse
import json
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd
import vl_convert

from whoknows import WhoknowsError
from whoknows.data import files
from whoknows.data.grading import canonical
from whoknows.data.methods import METHOD_TITLES
from whoknows.evaluation import bootstrap, cells, plateau
from whoknows.evaluation.auroc import MIN_PER_CLASS
from whoknows.evaluation.bootstrap import FEW
from whoknows.evaluation.plateau import IMPROVING, RELEASED, together
from whoknows.evaluation.scores import CELL
from whoknows.report import chapters, outdated
from whoknows.report.book import bundled_version
from whoknows.report.pages import style
from whoknows.report.pages.style import tipped
from whoknows.run import grid

QUESTION = ["task", "question_id"]
SETS = ("in-distribution", "shift")
UNKNOWN = f"""Nor can anything be concluded from a cell {RELEASED}: others trained it, and whether it had reached its
plateau is not known."""
COLOURS = [style.HUES["lora_prompt"], "white", style.HUES["probe"]]  # lower, equal, higher; black is readable on each
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font-family: system-ui, sans-serif; color: #222832; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }}
table {{ border: 0; border-collapse: collapse; margin: 1.5rem 0; white-space: nowrap }}
caption {{ text-align: left; font-weight: bold; padding: 0.3rem 0 }}
th, td {{ border: 0; border-bottom: 1px solid #d5d9de; padding: 0.2rem 0.6rem; text-align: left }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>Each value is an AUROC on test questions, a mean within task and over seeds. Each difference has a 95 % bootstrap
interval over questions, which allows for one cell, not for many at once. A cell with {mark} was still improving when
its training ended in one of the two runs. Nothing can be concluded from it.{released}</p>
<div id="altair-viz"></div>
{tables}
<script>{bundle}</script>
<script>vegaEmbed("#altair-viz", {spec});</script>
</body>
</html>
"""


@dataclass(frozen=True)
class Run:
    """What is compared of a run."""

    name: str  # its grid's
    models: list[str]
    tasks: list[dict]  # with name and role
    rows: pd.DataFrame  # of the test questions, as `plateau.mark` returns; question_id is the question, canonical

    def of(self, test_set: str) -> pd.DataFrame:
        """The rows of a test set's tasks."""
        members = cells.test_sets(self.tasks, sorted(self.rows["task"].unique())).get(test_set, [])
        return self.rows[self.rows["task"].isin(members)]


def read(folder: Path) -> Run:
    """The run in a folder; a WhoknowsError if there is none, it is outdated, or a file is damaged."""
    where = "name results/<grid> after make book, or a folder that whoknows pack wrote"
    wrong = WhoknowsError(f"{folder}: this is no finished run, which has grid.yml, answers and their rows; {where}.")
    if not (folder / "grid.yml").is_file():
        raise wrong
    chosen = grid.load(folder / "grid.yml")
    if old := outdated.sentence(chapters.collect(folder / "notebooks", chosen)):
        raise WhoknowsError(f"{folder}: {old}; run make book with its grid first.")
    models = [model.name for model in chosen.models]
    rows = cells.read_rows(folder / "rows", models, [*chosen.methods], [*chosen.seeds])
    rows = rows[(rows["split"] == "test") & rows["method"].isin([*METHOD_TITLES])]
    # A file of questions may give an id to another question than the file of another run, or give none.
    rows = rows.assign(question_id=rows["question_id"].map(_forms(folder, models)))
    if rows.empty or rows["question_id"].isna().any():
        raise wrong
    tasks = [{"name": task.name, "role": task.role} for task in chosen.tasks]
    return Run(chosen.name, models, tasks, plateau.mark(rows, folder / "estimators"))


def _forms(folder: Path, models: list[str]) -> pd.Series:
    """The canonical form of each question that a run's models have answered, by its question_id."""
    paths = [path for name in models if (path := folder / "answers" / f"{name}.parquet").exists()]
    parts = [files.read_parquet(path)[["question_id", "question"]] for path in paths]
    none = pd.DataFrame(columns=["question_id", "question"], dtype=str)
    return pd.concat([none, *parts]).drop_duplicates("question_id").set_index("question_id")["question"].map(canonical)


def of_folders(folders: list[Path]) -> pd.DataFrame:
    """All runs but the first, each compared with the first.

    Returns:
        The lines of `of_runs`, with baseline and run, the names of the two; runs of one name are numbered.

    Raises:
        WhoknowsError: there are fewer than two, one is no run, or one has no cell that the first has.
    """
    distinct = {path.resolve(): path for path in folders}
    if len(distinct) < 2:
        raise WhoknowsError("There is nothing to compare: name two different runs or more, the baseline first.")
    runs = [*map(read, distinct.values())]
    times = Counter(run.name for run in runs)
    runs = [replace(run, name=f"{run.name} ({at})") if times[run.name] > 1 else run for at, run in enumerate(runs, 1)]
    base, *others = runs
    tables = [of_runs(base, other).assign(baseline=base.name, run=other.name) for other in others]
    return pd.concat(tables, ignore_index=True)


def of_runs(base: Run, other: Run) -> pd.DataFrame:
    """The difference of every cell of two runs, on each test set that both have.

    Returns:
        test_set, how (paired or not, and on how many questions), method, reader, trained_on, scored, before and after
        (AUROC in each), questions (text: how many the cell rests on, in each if these differ), difference (after less
        before), low and high (its 95 % interval), and says: which run lacks the cell, `FEW`, `IMPROVING`, `RELEASED` or
        "". Values of too few answers are missing.

    Raises:
        WhoknowsError: no cell is in both.
    """
    parts = []
    for test_set in SETS:
        mine, theirs = base.of(test_set), other.of(test_set)
        asked, answered = mine[QUESTION].drop_duplicates(), [_in_both(mine, other.rows), _in_both(other.rows, mine)]
        shared = pd.merge(*(rows[QUESTION].drop_duplicates() for rows in answered))
        # A value takes so many; the task may have another role there.
        if paired := len(shared) >= max(1, min(2 * MIN_PER_CLASS, len(asked))):
            mine, theirs = (rows.merge(shared) for rows in answered)
            how = f"paired, on the {len(shared):,} questions that both ask"
        elif len(mine) and len(theirs):
            how = f"unpaired, on {len(asked):,} and {len(theirs[QUESTION].drop_duplicates()):,} questions"
        else:
            continue
        # Resamples depend on the names of tasks, and those of other questions must not go together.
        theirs = theirs if paired else theirs.assign(task=theirs["task"] + " there")
        (before, drawn), (after, redrawn) = _measured(mine), _measured(theirs)
        table = before.add_suffix("_before").join(after.add_suffix("_after"), how="outer")
        table = table.join(bootstrap.interval(redrawn - drawn)).assign(test_set=test_set, how=how)
        parts.append(table.reset_index())
    if not any(part[["n_rarer_before", "n_rarer_after"]].notna().all(axis=1).any() for part in parts):
        both = f"{base.name} and {other.name} have no cell in common"
        raise WhoknowsError(f"{both}: compare runs that share a method and the names of its models.")
    return _described(pd.concat(parts, ignore_index=True), base, other)


def _in_both(rows: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """Rows of answers to questions that the scored model and the cell have in both runs, if they are in both."""
    for names in (["scored"], CELL):  # a cell may lack answers that its model has, such as a likelihood's
        (mine, there), (answers, known) = (
            [pd.MultiIndex.from_frame(table[keys]) for table in (rows, others)] for keys in (names, [*names, *QUESTION])
        )
        rows = rows[answers.isin(known) | ~mine.isin(there)]
    return rows


def _measured(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """AUROC of each cell, n_rarer, unsettled and questions, their number; and its resamples."""
    table, draws = cells.on_tasks(rows, sorted(rows["task"].unique()))
    asked = rows.drop_duplicates([*CELL, *QUESTION]).groupby(CELL).size().rename("questions")
    return table.join([rows.groupby(CELL)["unsettled"].unique().map(together), asked]), draws


def _described(table: pd.DataFrame, base: Run, other: Run) -> pd.DataFrame:
    sides = ("before", "after")
    absent = [table[f"n_rarer_{side}"].isna() for side in sides]
    few = [table[f"n_rarer_{side}"] < MIN_PER_CLASS for side in sides]
    why = table[[f"unsettled_{side}" for side in sides]].fillna("").agg(together, axis=1)
    before, after = (table[f"auroc_{side}"].mask(none) for side, none in zip(sides, few))
    cases = {f"missing in {base.name}": absent[0], f"missing in {other.name}": absent[1], FEW: few[0] | few[1]}
    says = np.select([*cases.values(), why.isin([IMPROVING, RELEASED])], [*cases, why], "")
    counts = table[[f"questions_{side}" for side in sides]].agg(_counted, axis=1)
    table = table.assign(before=before, after=after, questions=counts, difference=after - before, says=says)
    table[["low", "high"]] = table[["low", "high"]].where(table["difference"].notna())
    order = {name: at for at, name in enumerate(["", *METHOD_TITLES, *base.models, *other.models])}
    table = table.sort_values(CELL, key=lambda names: names.map(order), kind="stable")
    table = table.sort_values("test_set", key=lambda names: names.map(SETS.index), kind="stable", ignore_index=True)
    return table[["test_set", "how", *CELL, *sides, "questions", "difference", "low", "high", "says"]]


def _counted(numbers: pd.Series) -> str:
    """The numbers that are there as text, one if they are equal."""
    return " and ".join(f"{number:,.0f}" for number in numbers.dropna().unique())


def sections(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The table of `of_folders` in words, by what each of its parts is of: run, test set, and how it was compared."""
    parts = {}
    for (baseline, run, test_set, how), lines in table.groupby(["baseline", "run", "test_set", "how"], sort=False):
        parts[f"{run} less {baseline}, {test_set} test questions, {how}"] = pd.DataFrame({
            "Method": lines["method"].map(METHOD_TITLES),
            "Reader": lines["reader"],
            "Trained on": lines["trained_on"],
            "Scored": lines["scored"],
            baseline: lines["before"].map("{:.3f}".format, na_action="ignore"),
            run: lines["after"].map("{:.3f}".format, na_action="ignore"),
            "Questions": lines["questions"],
            "Difference": lines["difference"].map(partial(style.signed, digits=3), na_action="ignore"),
            "95 % interval": style.interval_column(lines),
            "Note": lines["says"],
        }).fillna("—")  # fmt: skip
    return parts


def chart(table: pd.DataFrame) -> alt.FacetChart:
    """Heatmaps of what `of_folders` returns, a panel for each trained method, with switches for all others."""
    trained = table[table["trained_on"] != ""]
    models = [*dict.fromkeys(trained["scored"])]
    readings = [*cells.READINGS, *([cells.ALL] if len(models) <= cells.MOST_FOR_ALL else [])]
    drawn = pd.concat([cells.heatmap_axes(trained, reading) for reading in readings], ignore_index=True)
    mark = np.where(drawn["says"] == IMPROVING, f" {plateau.MARK}", "")
    drawn["value"] = [
        f"{style.signed(value)}{note}" if pd.notna(value) else "—" for value, note in zip(drawn["difference"], mark)
    ]
    drawn["between"] = [style.interval_text(*ends, sign="+") for ends in zip(drawn["low"], drawn["high"])]
    drawn["title"] = drawn["method"].map(METHOD_TITLES)
    most = float(np.nanmax([0.05, *drawn["difference"].abs()]))
    order = [*models, *(name for name in dict.fromkeys(drawn["model"]) if name not in models)]
    tips = ("run", "reader", "trained_on", "scored", "before", "after")
    tips += ("questions", "difference", "low", "high", "says")
    rows = alt.Axis(**style.in_middle(style.lines_of(order, style.LETTERS)))
    columns = alt.Axis(labelAngle=0, labelExpr=style.lines_of(models, style.LETTERS))
    base = tipped(alt.Chart(), *tips, before="AUROC in the baseline", after="AUROC", says="Note").encode(
        x=alt.X("trained_on:N", sort=models, title="Trained On", axis=columns),
        y=alt.Y("model:N", sort=order, title="Model", axis=rows),
    )
    scale = alt.Scale(domain=[-most, 0, most], range=COLOURS, interpolate="rgb")
    legend = alt.Legend(format="+.2f", values=[-most, 0, most])
    colour = alt.Color("difference:Q", scale=scale, title="Difference", legend=legend)
    texts = {"value": {"fontSize": 15, "dy": -5}, "between": {"fontSize": 10, "dy": 12}}
    layers = style.heatmap(base, colour, {"fill": "lightgray"}, texts, stroke=style.GREY)
    layers = alt.layer(*layers, data=drawn).properties(width=110 * len(models), height=alt.Step(56))
    titles = [title for title in METHOD_TITLES.values() if title in set(drawn["title"])]
    panels = layers.facet(column=alt.Column("title:N", title=None, sort=titles), spacing=18)
    shown = "datum.run === run && datum.test_set === test_set && datum.reading === reading"
    switches = [
        style.switch("run", [*dict.fromkeys(drawn["run"])], {}, "Run: "),
        style.switch("test_set", [*dict.fromkeys(drawn["test_set"])], {}, "Test questions: "),
        style.reading_switch(readings),
    ]
    described = "Heatmaps of differences of AUROC between runs; all values are in the tables beneath."
    panels = panels.transform_filter(shown).add_params(*switches)
    return style.finished(panels, "whoknows-compare", described)


def page(table: pd.DataFrame) -> str:
    """What `of_folders` returns as an HTML page that loads nothing."""
    tables = [style.captioned(lines.to_html(index=False), heading) for heading, lines in sections(table).items()]
    return PAGE.format(
        title=f"Runs compared with {table['baseline'].iloc[0]}",
        mark=plateau.MARK,
        released=f" {UNKNOWN}" if RELEASED in set(table["says"]) else "",
        tables="\n".join(tables),
        bundle=vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", bundled_version()),
        spec=json.dumps(chart(table).to_dict()).replace("</", "<\\/"),
    )


def main(arguments: list[str]) -> None:
    """The command line; prints the tables."""
    parser = argparse.ArgumentParser(prog="whoknows compare", description=__doc__)
    parser.add_argument("runs", metavar="RUN", nargs="*", type=Path, help="folder of a run; the baseline is the first")
    parser.add_argument("--output", type=Path, help="HTML page to write, with heatmaps of the differences")
    options = parser.parse_args(arguments)
    table = of_folders(options.runs)
    for heading, lines in sections(table).items():
        print(f"{heading}:\n\n{lines.to_string(index=False)}\n")
    if options.output:
        files.write_text(options.output, page(table))
        print(f"The page: {options.output}")
