"""Shift: how well an estimator judges answers to questions of tasks that it was not trained on."""

import altair as alt
import pandas as pd

from whoknows.data.methods import METHOD_TITLES
from whoknows.evaluation import bootstrap, scores
from whoknows.evaluation.auroc import MIN_PER_CLASS
from whoknows.evaluation.cells import enough, first_test_set, measure, native_rows, test_sets
from whoknows.evaluation.plateau import IMPROVING, marked
from whoknows.report.pages.controls import OWN
from whoknows.report.pages.curves import embedding, tipped
from whoknows.report.pages.palette import GREY, hue
from whoknows.report.pages.style import HEADING, captioned, headed, in_lines, signed, span

SHOWN = ("probe", "lora_prompt", "zero_shot", "likelihood")
LEFT_OUT = "_without_"
CHANGE = {"estimate": "change", "low": "change_low", "high": "change_high"}


def shift(rows: pd.DataFrame, tasks: list[dict]) -> pd.DataFrame:
    """The native cells in-distribution and on every test set that nobody was trained on, and how each changes.

    Args:
        rows: rows of any methods.
        tasks: the grid's tasks, dicts with name and role.

    Returns:
        The columns of `cells.measure`, AUROC alone, and change (AUROC less that in-distribution), change_low, change_high,
        p and says (what `bootstrap.tested` says: no change is a primary hypothesis); missing in-distribution.
    """
    native = native_rows(rows[rows["method"].isin(SHOWN)])
    samples, (usual, members) = bootstrap.samples(native), first_test_set(tasks, native)
    cells, asked = measure(native, scores.by_task(native, only_auroc=True), tasks, samples), _shifts(tasks, native)
    home, away = cells[cells["test_set"] == usual], cells[cells["test_set"].isin(asked)].reset_index(drop=True)
    if away.empty:
        return enough(home).assign(**dict.fromkeys([*CHANGE.values(), "p", "says"], float("nan")))
    places = pd.MultiIndex.from_frame(away[scores.CELL])
    before = home.set_index(scores.CELL).reindex(places)
    # The questions of each task are drawn by themselves, so a difference of resamples has the right spread.
    there = [
        bootstrap.by_cell(samples, asked[label]).reindex(places[own.index])
        for label, own in away.groupby("test_set", sort=False)
    ]
    resampled = pd.concat(there).to_numpy() - bootstrap.by_cell(samples, members).reindex(places).to_numpy()
    fewest = away["n_rarer"].clip(upper=before["n_rarer"].to_numpy())
    lines = pd.DataFrame(
        {
            "estimate": away["auroc"] - before["auroc"].to_numpy(),
            "n_rarer": fewest,
            "still_improving": marked(away),
            "hypothesis": "",
        }
    )
    found = bootstrap.tested(lines, resampled, pd.Series(dtype=float))[["estimate", "low", "high", "p", "says"]].rename(
        columns=CHANGE
    )
    away["test_set"] = away["test_set"].replace(
        "shift", next(task["name"] for task in tasks if task["role"] == "shift")
    )
    return enough(pd.concat([home, away.join(found)], ignore_index=True))


def _shifts(tasks: list[dict], rows: pd.DataFrame) -> dict[str, list[str]]:
    """The test sets that nobody is trained on. "shift" is the mean over all, which says less than each unless there is one only."""
    asked = [task for task in tasks if task["role"] == "shift"]
    found = test_sets(asked, sorted(rows["task"].unique()))
    return {label: members for label, members in found.items() if label != "shift" or len(asked) == 1}


def left_out(rows: pd.DataFrame) -> pd.DataFrame:
    """For each method, reader that judges its own answers and task: AUROC, trained with and without that task.

    Returns:
        method, scored, task, with_task, without_task (means over the seeds that both have; NaN where right or wrong answers are
        too few), low and high of without less with, n_right, n_rarer, and still_improving (whether one of the two was).
    """
    native = native_rows(rows).reset_index(drop=True)
    base = native["method"].str.split(LEFT_OUT).str[0]
    how = (native["method"] == base).map({True: "with", False: "without"})
    asked = (native["method"] == base) | (native["method"] == base + LEFT_OUT + native["task"])
    native = native.assign(base=base, how=how, method=base + " " + how)[asked]
    kept = native[native.groupby(["base", "scored", "task", "seed"])["how"].transform("nunique") == 2]
    columns = [
        "method",
        "scored",
        "task",
        "with_task",
        "without_task",
        "low",
        "high",
        "n_right",
        "n_rarer",
        "still_improving",
    ]
    if kept.empty:
        return pd.DataFrame(columns=columns)
    keys = ["scored", "task", "method"]
    values = (
        scores.by_task(kept, only_auroc=True).groupby(keys).agg({"auroc": "mean", "n_right": "min", "n_rarer": "min"})
    )
    draws = bootstrap.samples(kept).groupby(keys).mean()
    lines, improving = [], marked(kept).groupby([kept["base"], kept["scored"], kept["task"]]).any()
    for method, scored, task in kept.groupby(["base", "scored", "task"]).groups:
        known, unknown = ((scored, task, f"{method} {how}") for how in ("with", "without"))
        between = bootstrap.interval(draws.loc[[unknown]] - draws.loc[known]).iloc[0]
        lines.append(
            (
                method,
                scored,
                task,
                *values["auroc"][[known, unknown]],
                between["low"],
                between["high"],
                values["n_right"][known],
                values["n_rarer"][known],
                improving[method, scored, task],
            )
        )
    table = pd.DataFrame(lines, columns=columns)
    return table.assign(
        **{
            name: table[name].where(table["n_rarer"] >= MIN_PER_CLASS)
            for name in ("with_task", "without_task", "low", "high")
        }
    )


def shift_chart(table: pd.DataFrame) -> alt.Chart:
    """AUROC and interval in-distribution and on each shift, a panel for each model that judges its own answers.

    Args:
        table: as `shift.shift` returns; what no verdict rests on is hollow.
    """
    drawn = (
        table.dropna(subset="auroc")
        .filter(
            [
                "method",
                "scored",
                "test_set",
                "auroc",
                "low",
                "high",
                "change",
                "change_low",
                "change_high",
                "says",
                "n_right",
                "n_rarer",
            ]
        )
        .round(4)
    )
    drawn["label"], drawn["hollow"] = drawn["method"].map(METHOD_TITLES), marked(table)[drawn.index]
    drawn = in_lines(drawn.assign(own=drawn["scored"] + OWN), own=HEADING)
    methods = [method for method in METHOD_TITLES if method in set(drawn["method"])]
    labels = [METHOD_TITLES[method] for method in methods]
    scale = alt.Scale(domain=labels, range=[hue(method) for method in methods])
    colour = alt.Color("label:N", title=None, scale=scale, legend=alt.Legend(orient="top"))
    tips = (
        "label",
        "scored",
        "test_set",
        "auroc",
        "low",
        "high",
        "change",
        "change_low",
        "change_high",
        "says",
        "n_right",
    )
    y, offset = (
        alt.Y("test_set:N", title=None, sort=list(table["test_set"].unique()), scale=alt.Scale(paddingInner=0.35)),
        alt.YOffset("label:N", sort=labels),
    )
    base = tipped(alt.Chart(), *tips, change="Less in-distribution", change_low="From", change_high="To").encode(
        y=y, yOffset=offset, color=colour
    )
    bars = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("low:Q", title="AUROC", scale=alt.Scale(zero=False)), x2="high:Q"
    )
    hollow = alt.when("datum.hollow").then(alt.value(0)).otherwise(alt.value(1))
    points = base.mark_point(filled=True, size=50, strokeWidth=1.5, opacity=1).encode(
        x="auroc:Q", stroke=alt.Stroke("label:N", scale=scale, legend=None), fillOpacity=hollow
    )
    half = alt.Chart().mark_rule(strokeDash=[3, 3], color=GREY, aria=False).encode(x=alt.datum(0.5))
    chart = alt.layer(half, bars, points, data=drawn).properties(width=380, height=alt.Step(13, **{"for": "offset"}))
    described = f"AUROC in-distribution and on {table.loc[table['says'].notna(), 'test_set'].nunique()} shifts, with intervals; all values are in the table beneath."
    return chart.facet(row=headed(drawn, "own")).properties(description=described, usermeta=embedding("shift"))


def shift_html(table: pd.DataFrame) -> str:
    """The numbers of `shift.shift_chart` as HTML: test questions by method, a table for each model.

    Args:
        table: as `shift.shift` returns.
    """
    parts, between = (
        [],
        [
            f"{a:.3f} ({low:.3f} – {high:.3f})" if pd.notna(a) else "—"
            for a, low, high in zip(table["auroc"], table["low"], table["high"])
        ],
    )
    changed = [f"; {change:+.3f}" if pd.notna(change) else "" for change in table["change"]]
    drawn = table.assign(
        says=[a + b for a, b in zip(between, changed)],
        tasks=[f"{n} of {of}" for n, of in zip(table["n_tasks"], table["of_tasks"])],
    )
    for scored, own in drawn.groupby("scored", sort=False):
        by_test_set = own.groupby("test_set", sort=False).agg(
            **{"Right answers": ("n_right", "min"), "Tasks measured": ("tasks", "first")}
        )
        values = own.pivot(index="test_set", columns="method", values="says")[
            [method for method in METHOD_TITLES if method in set(own["method"])]
        ]
        wide = by_test_set.join(values.rename(columns=METHOD_TITLES)).reset_index(names="Test questions")
        parts.append(
            captioned(
                wide.to_html(index=False, na_rep="—"),
                f"{scored} on its own answers: AUROC, 95 % interval; less in-distribution",
            )
        )
    return "\n".join(parts)


def left_out_html(table: pd.DataFrame) -> str:
    """Estimators on tasks that they were and were not trained on, as an HTML table.

    Args:
        table: as `shift.left_out` returns.
    """
    if table.empty:
        return "<p>No estimator was trained with a task left out.</p>"
    names = table[["method", "scored", "task", "n_right"]].assign(method=table["method"].map(METHOD_TITLES))
    a, b = (table[name].map("{:.3f}".format, na_action="ignore") for name in ("with_task", "without_task"))
    change = [
        f"{b - a:+.3f} ({low:+.3f} to {high:+.3f})" if pd.notna(b - a) else None
        for a, b, low, high in zip(table["with_task"], table["without_task"], table["low"], table["high"])
    ]
    shown = names.assign(a=a, b=b, change=change)
    return shown.set_axis(
        ["Method", "Model", "Task", "Right answers", "Trained with it", "Trained without it", "Change, 95 % interval"],
        axis=1,
    ).to_html(index=False, na_rep="—")


def shift_sentences(table: pd.DataFrame) -> str:
    """For each model, how far its estimators carry to tasks that they were not trained on, as Markdown.

    Args:
        table: as `shift.shift` returns.
    """
    away = table.dropna(subset="says")
    away = away[~away["test_set"].str.contains(",")]  # the categories of MMLU are parts of it
    said = []
    for scored, own in away.groupby("scored", sort=False):
        parts = [_on(test_set, lines) for test_set, lines in own.groupby("test_set", sort=False)]
        said.append(f"- **{scored}**, on its own answers: {'; '.join(parts)}.")
    if not said:
        return "This grid has no task that nobody is trained on."
    return "\n".join(
        [
            "AUROC, and how it differs from that in-distribution, with 95 % intervals. No change is a primary hypothesis: all are exploratory.",
            "",
            *said,
        ]
    )


def left_out_sentences(table: pd.DataFrame) -> str:
    """What it costs to leave a task out of training, as Markdown.

    Args:
        table: as `shift.left_out` returns.
    """
    if table.empty:
        return ""
    enough = table[table["n_rarer"] >= MIN_PER_CLASS].dropna(subset=["with_task", "without_task"])
    if enough.empty:
        return f"No task has the {MIN_PER_CLASS} right and as many wrong answers that it takes to tell what leaving it out of training costs."
    settled, few = enough[~marked(enough)], len(table) - len(enough)
    if settled.empty:
        return f"What leaving a task out of training costs is inconclusive: each time one of the two was {IMPROVING} when training ended."
    change, others = settled["without_task"] - settled["with_task"], len(enough) - len(settled)
    left = f"; {few} more rest on fewer than {MIN_PER_CLASS} right or wrong answers" if few else ""
    left += f"; {others} more were {IMPROVING} when training ended" if others else ""
    return (
        f"Without a task in training, AUROC on it changes by {signed(change.min())} to {signed(change.max())}; "
        f"it falls in {(settled['high'] < 0).sum()} of {len(settled)} cases by an interval below zero{left}."
    )


def _on(test_set: str, lines: pd.DataFrame) -> str:
    if lines["auroc"].isna().all():
        return f"on {test_set}, {span(lines['n_rarer'].min(), lines['n_rarer'].max())} right or wrong answers are too few to tell"
    ordered = lines.dropna(subset="auroc").sort_values("method", key=lambda names: names.map([*METHOD_TITLES].index))
    return f"on {test_set}, " + ", ".join(
        f"{METHOD_TITLES[line.method]} {line.auroc:.2f}{_change(line)}" for line in ordered.itertuples()
    )


def _change(line) -> str:
    """How a value on a shift differs from that in-distribution; "" where one of the two rests on too few answers."""
    if pd.isna(line.change):
        return ""
    return f" ({signed(line.change)}, from {signed(line.change_low)} to {signed(line.change_high)}{f', {IMPROVING}' if line.says == IMPROVING else ''})"
