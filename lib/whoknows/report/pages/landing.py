"""The first page: the answer in one sentence and what it rests on, who reads, is trained on and is scored, examples."""

import hashlib
import itertools
from html import escape

import numpy as np
import pandas as pd
from scipy.special import expit

from whoknows.data.methods import METHOD_TITLES, TRAINED, TRAINING_FREE
from whoknows.evaluation import bootstrap, plateau, scores
from whoknows.evaluation.bootstrap import ABOVE, BELOW, EXPLORATORY, FEW, INSIGNIFICANT
from whoknows.evaluation.cells import COMPARED, READINGS, first_heatmap, first_test_set, native_rows, test_sets
from whoknows.evaluation.plateau import IMPROVING, MARK, RELEASED, no_verdict
from whoknows.report.pages import claims, style
from whoknows.report.pages.gains import SETS, baseline_of
from whoknows.report.pages.heatmaps import above_chance, facts_of, settled_cells

NAMED = {"probe": "the probe", "lora_prompt": "LoRA + Prompt"}  # within a sentence
TRAINING, METHOD, SELF = "Trained − training-free", "Probe − LoRA + Prompt", "Self-trained − cross-trained"
SHIFT = f"{TRAINING} on shift questions"
OVER = {
    **dict.fromkeys((TRAINING, SHIFT), "{} models, each on its own answers"),
    METHOD: "{} differences between cells of Figure 1",
    SELF: "{} differences between cells of Figure 1, of both methods and two scored models",
}
TWO = ", of the models with the most and the fewest right validation answers"  # if more models than two read
SHOWN = 5  # right answers of each scored model on the page, and as many wrong ones
GOLD = 3  # accepted answers that are shown of a question
OPEN = {IMPROVING, RELEASED, FEW, EXPLORATORY}  # verdicts that decide nothing


def best_untrained(rows: pd.DataFrame, readers: list[str], tasks: list[dict]) -> str:
    """The training-free method with the highest AUROC on validation, the mean over the models that read.

    It has one for every model of which any has one: methods are compared on the same models. No test answer takes part
    in the choice. "" where no validation answers can tell.
    """
    plain = native_rows(rows[rows["method"].isin(TRAINING_FREE) & rows["scored"].isin(readers)])
    if plain.empty:
        return ""
    _, members = first_test_set(tasks, rows)
    held = plain[plain["split"] == "validation"].assign(split="test")  # the split that scores are of
    reached = scores.within_task(scores.by_task(held, only_auroc=True), members).groupby(["method", "scored"])["auroc"]
    by_method = reached.mean().unstack().dropna(axis=1, how="all").mean(axis=1, skipna=False).dropna()
    return by_method.idxmax() if len(by_method) else ""


def comparisons(
    rows: pd.DataFrame, cells: pd.DataFrame, samples: pd.DataFrame, paired: tuple[pd.DataFrame, pd.DataFrame],
    primary: pd.Series, readers: list[str], tasks: list[dict],
) -> pd.DataFrame:  # fmt: skip
    """The differences that the answer rests on, on the first test set, and what training adds on the shift questions.

    Whether training helps is a family of its own: for each method, the mean over the models that read of their own
    estimator less the training-free method, corrected for each other (Holm). The others are primary hypotheses, but for
    the shift questions, which are exploratory.

    Args:
        paired: as `gains.paired` returns, of the training-free method.

    Returns:
        kind, method (of `TRAINING` and `SHIFT`, else ""), count (of what a mean is over, see `OVER`), without (the
        models that it leaves out), what `bootstrap.tested` returns, test_set, and alone (what it says of each
        difference that a mean is over; empty where these are not tested). A difference with a cell that is missing is
        left out.
    """
    label, members = first_test_set(tasks, rows)
    measured, draws = cells[cells["test_set"] == label].set_index(scores.CELL), bootstrap.by_cell(samples, members)
    known = {*measured.index[measured["auroc"].notna()]}
    parts = dict(_primary(claims.roles(rows, readers, members), known))
    means = _asked_of([(kind, "", len(of), (), _mean(of)) for kind, of in parts.items()], measured, draws)
    table, resampled = _training(TRAINING, *paired, label, members, readers)
    p = [bootstrap.p_value(*one) for one in zip(table["estimate"], resampled)]
    family = bootstrap.holm(pd.Series(p, table["hypothesis"], dtype=float))
    tested = [bootstrap.tested(table, resampled, family), bootstrap.tested(*means, primary)]
    tested = [part.assign(test_set=label) for part in tested]
    each = {kind: bootstrap.tested(*bootstrap.contrasts(of, measured, draws), primary) for kind, of in parts.items()}
    shifted = test_sets(tasks, sorted(rows["task"].unique())).get("shift")
    if shifted and label != "shift":
        there = _training(SHIFT, *paired, "shift", shifted, readers)
        tested.append(bootstrap.tested(*there, pd.Series(dtype=float)).assign(test_set="shift"))
    whole = pd.concat([part for part in tested if len(part)] or tested[:1], ignore_index=True)
    return whole.assign(alone=[(*each[kind]["says"],) if kind in each else () for kind in whole["kind"]])


def _asked_of(asked: list[tuple], measured: pd.DataFrame, draws: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """What `bootstrap.contrasts` returns of (kind, method, count, without, weights), all but the last as columns."""
    names = pd.DataFrame([line[:-1] for line in asked], columns=["kind", "method", "count", "without"])
    values, resampled = bootstrap.contrasts([line[-1] for line in asked], measured, draws)
    return names.join(values), resampled


def _training(
    kind: str, cells: pd.DataFrame, samples: pd.DataFrame, label: str, tasks: list[str], readers: list[str]
) -> tuple[pd.DataFrame, np.ndarray]:
    """What `_asked_of` returns for each trained method: the mean over the models that have a value on a test set."""
    measured, asked = cells[cells["test_set"] == label].dropna(subset="auroc").set_index(scores.CELL), []
    for method in COMPARED:
        there = {model: cell for model in readers if (cell := (method, model, model, model)) in measured.index}
        without = (*(model for model in readers if model not in there),)
        weights = _mean([{cell: 1.0, baseline_of(cell): -1.0} for cell in there.values()])
        asked += [(kind, method, len(there), without, weights)] if there else []
    return _asked_of(asked, measured, bootstrap.by_cell(samples, tasks))


def _primary(players: dict[str, str], known: set[tuple]):
    """(kind, weights of the cells of each difference that it is the mean over) for the two means of reading A that are
    primary hypotheses, if all their cells are `known`."""
    models = [*players.values()]
    places = [(column, column, row) for row, column in itertools.product(models, models)]
    both = [{("probe", *place): 1.0, ("lora_prompt", *place): -1.0} for place in places]
    crossed = [
        {(method, scored, scored, scored): 1.0, (method, other, other, scored): -1.0}
        for method in COMPARED
        for scored, other in itertools.permutations(models, 2)
    ]
    for kind, parts in ((METHOD, both), (SELF, crossed)):
        if parts and {*itertools.chain(*parts)} <= known:
            yield kind, parts


def _mean(parts: list[dict[tuple, float]]) -> dict[tuple, float]:
    """The weights of the cells in the mean over differences, no two of which share a cell."""
    return {cell: weight / len(parts) for part in parts for cell, weight in part.items()}


def chance(table: pd.DataFrame) -> str:
    """Whether estimators are better than chance, as a sentence that answers the page's title; "" if nothing says so.

    Cells that were still improving, and those of released adapters, do not count.
    """
    settled = settled_cells(table)
    above = above_chance(settled)
    if above == len(settled):
        return "Yes, better than chance." if above else ""
    return f"In part: better than chance in {above} of {len(settled)} cells." if above else "No better than chance."


def answer(table: pd.DataFrame, baseline: str, lead: str = "") -> str:
    """The answer in a few short sentences, after a `lead` such as `chance`, and the differences (`comparisons`) that it
    rests on, as Markdown.

    Nothing is concluded from cells that were still improving, or of adapters that others released.
    """
    says = {kind: group.set_index("method")["says"] for kind, group in table.groupby("kind", sort=False)}
    if table.empty:
        return f'<p class="answer">{escape(" ".join(filter(None, [lead, "No difference could be tested."])))}</p>'
    parts = _helps(says.get(TRAINING, pd.Series(dtype=str)), baseline) if baseline else []
    parts += _elsewhere(table[table["kind"] == SHIFT]) if parts else []
    are_named = all(name in "".join(parts) for name in NAMED.values())
    named = {
        METHOD: (*NAMED.values(), "the two methods" if are_named else " and ".join(NAMED.values())),
        SELF: ("self-trained estimators", "cross-trained ones", "self- and cross-trained estimators"),
    }
    alone = dict(zip(table["kind"], table["alone"]))
    parts += [_stands(says[kind].iloc[0], *names, alone[kind]) for kind, names in named.items() if kind in says]
    text = " ".join([*filter(None, [lead]), *(f"{part[0].upper()}{part[1:]}." for part in parts)])
    asked = table["test_set"].iloc[0]
    rests = f"This rests on differences of AUROC, on {asked} test questions ({SETS[asked]}):"
    words = [AUROC, *[LIKELIHOOD] * (baseline == "likelihood"), *[TRAINED_ON] * (SELF in says), BETTER]
    lines = [*_bullets(table, baseline), "", *words]
    return "\n".join([f'<p class="answer">{escape(text)}</p>\n', f"{rests}\n", *lines])


AUROC = (
    "AUROC is the probability that a right answer gets higher confidence than a wrong one of the same task: one half "
    "is chance, one is perfect."
)
LIKELIHOOD = "Answer likelihood is the probability that a model gave to its own answer while it wrote it."
TRAINED_ON = "A *self-trained* estimator scores the model that it was trained on, a *cross-trained* one another model."
BETTER = (
    "*Better* and *worse* are differences that are significant after Holm's correction for many tests. A p-value is "
    "corrected for all differences of its family; an interval is of one difference alone."
)


def _helps(says: pd.Series, baseline: str) -> list[str]:
    """Whether training helps, as sentences without their first capital and full stop, by each method's test."""
    plain = f"{style.inside(baseline)}, the best training-free baseline"
    settled, unsettled = says[~says.isin(OPEN)], says.index[says.isin(OPEN)]
    if settled.empty:
        return [f"whether training helps over {plain}, is inconclusive"]
    above, below = (settled.index[settled == verdict] for verdict in (ABOVE, BELOW))
    if len(above):
        lead, only = ("training helps", "") if len(above) == len(settled) else ("training helps in part", "only ")
        text = f"{lead}: {only}{_are(above)} better than {plain}"
    elif len(below):
        lead = "training does not help" if len(below) == len(settled) else "training shows no significant gain"
        text = f"{lead}: {_are(below)} worse than {plain}"
    else:
        who = NAMED[settled.index[0]] if len(unsettled) else "training"
        text = f"{who} shows no significant gain over {plain}"
    return [text, *(f"{NAMED[method]} is inconclusive" for method in unsettled)]


def _are(methods) -> str:
    return " and ".join(NAMED[method] for method in methods) + (" is" if len(methods) == 1 else " are")


def _elsewhere(table: pd.DataFrame) -> list[str]:
    """How trained methods stand to the training-free one on shift questions, where an interval is without zero."""
    known = table[table["says"] == EXPLORATORY]
    sides = {"above": known.loc[known["low"] > 0, "method"], "below": known.loc[known["high"] < 0, "method"]}
    are = [f"{'both are' if len(some) > 1 else _are(some)} {side} it" for side, some in sides.items() if len(some)]
    return [f"on questions of other tasks, {' and '.join(are)} (exploratory)"] if are else []


def _stands(verdict: str, one: str, other: str, both: str, alone: tuple[str, ...]) -> str:
    """How two stand to each other by the verdict of their difference, and of each one that it is the mean over."""
    is_mean, are = len(alone) > 1, "is" if one.startswith("the ") else "are"
    if verdict == INSIGNIFICANT:
        return f"{both} do not differ significantly{' on average' if is_mean else ''}"
    if verdict not in (ABOVE, BELOW):
        return f"how {both} compare is inconclusive"
    over = f" in the mean over {len(alone)} differences, {_sure(alone, verdict)}" if is_mean else ""
    return f"{one} {are} {'better' if verdict == ABOVE else 'worse'} than {other}{over}"


def _sure(alone: tuple[str, ...], verdict: str) -> str:
    """How many differences have the verdict of their mean, each by itself, and how many the opposite one."""
    same, opposite = alone.count(verdict), alone.count(BELOW if verdict == ABOVE else ABOVE)
    return f"{same or 'none'} of them significant alone" + (f", and {opposite} the other way" if opposite else "")


def _bullets(table: pd.DataFrame, baseline: str) -> list[str]:
    lines = []
    for kind, group in table.groupby("kind", sort=False):
        more = {TRAINING: f", against {style.inside(baseline)}", SHIFT: ", of other tasks"}.get(kind, "")
        counts = style.span(group["count"].min(), group["count"].max())
        mean = f", mean over {OVER[kind].format(counts)}" if group["count"].max() > 1 else ""
        mean += TWO if kind in (METHOD, SELF) and (table.loc[table["kind"] == TRAINING, "count"] > 2).any() else ""
        titles = group["method"].map(METHOD_TITLES).fillna("")
        titles += "" if group["count"].nunique() == 1 else ", over " + group["count"].astype(str) + ","
        values = [f"{title} {_difference(line)}".lstrip() for title, line in zip(titles, group.itertuples())]
        lines.append(f"- **{kind}**{more}{mean}: {'; '.join(values)}.{_left_out(group)}{_each(group['alone'].iloc[0])}")
    return lines


def _left_out(group: pd.DataFrame) -> str:
    """Of which models a mean has no value, as a sentence."""
    lines = (line for line in group.itertuples() if line.without)
    parts = [f"{METHOD_TITLES[line.method]} of {' and '.join(line.without)}" for line in lines]
    return f" Left out, since a value is missing: {'; '.join(parts)}." if parts else ""


def _each(alone: tuple[str, ...]) -> str:
    """How many of the differences that a mean is over are significant, as a sentence."""
    sides = {"above": alone.count(ABOVE), "below": alone.count(BELOW)}
    counted = " and ".join(f"{count} {side} zero" for side, count in sides.items() if count)
    return f" Significant alone: {counted or 'none'}." if len(alone) > 1 else ""


def _difference(line) -> str:
    if pd.isna(line.estimate):
        return FEW
    p = f", {style.p_is(line.p_holm)}" if pd.notna(line.p_holm) else ""
    says = {ABOVE: "significant", BELOW: "significant", RELEASED: f"no verdict, a cell is {RELEASED}"}
    says |= {IMPROVING: f"no verdict, a cell was {IMPROVING} {MARK}"}
    estimate, low, high = (style.signed(value, 3) for value in (line.estimate, line.low, line.high))
    return f"{estimate} (95 % interval {low} to {high}{p}, {says.get(line.says, line.says)})"


def box_html(rows: pd.DataFrame, estimators: str, models: list[str], readers: list[str], tasks: list[dict]) -> str:
    """What the answer rests on, as HTML: each model's accuracy on each kind of test question, tasks and seeds."""
    seeds = sorted({*rows.loc[rows["method"].isin([*TRAINED]), "seed"]})  # a grid may name more than there are yet
    test = rows[rows["split"] == "test"].drop_duplicates(["scored", "question_id"])
    sets = test_sets(tasks, sorted(test["task"].unique()))
    sets = {label: members for label, members in sets.items() if label in ("in-distribution", "shift")}
    lines = {f"Right answers, {label}": _right(test[test["task"].isin(members)]) for label, members in sets.items()}
    cards = [*plateau.cards(estimators).values()]
    facts = {title: dict(zip(readers, values)) for title, values in facts_of(cards, readers).items()}
    facts["Training answers"] = _taught(cards)
    shown = {title: [of.get(model, "—") for model in models] for title, of in (facts | lines).items()}
    shown = {title: values for title, values in shown.items() if {*values} != {"—"}}
    shown |= {f"Test questions, {label}": [_asked(test, members)] for label, members in sets.items()}
    if seeds:
        shown["Seeds"] = [f"{len(seeds)} (seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))})"]
    # The book adds the machine and the time of the run, which only its records know.
    return _facts_html("facts rests-on", "What it rests on", models, shown)


def _facts_html(name: str, caption: str, columns: list[str], lines: dict[str, list[str]]) -> str:
    """A table as HTML, a line's values side by side, or its only one across all columns."""
    head = "".join(f'<th scope="col">{escape(column, quote=False)}</th>' for column in columns)
    body = ""
    for title, values in lines.items():
        cells = [f'<td colspan="{len(columns) // len(values)}">{escape(value)}</td>' for value in values]
        body += f'<tr><th scope="row">{escape(title)}</th>{"".join(cells)}</tr>'
    whole = f"<caption>{caption}</caption><thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody>"
    return f'<table class="{name}">{whole}</table>'


def _taught(cards: list[dict]) -> dict[str, str]:
    """How many of its answers trained the probe and LoRA + Prompt, from the fewest to the most, by model."""
    counts: dict[str, set[int]] = {}
    for card in cards:
        if card["method"] in COMPARED and "training_answers" in card:
            counts.setdefault(card["trained_on"], set()).add(sum(card["training_answers"].values()))
    return {model: style.span(f"{min(some):,}", f"{max(some):,}") for model, some in counts.items()}


def _right(answers: pd.DataFrame) -> dict[str, str]:
    """How many of its answers are right, by scored model."""
    counts = answers.groupby("scored")["correct"].agg(["sum", "size"])
    return {model: f"{right:,} of {n:,} ({100 * right / n:.0f} %)" for model, right, n in counts.itertuples()}


def _asked(test: pd.DataFrame, members: list[str]) -> str:
    counts = test.drop_duplicates("question_id").groupby("task").size().reindex(members, fill_value=0)
    names = ", ".join(f"{task}\u00a0{n:,}" for task, n in counts.items())
    names = f"{len(counts)} tasks" if len(counts) > 8 else names
    return f"{counts.sum():,} questions ({names})"


def caption_html(table: pd.DataFrame, baseline: str, links: bool = False) -> str:
    """The caption of the figure, which says what to see in it; without `baseline` it has no last panel.

    With `links`, a cell of the figure leads to the page of its estimator.
    """
    first = first_heatmap(table)
    counts = first.loc[first["auroc"].notna(), "n"].dropna()
    rests = f", each from {style.span(counts.min(), counts.max())} answers" if len(counts) else ""
    both = {*READINGS} <= {*table["reading"]}
    reading = "This is reading A, estimator transfer. " if both else ""
    other = " In reading B, data transfer, a model scores its own answers, trained on those of the column."
    last = f" The last panel is {escape(style.inside(baseline))}, which needs no training." if baseline else ""
    return (
        '<p class="figure-caption"><b>Figure 1.</b> '
        f"In the view shown first, AUROC on {escape(str(first['test_set'].iloc[0]))} test questions{rests}. Lighter is "
        f"better. {reading}A column is an estimator, named by the model that reads and was trained on its own answers. "
        "A row is the model whose answers are scored. On the diagonal a model scores its own answers."
        f"{other if both else ''}{last} Beneath a value stand its 95 % interval over questions and the number of right "
        f"answers. {MARK} marks a cell that was {IMPROVING} when its training ended, hatching one without a "
        f"value.{' Press a cell, or Enter on it, for its page.' if links else ''}</p>"
    )


def schematic_html(readers: list[str], models: list[str]) -> str:
    """Who is trained on, reads and is scored, as a drawing made of a list, with a cell of this run as its example."""
    column = readers[-1]
    row = next((model for model in models if model != column), column)
    row, column = escape(row), escape(column)
    steps = [
        ("Trained on", "Its graded answers are the examples that the estimator learns from.", f"for example {column}"),
        ("Reader", "Its weights make the estimate: a probe on its hidden states, or the model itself after LoRA + "
                   "Prompt, which is asked whether an answer is correct.", f"for example {column}"),
        ("Scored", "Its test answers, which no estimator has seen, each get a confidence.", f"for example {row}"),
        ("AUROC", "Do right answers get more confidence than wrong ones?", "one cell"),
    ]  # fmt: skip
    boxes = "".join(f"<li><b>{title}</b><span>{text}</span><em>{example}</em></li>" for title, text, example in steps)
    return (
        '<figure class="schema"><ol aria-label="From graded answers to a cell: trained on, reader, scored, AUROC">'
        f"{boxes}</ol><figcaption><b>Figure 2.</b> The three models behind a cell. The example is the cell "
        f"in column {column} and row {row} of Figure 1.</figcaption></figure>"
    )


def examples(rows: pd.DataFrame, answers: dict[str, str], readers: list[str], tasks: list[dict], baseline: str):
    """Some graded test answers of each scored model with the confidence of each estimator in them.

    They are the first `SHOWN` right and the first `SHOWN` wrong ones in the order of the SHA-256 of their questions'
    names, on the first test set: nobody chooses them, and they are the same ones in every run of the same questions.

    Returns:
        scored, question, answer, gold, task, correct, and a column with P(correct), of the mean logit over seeds, for
        `baseline` and each estimator that was trained on its reader's answers; NaN where one has scored no such answer.
    """
    _, members = first_test_set(tasks, rows)
    test = rows[(rows["split"] == "test") & rows["task"].isin(members)]
    native = test["method"].isin(COMPARED) & test["reader"].isin(readers) & (test["reader"] == test["trained_on"])
    plain = (test["method"] == baseline) & test["reader"].isin(["", *readers])
    plain &= (test["reader"] == "") | (test["reader"] == test["scored"])
    kept, untrained = test[native | plain], METHOD_TITLES.get(baseline, baseline)
    names = kept["method"].map(METHOD_TITLES).astype(str) + " · " + kept["reader"]
    kept = kept.assign(estimator=names.mask(kept["method"] == baseline, untrained))
    keys = ["scored", "task", "question_id", "correct"]
    wide = kept.pivot_table("logit", keys, "estimator", "mean", sort=False)
    order = [f"{METHOD_TITLES[method]} · {reader}" for method in COMPARED for reader in readers]
    wide = wide[[name for name in [*order, untrained] if name in wide]]
    table = pd.DataFrame(expit(wide.to_numpy(float)), wide.index, wide.columns).reset_index()
    order = table["question_id"].map(lambda name: hashlib.sha256(name.encode()).hexdigest())
    table = table.loc[order.sort_values(kind="stable").index].groupby(["scored", "correct"], sort=False).head(SHOWN)
    table = table.merge(style.read_texts(answers), on=["scored", "question_id"])
    return table.sort_values("scored", key=lambda names: names.map([*answers].index), kind="stable", ignore_index=True)


def examples_html(table: pd.DataFrame) -> str:
    """The answers of `examples` as an HTML table; a script of the book adds switches for model and grade."""
    texts = ["question_id", "scored", "task", "question", "answer", "gold", "correct"]
    estimators = [name for name in table if name not in texts]
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ["Question", "Answer", "Grade", *estimators])
    body = "".join(_example(line, estimators) for line in table.to_dict("records"))
    rule = (
        f"Of each scored model, the first {SHOWN} right and the first {SHOWN} wrong test answers in the order of the "
        "SHA-256 of their questions' names, so that nobody chose them. Confidence is P(correct), the probability that "
        "an answer is correct, of the mean log-odds over seeds. An estimator is named by its method and its reader, "
        "which was trained on its own answers."
    )
    whole = f"<caption>{rule}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f'<table class="examples">{whole}</table>'


def _example(line: dict, estimators: list[str]) -> str:
    grade = "right" if line["correct"] else "wrong"
    accepted = style.some([_one_line(text) for text in line["gold"]], GOLD)
    mark = "✓ right" if line["correct"] else f"✗ wrong, accepted: {accepted}"
    cells = {"Question": line["question"], f"Answer of {line['scored']}": line["answer"] or "(nothing)", "Grade": mark}
    texts = "".join(f'<td data-title="{escape(name)}">{escape(_one_line(text))}</td>' for name, text in cells.items())
    for name, value in ((name, line[name]) for name in estimators):
        shown = ">—" if pd.isna(value) else f' style="--p: {value:.3f}">{value:.2f}'
        texts += f'<td class="confidence" data-title="{escape(name)}"{shown}</td>'
    return f'<tr data-scored="{escape(line["scored"])}" data-grade="{grade}">{texts}</tr>'


def _one_line(text: str) -> str:
    return " ".join(str(text).split())


def figures_html(table: pd.DataFrame, models: list[str], tasks: list[dict]) -> str:
    """The paper's figure and this run's, side by side with what each rests on, as an HTML table."""
    theirs, ours, first = claims.figure(), settled_cells(table), first_heatmap(table)
    test_set, mlp = first["test_set"].iloc[0], _reached(first[no_verdict(first) == ""], "probe_mlp")
    role = "train" if test_set == "in-distribution" else "shift"
    has_probe = first.loc[first["method"] == "probe", "auroc"].notna().any()
    probe = f"a logistic regression{f'; an MLP reaches {mlp}' if mlp != '—' else ''}" if has_probe else "—"
    asked = ", ".join(str(task["name"]) for task in tasks if task["role"] == role)
    lines = {
        "Models": [", ".join(claims.MODELS), ", ".join(models)],
        "Test questions": [theirs["test_set"].iloc[0], f"{test_set}: {asked}"],
        **{METHOD_TITLES[method]: [_reached(theirs, method), _reached(ours, method)] for method in COMPARED},
        "Probe, what it is": ["an MLP", probe],
        "Intervals": ["none in the figure", "95 %, bootstrap over questions"],
        "Seeds": ["not in the figure", f"{first['seeds'].fillna(0).max()}"],
        "Read from": [f"a description of the figure, in steps of {2 * claims.margin():g}", "this run's rows"],
    }
    caption = (
        "AUROC from the lowest to the highest cell, without those that were still improving. The two measure different "
        "models on different questions, so that their values cannot be compared cell by cell."
    )
    return _facts_html("facts", caption, ["The paper's figure", "This run"], lines)


def _reached(table: pd.DataFrame, method: str) -> str:
    values = table.loc[table["method"] == method, "auroc"].dropna()
    return style.span(f"{values.min():.2f}", f"{values.max():.2f}") if len(values) else "—"
