"""Sentences about the results; every number and every comparison in them is computed."""

import pandas as pd

from whoknows.evaluation.auroc import ENOUGH
from whoknows.evaluation.bootstrap import ABOVE, BELOW, EXPLORATORY, FEW, INSIGNIFICANT, SURE
from whoknows.evaluation.cells import METHODS
from whoknows.evaluation.plateau import IMPROVING, MARK, TOLERANCE, marked
from whoknows.evaluation.scores import CELL
from whoknows.report.pages.claims import FAILS, HOLDS, OPEN, Claim, hypothesis, margin

IS = {OPEN: "is "}  # a verdict that is no verb
SOURCES = {"figure": "By its own numbers", "released": "By the released results", "measured": "Measured here"}


def answer(table: pd.DataFrame, baselines: pd.DataFrame, primary: pd.Series) -> str:
    """What the first picture shows (reading A, the first test set), how sure it is, and what needs no training: three sentences.

    Cells that were still improving when training ended are in none of them; a fourth counts them.

    Args:
        table: as `cells.heatmap_table` returns.
        baselines: as `cells.baseline_table` returns.
        primary: as `claims.corrected` returns.
    """
    shown = table[(table["reading"] == "A") & (table["test_set"] == table["test_set"].iloc[0])]
    measured = shown[shown["method"] != "probe_mlp"].dropna(subset="auroc")
    if measured.empty:
        return "Nothing is measured yet."
    settled = measured[~marked(measured)]
    concluded = [_how_well(shown, settled), _how_sure(settled, primary), _untrained(measured, baselines)] if len(settled) else []
    said = filter(None, [*concluded, _unfinished(measured)])
    return "\n".join(f"- {sentence}" for sentence in said)


def _unfinished(measured: pd.DataFrame) -> str:
    """How many cells were still improving when training ended, and of how many nobody knows; "" if neither is known of any."""
    count, unknown = marked(measured).sum(), measured["still_improving"].isna().sum() if "still_improving" in measured else 0
    parts = []
    if count:
        what = "nothing can be concluded from them" if count == len(measured) else "they count in no sentence here and in no verdict"
        parts.append(f"**{count} of {len(measured)} cells were {IMPROVING} when training ended** ({MARK}): {what}.")
    if unknown:
        parts.append(f"Of {unknown} of {len(measured)} cells no card says whether training had reached its plateau.")
    return " ".join(parts)


def training(table: pd.DataFrame, methods: list[str], seeds: list[int]) -> str:
    """Whether the estimators of a cell were still improving when their training ended, and why, as Markdown.

    Args:
        table: as `plateau.table` returns.
        methods: those of the cell.
        seeds: the grid's.
    """
    asked = table[table["seed"].isin(seeds)]
    said = []
    for method in methods:
        own = asked[asked["method"] == method]
        why = [f"with seed {line.seed}, {line.why}" for line in own[marked(own)].itertuples()]
        unknown = len(seeds) - own["still_improving"].notna().sum()
        if why:
            said.append(f"**{METHODS[method]} was {IMPROVING} when its training ended** ({MARK} in the heatmaps), so that no verdict rests on it: {'; '.join(why)}.")
        elif unknown:
            said.append(f"{METHODS[method]}: no card says of {unknown} of {len(seeds)} seeds whether training had reached its plateau.")
        else:
            said.append(f"{METHODS[method]} was not {IMPROVING} when its training ended: AUROC on validation had stopped rising there, or rose by no more than {TOLERANCE}.")
    return "\n\n".join(said)


def _how_well(shown: pd.DataFrame, measured: pd.DataFrame) -> str:
    ranges = [_range(METHODS[method], shown[shown["method"] == method]) for method in ("probe", "lora_prompt") if method in set(shown["method"])]
    above = int((measured["low"] > 0.5).sum()) if "low" in measured else 0
    lead = f"**Better than chance in {above} of {len(measured)} cells**" if above else "**Nowhere significantly better than chance**"
    return f"{lead}: on {shown['test_set'].iloc[0]} test questions, {' and '.join(ranges)}, where one half is chance and one would be perfect."


def _how_sure(measured: pd.DataFrame, primary: pd.Series) -> str:
    rests = f"The cells rest on {_span(measured['n_right'].min(), measured['n_right'].max())} right answers"
    if "low" in measured:
        wide = measured["high"] - measured["low"]
        rests += f", so that their 95 % intervals are {_span(f'{wide.min():.2f}', f'{wide.max():.2f}')} wide"
    both = measured.pivot(index=CELL[1:], columns="method", values="auroc").reindex(columns=["probe", "lora_prompt"]).dropna()
    difference = both["probe"] - both["lora_prompt"]
    p = pd.Series([hypothesis({("probe", *place): 1.0, ("lora_prompt", *place): -1.0}) for place in both.index], both.index, dtype=object).map(primary)
    sure = difference[p < SURE]
    compared = f", and the probe is the higher of the two in {(difference > 0).sum()} of {len(both)} cells that have both" if len(both) else ""
    tested = f"; of {p.notna().sum()} that are primary hypotheses it is significantly higher in {(sure > 0).sum()} and lower in {(sure < 0).sum()}" if p.notna().any() else ""
    return f"{rests}{compared}{tested}."


def _untrained(measured: pd.DataFrame, baselines: pd.DataFrame) -> str:
    """How the answer likelihood stands beside the estimators that each model trained on its own answers."""
    plain = baselines[(baselines["test_set"] == measured["test_set"].iloc[0]) & (baselines["method"] == "likelihood")].set_index("scored")["auroc"].dropna()
    native = measured[measured["model"] == measured["trained_on"]]
    own, unfinished = native.groupby("model", sort=False)["auroc"].max(), set(native.loc[marked(native), "model"])
    models = [model for model in own.index if model in plain.index and model not in unfinished]
    if not models:
        return ""
    values = " and ".join(f"{plain[model]:.2f} on the answers of {model}" for model in models)
    if len(models) > 2:
        values = f"{_span(f'{plain[models].min():.2f}', f'{plain[models].max():.2f}')} on the answers of {len(models)} models"
    above = sum(plain[model] >= own[model] for model in models)
    beside = f"no lower than the best that {'each of these models' if len(models) > 1 else 'it'} learned from its own answers" if above == len(models) else f"no lower than the best that was learned for {above} of {len(models)} models"
    return f"How likely a model found its own words, which needs no training, reaches {values}, {beside}."


def claims_summary(verdicts: pd.DataFrame, players: dict[str, str], judged: pd.DataFrame) -> str:
    """How many claims hold by each source, and which contradict the description's own numbers, as Markdown.

    Args:
        verdicts: as `claims.verdicts` returns.
        players: as `claims.roles` returns.
        judged: as `claims.judge` returns.
    """
    said, measured = [], judged[judged["source"] == "measured"]
    for (source, reading), own in verdicts.groupby(["source", "reading"], sort=False):
        counts = own["verdict"].value_counts().reindex([HOLDS, FAILS, OPEN], fill_value=0)
        parts = f"{_count(counts[HOLDS], 'hold')}, {_count(counts[FAILS], 'fail')}, {counts[OPEN]} inconclusive"
        said.append(f"- {_source(source, reading)}: of {len(own)} claims, {parts}.")
    by_itself = verdicts[verdicts["source"] == "figure"]
    wrong = [f"“{claim}”" for claim in by_itself.loc[by_itself["verdict"] == FAILS, "claim"]]
    if wrong:
        said += ["", f"The description contradicts the values that it lists itself in {len(wrong)} of its claims: {'; '.join(wrong)}."]
    stronger, weaker = players["Mistral"], players["LLaMA-2"]
    said += ["", f"Here {stronger} stands for Mistral, and {weaker} for LLaMA-2: of two models, the one with more right answers stands for the stronger."]
    said += ["", f"The {len(measured)} measured differences, of both readings, are {measured['hypothesis'].nunique()} distinct primary hypotheses: one that stands in several claims or in both readings, or mirrored, counts once."]
    said += ["", f"The figure gives its values in steps of {2 * margin():g}, so that a difference below {margin():g} could not be seen in it. A measured claim fails where one of its differences is significantly below {margin():g}, negative ones included; it holds where all are significantly above zero and none fails."]
    return "\n".join(said)


def claims_findings(claims: list[Claim], judged: pd.DataFrame, verdicts: pd.DataFrame, players: dict[str, str]) -> str:
    """Each claim with its verdicts and the differences that decided them, as Markdown.

    Args:
        claims: as `claims.load` returns.
        judged: as `claims.judge` returns.
        verdicts, players: as in `claims_summary`.
    """
    said = []
    for claim in claims:
        said += [f"### {claim.claim}", "", f"> {claim.says}", ""]
        for line in verdicts[verdicts["claim"] == claim.claim].itertuples():
            own = judged[(judged["claim"] == claim.claim) & (judged["source"] == line.source) & (judged["reading"] == line.reading)]
            said.append(f"- {_source(line.source, line.reading)}, it **{IS.get(line.verdict, '')}{line.verdict}**: {_deciding(own, line.verdict)}.")
        said.append("")
    return "\n".join(said)


def contest_findings(table: pd.DataFrame) -> str:
    """For each model, what is above its probe, what is below, and what does not differ significantly from it, as Markdown.

    Args:
        table: as `contest.contest` returns.
    """
    said = []
    for scored, own in table.groupby("scored", sort=False):
        for line in own[own["method"] == "probe"].itertuples():
            value = f"the probe has {line.auroc:.2f} ({line.low:.2f} to {line.high:.2f}). {_against(own)}"
            said.append(f"- **{scored}**, on its own answers: {value if pd.notna(line.auroc) else f'no value ({line.reason}).'}")
    return "\n".join(said) or "There is no probe to compare with yet."


def below_chance(table: pd.DataFrame) -> str:
    """Which methods that nobody trained put wrong answers above right ones on the first test set, as Markdown.

    Args:
        table: as `cells.baseline_table` returns.
    """
    first = table[table["test_set"] == table["test_set"].iloc[0]] if len(table) else table
    below = first[first["high"] < 0.5]
    if below.empty:
        return ""
    told = [f"{METHODS[line.method]}{f' of reader {line.reader}' if line.reader else ''}, scored on {line.scored}: {line.auroc:.2f} ({line.low:.2f} to {line.high:.2f})" for line in below.itertuples()]
    return f"Below chance, by an interval that ends below one half: {'; '.join(told)}. There wrong answers get more confidence than right ones, so that it misleads. These comparisons are exploratory."


def differences_findings(table: pd.DataFrame) -> str:
    """How many differences of each kind are significant on the first test set, and how many are exploratory, as Markdown.

    Args:
        table: as `differences.of_grid` returns.
    """
    if table.empty:
        return "There is nothing to compare yet."
    first, said = table[table["test_set"] == table["test_set"].iloc[0]], []
    for kind, own in first.groupby("kind", sort=False):
        counts = own["says"].value_counts()
        parts = [f"{counts[says]} {says}" for says in (ABOVE, BELOW, INSIGNIFICANT, EXPLORATORY, IMPROVING, FEW) if says in counts]
        between = f"; from {_signed(own['estimate'].min())} to {_signed(own['estimate'].max())}" if own["estimate"].notna().any() else ""
        said.append(f"- **{kind}**: {', '.join(parts)} of {len(own)}{between}.")
    return "\n".join([f"On {first['test_set'].iloc[0]} test questions, differences from zero, each fact once:", "", *said])


def shift_findings(table: pd.DataFrame) -> str:
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
    return "\n".join(["AUROC, and how it differs from that in-distribution, with 95 % intervals. No change is a primary hypothesis: all are exploratory.", "", *said])


def left_out_findings(table: pd.DataFrame) -> str:
    """What it costs to leave a task out of training, as Markdown.

    Args:
        table: as `shift.left_out` returns.
    """
    if table.empty:
        return ""
    enough = table[table["n_rarer"] >= ENOUGH].dropna(subset=["with_task", "without_task"])
    if enough.empty:
        return f"No task has the {ENOUGH} right and as many wrong answers that it takes to tell what leaving it out of training costs."
    settled, few = enough[~marked(enough)], len(table) - len(enough)
    if settled.empty:
        return f"What leaving a task out of training costs is inconclusive: each time one of the two was {IMPROVING} when training ended."
    change, others = settled["without_task"] - settled["with_task"], len(enough) - len(settled)
    left = f"; {few} more rest on fewer than {ENOUGH} right or wrong answers" if few else ""
    left += f"; {others} more were {IMPROVING} when training ended" if others else ""
    return (
        f"Without a task in training, AUROC on it changes by {_signed(change.min())} to {_signed(change.max())}; "
        f"it falls in {(settled['high'] < 0).sum()} of {len(settled)} cases by an interval below zero{left}."
    )


def grading_findings(table: pd.DataFrame) -> str:
    """How far the cells move when the same answers are graded otherwise, as Markdown.

    Args:
        table: as `grading.heatmaps_under` returns.
    """
    first = table[(table["test_set"] == table["test_set"].iloc[0]) & (table["reading"] == "A")]
    wide = first.pivot(index=["method", "model", "trained_on"], columns="grading", values="auroc")[first["grading"].unique()]
    usual, *others = wide.columns
    said = [f"On {first['test_set'].iloc[0]} test questions, in reading A, with {usual}, cells reach {_span(f'{wide[usual].min():.2f}', f'{wide[usual].max():.2f}')}."]
    for name in others:
        moved = (wide[name] - wide[usual]).dropna()
        if len(moved):
            said.append(f"With {name}, they move by {_signed(moved.mean())} on average, from {_signed(moved.min())} to {_signed(moved.max())}.")
    return " ".join(said)


def held_findings(grades: pd.DataFrame) -> str:
    """How many questions hold an accepted answer themselves, and how many answers hold that alone and so count as wrong, as Markdown.

    Args:
        grades: as `grading.grades` returns.
    """
    test = grades[grades["split"] == "test"]
    questions = test.drop_duplicates("question_id")
    echoes = " and ".join(f"{own['echo'].sum()} of {scored}" for scored, own in test.groupby("scored", sort=False))
    return f"Of {len(questions)} test questions, {questions['held'].sum()} hold an accepted answer themselves. Answers that hold no other one, and count as wrong for it: {echoes}."


def _on(test_set: str, lines: pd.DataFrame) -> str:
    if lines["auroc"].isna().all():
        return f"on {test_set}, {_span(lines['n_rarer'].min(), lines['n_rarer'].max())} right or wrong answers are too few to tell"
    ordered = lines.dropna(subset="auroc").sort_values("method", key=lambda names: names.map([*METHODS].index))
    return f"on {test_set}, " + ", ".join(f"{METHODS[line.method]} {line.auroc:.2f}{_change(line)}" for line in ordered.itertuples())


def _change(line) -> str:
    """How a value on a shift differs from that in-distribution; "" where one of the two rests on too few answers."""
    if pd.isna(line.change):
        return ""
    return f" ({_signed(line.change)}, from {_signed(line.change_low)} to {_signed(line.change_high)}{f', {IMPROVING}' if line.says == IMPROVING else ''})"


def _against(own: pd.DataFrame) -> str:
    rivals = own.dropna(subset="against")
    said = {
        ABOVE: "Above it", INSIGNIFICANT: "Not significantly different", BELOW: "Below it", EXPLORATORY: "Exploratory, by their difference",
        IMPROVING: f"With one of the two {IMPROVING} when training ended", FEW: "With too few right or wrong answers to tell",
    }  # fmt: skip
    parts = []
    for verdict, word in said.items():
        those = rivals[rivals["against"] == verdict].sort_values("difference", ascending=False)
        if len(those):
            parts.append(f"{word}: " + ", ".join(METHODS[m] + ("" if pd.isna(d) else f" ({_signed(d)})") for m, d in zip(those["method"], those["difference"])) + ".")
    return " ".join(parts)


def _source(source: str, reading: str) -> str:
    return SOURCES[source] if reading == "figure" else f"{SOURCES[source]}, reading {reading}"


def _deciding(own: pd.DataFrame, verdict: str) -> str:
    """The differences that a verdict rests on: those that failed, those that were inconclusive, or the smallest of all."""
    lines = own[own["says"] == verdict] if verdict != HOLDS else own.nsmallest(1, "estimate")
    shown = [_difference(line) for line in lines.head(3).itertuples()]
    more = len(lines) - len(shown)
    lead = "the smallest difference is " if verdict == HOLDS and len(own) > 1 else ""
    return lead + "; ".join(shown) + (f"; and {more} more" if more else "")


def _difference(line) -> str:
    if pd.isna(line.estimate):
        return f"{line.contrast}, {line.reason}"
    between = "" if pd.isna(getattr(line, "low", None)) else f" ({line.low:+.2f} to {line.high:+.2f})"
    return f"{line.contrast}, {line.estimate:+.2f}{between}" + (f", {line.reason}" if line.reason else "")


def _range(name: str, cells: pd.DataFrame) -> str:
    measured = cells.dropna(subset="auroc")
    values = measured.loc[~marked(measured), "auroc"]
    if not len(values):
        return f"**{name}** was {IMPROVING} in every cell" if len(measured) else f"**{name}** has no measured cell"
    return f"**{name}** reaches an AUROC of {_span(f'{values.min():.2f}', f'{values.max():.2f}')}"


def _signed(value: float) -> str:
    return f"{round(value, 2) + 0.0:+.2f}"  # a minus before zero would say that there is something


def _count(count: int, verb: str) -> str:
    return f"{count} {verb}s" if count == 1 else f"{count} {verb}"


def _span(low, high) -> str:
    return f"{low}" if low == high else f"{low} to {high}"
