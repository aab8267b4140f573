"""Shift: how well an estimator scores answers to questions of tasks that it was not trained on.

`x_chart`, `x_html` and `x_sentences` show what `x` returns.
"""

from collections.abc import Sequence

import altair as alt
import pandas as pd

from whoknows.data.methods import METHOD_TITLES
from whoknows.data.rows import is_of
from whoknows.data.tasks import category_of, grid_task
from whoknows.evaluation import bootstrap, scores
from whoknows.evaluation.auroc import MIN_PER_CLASS
from whoknows.evaluation.cells import enough, first_test_set, measure, native_rows, own_reader, test_sets
from whoknows.evaluation.plateau import IMPROVING, RELEASED, no_verdict, together
from whoknows.report.pages import style
from whoknows.report.pages.controls import whose, with_reader

SHOWN = ("probe", "lora_prompt", "zero_shot", "likelihood")
LEFT_OUT, ONLY = "_without_", "_only_"
TOGETHER = "all of these"  # in place of the one task that a probe was trained on
ABSENT = "no probe: its training or validation answers are all right or all wrong, or its stage did not finish"
UNTAUGHT = "no training answers to this task"
ONE_TASK = "no training answers to another task, so that this is the probe of all of these"
CHANGE = {"estimate": "change", "low": "change_low", "high": "change_high"}


def shift(rows: pd.DataFrame, tasks: list[dict], readers: Sequence[str] = ()) -> pd.DataFrame:
    """The native cells in-distribution and on every test set that nobody was trained on, and how each changes.

    Returns:
        The columns of `cells.measure`, AUROC alone, and change (AUROC less that in-distribution), change_low,
        change_high, p and says (what `bootstrap.tested` says: no change is a primary hypothesis); missing
        in-distribution.
    """
    native = native_rows(rows[rows["method"].isin(SHOWN)], readers)
    samples, (usual, members) = bootstrap.samples(native), first_test_set(tasks, native)
    cells = measure(native, scores.by_task(native, only_auroc=True), tasks, samples)
    shifts = [task for task in tasks if task["role"] == "shift"]
    sets = test_sets(tasks, sorted(native["task"].unique()))
    asked = {label: sets[label] for label in test_sets(shifts, []) if label in sets}
    if len(shifts) > 1:
        del asked["shift"]  # the mean over all of them
    home, away = cells[cells["test_set"] == usual], cells[cells["test_set"].isin(asked)].reset_index(drop=True)
    if away.empty:
        return enough(home).assign(**dict.fromkeys([*CHANGE.values(), "p", "says"], float("nan")))
    places = pd.MultiIndex.from_frame(away[scores.CELL])
    before = home.set_index(scores.CELL).reindex(places)
    # The questions of each task are drawn by themselves, so a difference of resamples has the right spread.
    groups = away.groupby("test_set", sort=False)
    there = [bootstrap.by_cell(samples, asked[label]).reindex(places[group.index]) for label, group in groups]
    resampled = pd.concat(there).to_numpy() - bootstrap.by_cell(samples, members).reindex(places).to_numpy()
    lines = pd.DataFrame({"estimate": away["auroc"] - before["auroc"].to_numpy(), "unsettled": no_verdict(away)})
    fewest = away["n_rarer"].clip(upper=before["n_rarer"].to_numpy())
    changes = bootstrap.tested(lines.assign(n_rarer=fewest, hypothesis=""), resampled, pd.Series(dtype=float))
    changes = changes[["estimate", "low", "high", "p", "says"]].rename(columns=CHANGE)
    away["test_set"] = away["test_set"].replace("shift", shifts[0]["name"])
    return enough(pd.concat([home, away.join(changes)], ignore_index=True))


def left_out(rows: pd.DataFrame, readers: Sequence[str] = ()) -> pd.DataFrame:
    """For each method, reader that scores its own answers and task: AUROC, trained with and without that task.

    Returns:
        method, scored, task, with_task, without_task (means over the seeds that both have; NaN where right or wrong
        answers are too few), low and high of without less with, n_right, n_rarer, and unsettled (of the two).
    """
    native = native_rows(rows, readers).reset_index(drop=True)
    base = native["method"].str.split(LEFT_OUT).str[0]
    how = (native["method"] == base).map({True: "with", False: "without"})
    asked = native["method"] == base
    for method, tasks in native.loc[~asked, "task"].groupby(native["method"]):
        asked[tasks.index] = is_of(tasks, method.split(LEFT_OUT)[-1])
    native = native.assign(base=base, how=how, method=base + " " + how)[asked]
    kept = native[native.groupby(["base", "scored", "task", "seed"])["how"].transform("nunique") == 2]
    values = ["with_task", "without_task", "low", "high"]
    columns = ["method", "scored", "task", *values, "n_right", "n_rarer", "unsettled"]
    if kept.empty:
        return pd.DataFrame(columns=columns)
    keys, over_seeds = ["scored", "task", "method"], {"auroc": "mean", "n_right": "min", "n_rarer": "min"}
    cells = scores.by_task(kept, only_auroc=True).groupby(keys).agg(over_seeds)
    draws = bootstrap.samples(kept).groupby(keys).mean()
    lines, why = [], no_verdict(kept).groupby([kept["base"], kept["scored"], kept["task"]]).unique().map(together)
    for method, scored, task in kept.groupby(["base", "scored", "task"]).groups:
        known, unknown = ((scored, task, f"{method} {how}") for how in ("with", "without"))
        interval = bootstrap.interval(draws.loc[[unknown]] - draws.loc[known]).iloc[0]
        counts = cells.loc[known, ["n_right", "n_rarer"]].astype(int)
        reached = cells["auroc"][[known, unknown]]
        lines.append((method, scored, task, *reached, *interval, *counts, why[method, scored, task]))
    table = pd.DataFrame(lines, columns=columns)
    table.loc[table["n_rarer"] < MIN_PER_CLASS, values] = float("nan")
    return table


def transfer(
    rows: pd.DataFrame, answers: dict[str, pd.DataFrame], tasks: list[dict], readers: Sequence[str] = ()
) -> pd.DataFrame:
    """The native probes that were trained on one task alone, and on all of them, on the test answers of every task.

    Each topic of a file that is trained on is a task of its own; MMLU is one task.

    Returns:
        The columns of `cells.measure`, AUROC alone, learned (a task, or `TOGETHER`) and training_answers (how many). No
        place of (scored, learned, test_set) is left out: one without a value says why in reason. Empty where none of
        these probes is there, such as where all train on one task.
    """
    parts = {scored: frame.loc[frame["split"] == "train", "task"] for scored, frame in answers.items()}
    taught = sorted({task for part in parts.values() for task in part})
    tasks = _by_topic(tasks, taught)
    names = [task["name"] for task in tasks]
    trained = [task["name"] for task in tasks if task["role"] == "train"]
    of_model = {scored: {task: grid_task(task, names) for task in part.unique()} for scored, part in parts.items()}
    learned = {(scored, how): task for scored, of in of_model.items() for how, task in _alone(of).items()}
    learned |= {(scored, "probe"): TOGETHER for scored in answers}
    native = native_rows(rows, readers)
    native = native[[key in learned for key in zip(native["scored"], native["method"])]]
    if (native["method"] == "probe").all():
        return pd.DataFrame(columns=["scored", "learned", "test_set", "auroc", "reason", "training_answers"])
    cells = enough(measure(native, scores.by_task(native, only_auroc=True), tasks))
    shifted = [task["name"] for task in tasks if task["role"] == "shift"]
    cells["test_set"] = cells["test_set"].replace({"shift": shifted[0]} if len(shifted) == 1 else {})
    cells["learned"] = [learned[key] for key in zip(cells["scored"], cells["method"])]
    alone = [task for task in trained if task in learned.values()]
    whole = [TOGETHER] if (native["method"] == "probe").any() else []  # a grid may have no probe but these
    sides = {"scored": [*answers], "learned": [*alone, *whole], "test_set": names}
    places = pd.MultiIndex.from_product(sides.values(), names=list(sides)).to_frame(index=False)
    table = places.merge(cells, "left", list(sides))
    absent = table.groupby(["scored", "learned"])["n"].transform("count") == 0
    counts = {scored: part.map(of_model[scored]).value_counts().to_dict() for scored, part in parts.items()}
    counts = {scored: of | {TOGETHER: sum(of.values())} for scored, of in counts.items()}
    asked = pd.Series([counts[of].get(task, 0) for of, task in zip(table["scored"], table["learned"])], table.index)
    is_whole = (table["learned"] != TOGETHER) & (asked == [counts[of][TOGETHER] for of in table["scored"]])
    why = pd.Series(ABSENT, table.index).mask(is_whole, ONE_TASK).mask(asked == 0, UNTAUGHT)
    return table.assign(
        reader=own_reader(table["scored"], readers),
        reason=table["reason"].mask(absent, why).fillna("no test answers"),
        training_answers=asked,
    )


def _alone(of: dict[str, str]) -> dict[str, str]:
    """By method, the grid's task that a probe was trained on alone, of a model's train tasks and the grid's of each."""
    alone = {f"probe{ONLY}{task}": task for task in of}
    for left in of:
        rest = {name for task, name in of.items() if task != left}
        if len(rest) == 1 and of[left] not in rest:  # without the only other one
            alone[f"probe{LEFT_OUT}{left}"] = rest.pop()
    return alone


def _by_topic(tasks: list[dict], taught: list[str]) -> list[dict]:
    """The grid's tasks, with those in place of one that are its topics, of the tasks that train answers are of."""
    names, parts = [task["name"] for task in tasks], []
    for task in tasks:
        topics = [one for one in taught if grid_task(one, names) == task["name"] and not category_of(one)]
        parts += [task | {"name": topic} for topic in topics or [task["name"]]]
    return parts


def shift_chart(table: pd.DataFrame) -> alt.Chart:
    """AUROC and interval in-distribution and on each shift, a panel by model; what no verdict rests on is hollow."""
    columns = ["scored", "test_set", "auroc", "low", "high", *CHANGE.values(), "says", "n_right"]
    drawn = table.dropna(subset="auroc").filter(["method", "reader", *columns, "n_rarer"]).round(4)
    drawn["label"], drawn["hollow"] = drawn["method"].map(METHOD_TITLES), no_verdict(table)[drawn.index] != ""
    drawn = style.in_lines(drawn.assign(panel=with_reader(drawn)), panel=style.HEADING)
    methods, rows = style.method_hues(drawn["method"]), alt.Scale(paddingInner=0.35)
    hues = style.scale(methods)
    titles = {"change": "Less in-distribution", "change_low": "From", "change_high": "To"}
    base = style.tipped(alt.Chart(), "label", *columns, **titles).encode(
        y=alt.Y("test_set:N", title=None, sort=list(table["test_set"].unique()), scale=rows),
        yOffset=alt.YOffset("label:N", sort=list(methods)),
        color=alt.Color("label:N", title=None, scale=hues, legend=alt.Legend(orient="top")),
    )
    points = style.hollow_points(base, 50, "label:N", hues).encode(x="auroc:Q")
    chart = alt.layer(style.rule_at(0.5), style.interval_bars(base, "AUROC", style.WITHOUT_ZERO), points, data=drawn)
    chart = chart.properties(width=380, height=alt.Step(13, **{"for": "offset"}))
    shifts = table.loc[table["says"].notna(), "test_set"].nunique()
    also = f" and on {shifts} shift{'s' * (shifts > 1)}" if shifts else ""
    described = f"AUROC in-distribution{also}, with intervals; all values are in the table beneath."
    return style.finished(chart.facet(row=style.headed(drawn, "panel")), "shift", described)


def shift_html(table: pd.DataFrame) -> str:
    """The numbers of `shift_chart` as HTML: test questions by method, a table for each model."""
    changed = [f"; {style.signed(change, 3)}" if pd.notna(change) else "" for change in table["change"]]
    values = style.with_interval(table["auroc"], table["low"], table["high"])
    drawn = table.assign(
        says=[(value or "—") + change for value, change in zip(values, changed)],
        tasks=[f"{n} of {of}" for n, of in zip(table["n_tasks"], table["of_tasks"])],
    )
    counts = {"Right answers": ("n_right", "max"), "Tasks measured": ("tasks", "first")}

    def by_method(cells: pd.DataFrame) -> str:
        methods = {method: title for method, title in METHOD_TITLES.items() if method in set(cells["method"])}
        wide = cells.pivot(index="test_set", columns="method", values="says")[list(methods)].rename(columns=methods)
        wide = cells.groupby("test_set", sort=False).agg(**counts).join(wide).reset_index(names="Test questions")
        return wide.to_html(index=False, na_rep="—")

    return style.tables_html(drawn, with_reader(table) + ": AUROC, 95 % interval; less in-distribution", by_method)


def transfer_chart(table: pd.DataFrame) -> alt.VConcatChart | None:
    """AUROC by the task that a probe was trained on and the task that is tested, a heatmap for each scored model."""
    if table.empty:
        return None
    tasks, ends = [*table["test_set"].unique()], style.colour_domain(table["auroc"], 0.5)
    panels = [
        _from_task_to_task(cells, tasks, ends).properties(title=alt.TitleParams(title, anchor="start"))
        for title, cells in table.groupby(with_reader(table), sort=False)
    ]
    described = f"AUROC of probes by task trained on and task tested, {len(tasks)} of these; the table beneath has all."
    return style.finished(alt.vconcat(*panels), "transfer", described)


def _from_task_to_task(cells: pd.DataFrame, tasks: list[str], ends: tuple[float, float]) -> alt.LayerChart:
    columns = ["learned", "test_set", "auroc", "low", "high", "n_right", "n", "training_answers", "reason"]
    drawn = cells.filter(columns).round(4)
    drawn["row"] = [f"{task}\n{count:,} answers" for task, count in zip(drawn["learned"], drawn["training_answers"])]
    titles = {"learned": "Trained on", "test_set": "Tested on", "n": "Test answers", "reason": "Missing because"}
    base = style.tipped(alt.Chart(drawn), *columns, **titles).encode(
        x=alt.X("test_set:N", sort=tasks, title="Tested on", axis=alt.Axis(labelAngle=-40, labelLimit=style.LONGEST)),
        y=alt.Y("row:N", sort=[*drawn["row"].unique()], title="Trained on", axis=style.NAMES),
    )
    there, (scale, ink) = base.transform_filter("isValid(datum.auroc)"), style.on_ramp(*ends)
    colour = alt.Color("auroc:Q", scale=scale, title="AUROC", legend=style.bar(*ends))
    same = base.transform_filter("datum.learned === datum.test_set")
    same = same.mark_rect(aria=False, fillOpacity=0, stroke=style.INK, strokeWidth=3)
    texts = there.mark_text(aria=False, fontSize=12).encode(text=alt.Text("auroc:Q", format=".2f"), color=ink)
    layers = alt.layer(*style.heatmap(base, colour, style.hatched()), same, texts)
    # In pixels, of which the book takes some away on a phone.
    return layers.properties(width=54 * len(tasks), height=alt.Step(44))


def transfer_html(table: pd.DataFrame) -> str:
    """The numbers of `transfer_chart` as HTML: task trained on by task tested, a table for each scored model."""
    if table.empty:
        return ""
    values = style.with_interval(table["auroc"], table["low"], table["high"])
    counts = [f" of {n:,.0f}" if pd.notna(n) else "" for n in table["n"]]
    texts = [f"{value}{count}" if value else f"— ({why})" for value, count, why in zip(values, counts, table["reason"])]

    def by_task(cells: pd.DataFrame) -> str:
        wide = cells.pivot(index=["learned", "training_answers"], columns="test_set", values="says")
        wide = wide.loc[cells["learned"].unique(), cells["test_set"].unique()].reset_index()
        wide = wide.rename(columns={"learned": "Trained on", "training_answers": "Training answers"})
        return wide.rename_axis(columns=None).to_html(index=False)

    captions = with_reader(table) + ": AUROC by task tested, 95 % interval, and number of test answers"
    return style.folded("The same numbers as tables", style.tables_html(table.assign(says=texts), captions, by_task))


def left_out_html(table: pd.DataFrame) -> str:
    """Estimators on tasks that they were and were not trained on, as an HTML table."""
    if table.empty:
        return "<p>No estimator was trained with a task left out.</p>"
    with_it, without_it = table["with_task"], table["without_task"]
    changes = style.with_interval(without_it - with_it, table["low"], table["high"], sign="+")
    columns = {
        "method": "Method", "scored": "Model", "task": "Task", "n_right": "Right answers",
        "with_task": "Trained with it", "without_task": "Trained without it", "change": "Change, 95 % interval",
    }  # fmt: skip
    forms = dict.fromkeys(("with_task", "without_task"), "{:.3f}".format) | {"method": METHOD_TITLES.get}
    return style.columns_html(table.assign(change=[change or "—" for change in changes]), columns, **forms)


def shift_sentences(table: pd.DataFrame) -> str:
    """For each model, how far its estimators carry to tasks that they were not trained on, as Markdown."""
    away = table.dropna(subset="says")
    away = away[~away["test_set"].str.contains(",")]  # the categories of MMLU are parts of it
    if away.empty:
        return "This grid has no task that nobody is trained on."
    lead = "AUROC, and how it differs from that in-distribution, with 95 % intervals. "
    lines, of = [lead + "No change is a primary hypothesis: all are exploratory.", ""], whose(table)
    for scored, cells in away.groupby("scored", sort=False):
        lines.append(f"- **{scored}**, {of[scored]}:")
        lines += [f"  - {_on(test_set, values)}." for test_set, values in cells.groupby("test_set", sort=False)]
    return "\n".join(lines)


def transfer_sentences(table: pd.DataFrame, tasks: list[dict]) -> str:
    """For each model, how a probe that was trained on one task does on that task and on others, as Markdown."""
    if table.empty and sum(task["role"] == "train" for task in tasks) < 2:
        return "This grid trains on one task, so there is no transfer between tasks to train on."
    if table.empty:
        return "There is no probe that was trained on one task alone."
    alone, lines, of = table[table["learned"] != TOGETHER].dropna(subset="auroc"), [], whose(table)
    same, role = alone["learned"] == alone["test_set"], {task["name"]: task["role"] for task in tasks}
    known = alone["test_set"].map(lambda task: role.get(grid_task(task, [*role]), "")) == "train"
    for scored in table["scored"].unique():
        kinds = {"its own task": same, "another task of the mixture": ~same & known, "a shift": ~known}
        there = {kind: alone.loc[some & (alone["scored"] == scored), "auroc"] for kind, some in kinds.items()}
        ends = {kind: (f"{some.min():.2f}", f"{some.max():.2f}") for kind, some in there.items() if len(some)}
        parts = [f"{style.span(*both)} on {kind}" for kind, both in ends.items()]
        lines.append(f"- **{scored}**, {of[scored]}: {', '.join(parts) or 'no value'}.")
    return "\n".join(["AUROC of a probe that was trained on one task alone; all of this is exploratory.", "", *lines])


def left_out_sentences(table: pd.DataFrame) -> str:
    """What it costs to leave a task out of training, as Markdown."""
    if table.empty:
        return ""
    enough = table[table["n_rarer"] >= MIN_PER_CLASS].dropna(subset=["with_task", "without_task"])
    if enough.empty:
        why = f"None of the tasks that were left out here has the {MIN_PER_CLASS} right and as many wrong answers"
        return f"{why} that it takes to tell what leaving it out of training costs."
    settled, few = enough[no_verdict(enough) == ""], len(table) - len(enough)
    if settled.empty:
        lead = "What leaving a task out of training costs is inconclusive"
        return f"{lead}: each time one of the two was {IMPROVING} when training ended."
    change, others = settled["without_task"] - settled["with_task"], len(enough) - len(settled)
    left = f"; {few} more rest on fewer than {MIN_PER_CLASS} right or wrong answers" if few else ""
    left += f"; {others} more were {IMPROVING} when training ended" if others else ""
    low, high = style.signed(change.min()), style.signed(change.max())
    return (
        f"Without a task in training, AUROC on it changes by {low} to {high}. "
        f"It falls in {(settled['high'] < 0).sum()} of {len(settled)} cases by an interval below zero{left}."
    )


def _on(test_set: str, cells: pd.DataFrame) -> str:
    if cells["auroc"].isna().all():
        return f"on {test_set}, no value ({'; '.join(cells['reason'].unique())})"
    ordered = cells.dropna(subset="auroc").sort_values("method", key=lambda names: names.map([*METHOD_TITLES].index))
    values = [f"{METHOD_TITLES[line.method]} {line.auroc:.2f}{_change(line)}" for line in ordered.itertuples()]
    return f"on {test_set}, {', '.join(values)}"


def _change(line) -> str:
    """How a value on a shift differs from that in-distribution; "" where one of the two rests on too few answers."""
    if pd.isna(line.change):
        return ""
    why = f", {line.says}" if line.says in (IMPROVING, RELEASED) else ""
    between = style.interval_text(line.change_low, line.change_high, sign="+")
    return f" ({style.signed(line.change)}, from {between}{why})"
