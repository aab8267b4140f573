"""Training that ended too early is seen, in cards, in cells, in sentences and on pages, and no verdict rests on it."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
import vl_convert
from test_claims import STATED, planted

from made_up import graded
from test_prose import PAGES
from whoknows import WhoknowsError
from whoknows.data.rows import ALL_MODELS
from whoknows.evaluation import bootstrap, cells, plateau, scores
from whoknows.evaluation.plateau import IMPROVING, RELEASED, UNKNOWN
from whoknows.report.pages import cell, claims, controls, differences, heatmaps, shift

TASKS = [{"name": "trivia_qa", "role": "train"}]
RISING, FLAT = (0.6, 0.7, 0.72, 0.74, 0.76), (0.6, 0.7, 0.72, 0.7199, 0.7203)


def adapters(*auroc, patience=3, **names) -> dict:
    """A card of LoRA + Prompt with these looks at validation."""
    history = [{"step": 4 * at, "loss": 0.7, "validation_auroc": value} for at, value in enumerate(auroc, 1)]
    return {
        "method": "lora_prompt",
        "reader": "a",
        "trained_on": "a",
        "seed": 0,
        "settings": {"patience": patience},
        "history": history,
    } | names


def released(**names) -> dict:
    """A card of an adapter that others have trained."""
    card = adapters(**names) | {"origin": {"name": "org/theirs", "digest": None}}
    return {name: value for name, value in card.items() if name != "history"}


def mlp(*auroc, patience=10, **names) -> dict:
    search = [{"epoch": at, "validation_auroc": value} for at, value in enumerate(auroc)]
    card = adapters(method="probe_mlp", patience=patience, **names) | {
        "search": search,
        "chosen": {"epoch": int(np.argmax(auroc))},
    }
    return {name: value for name, value in card.items() if name != "history"}


def probe(table: dict[int, dict[float, float]], last_layer: int = 3, **names) -> dict:
    """A card of the logistic probe, from AUROC on validation by layer and strength."""
    search = [
        {"layer": layer, "strength": strength, "validation_auroc": value}
        for layer, row in table.items()
        for strength, value in row.items()
    ]
    best = max(search, key=lambda line: line["validation_auroc"])
    chosen = {"layer": best["layer"], "strength": best["strength"]}
    return {
        "method": "probe",
        "reader": "a",
        "trained_on": "a",
        "seed": 0,
        "search": search,
        "chosen": chosen,
        "last_layer": last_layer,
    } | names


def write(folder, *cards):
    for card in cards:
        place = folder / card["method"] / card["reader"] / card["trained_on"] / f"seed{card['seed']}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{card['method']}.json").write_text(json.dumps(card))
    return folder


@pytest.mark.parametrize("auroc, reason", [
    (RISING, "the last 2 of its 5 looks at validation gained 0.040"),
    ((0.6, 0.7, 0.72, 0.76, 0.75), "the last 2 of its 5 looks at validation gained 0.040"),
    ((0.6, 0.7, 0.76, 0.74, 0.75), ""),
    (FLAT, ""),
    ((0.7, 0.7, 0.7), ""),
    ((0.6,), "it has 1 look at validation, which cannot show a plateau"),
    ((0.7, 0.6), "it has 2 looks at validation, which cannot show a plateau"),
])  # fmt: skip
def test_looks_at_validation(auroc, reason):
    assert plateau.why(adapters(*auroc)) == plateau.why(mlp(*auroc)) == reason


def test_the_tolerance_is_where_the_mark_begins_and_is_what_the_book_says():
    for gain, expected in (
        (plateau.TOLERANCE - 1e-6, ""),
        (plateau.TOLERANCE + 1e-6, "the last 2 of its 3 looks at validation gained 0.005"),
    ):
        assert plateau.why(adapters(0.7, 0.7, 0.7 + gain)) == expected
    assert plateau.TOLERANCE == 0.005
    assert all("more than half a hundredth of AUROC" in PAGES[page] for page in ("glossary.md", "method.md"))


def test_training_that_its_patience_stopped_had_its_time():
    assert plateau.why(adapters(0.6, 0.7, 0.8, 0.7, patience=1)) == ""
    assert plateau.why(adapters(0.6, 0.7, 0.8, 0.7, patience=2)) != ""
    assert plateau.why(mlp(0.7, 0.6, patience=1)) == ""


def test_a_slow_rise_over_many_epochs_is_one():
    slow = np.linspace(0.6, 0.7, 100)
    assert plateau.why(mlp(*slow)) == "the last 20 of its 100 looks at validation gained 0.020"
    assert slow[-1] - slow[-3] < plateau.TOLERANCE, "which the last two looks would not show"
    assert plateau.why(mlp(*slow, *[0.7] * 9)) != "" and plateau.why(mlp(*slow, *[0.69] * 10)) == "", (
        "ten epochs are its patience"
    )


@pytest.mark.parametrize("card, reason", [
    (probe({2: {0.01: 0.7, 0.1: 0.8, 1.0: 0.7}}), ""),
    (
        probe({2: {0.01: 0.8, 0.1: 0.7, 1.0: 0.6}}),
        "its strength, 0.01, is the lowest that was tried, and gained 0.100 over the next",
    ),
    (
        probe({2: {1.0: 0.8, 0.1: 0.7, 0.01: 0.75}}),
        "its strength, 1, is the highest that was tried, and gained 0.100 over the next",
    ),
    (probe({2: {0.01: 0.703, 0.1: 0.7, 1.0: 0.6}}), ""),
    (probe({2: {0.1: 0.7}}), ""),
    (probe({1: {0.01: 0.75, 0.1: 0.6, 1.0: 0.5}, 2: {0.01: 0.6, 0.1: 0.8, 1.0: 0.7}}, last_layer=2), ""),
    (
        probe({1: {0.1: 0.6}, 2: {0.1: 0.8}}),
        "its layer, 2, is the highest that was tried, and gained 0.200 over the next",
    ),
    (
        probe({1: {0.1: 0.8}, 2: {0.1: 0.6}}),
        "its layer, 1, is the lowest that was tried, and gained 0.200 over the next",
    ),
    (probe({1: {0.1: 0.6}, 3: {0.1: 0.8}}), ""),
    (probe({0: {0.1: 0.8}, 2: {0.1: 0.6}}), ""),
    (probe({1: {0.1: 0.803}, 2: {0.1: 0.8}}), ""),
])  # fmt: skip
def test_what_a_probe_chose_among(card, reason):
    assert plateau.why(card) == reason


def test_a_card_without_a_word_of_training_is_not_known():
    assert plateau.why({"method": "centroid"}) is None and plateau.why(probe({2: {0.1: 0.7}}) | {"search": []}) is None
    old = {name: value for name, value in probe({1: {0.1: 0.6}, 3: {0.1: 0.8}}).items() if name != "last_layer"}
    assert plateau.why(old) == "", "an older version tried all layers or did not say how many there are"


def test_cards_are_found_wherever_they_lie_and_nothing_else_is_taken_for_one(tmp_path):
    write(tmp_path, adapters(*RISING), adapters(*FLAT, seed=1), probe({2: {0.1: 0.7}}))
    folder = tmp_path / "lora_prompt/a/a/seed0"
    (folder / "adapter_config.json").write_text('{"r": 8}')
    (folder / "list.json").write_text("[]")
    killed = folder.with_name(".seed0.77.tmp")
    killed.mkdir()
    (killed / "lora_prompt.json").write_text(json.dumps(adapters(*FLAT)))
    table = plateau.table(tmp_path).set_index(["method", "seed"])["unsettled"]
    assert table.to_dict() == {("lora_prompt", 0): IMPROVING, ("lora_prompt", 1): "", ("probe", 0): ""}
    assert plateau.table(tmp_path / "nothing").empty
    (folder / "lora_prompt.json").write_text("{")
    with pytest.raises(WhoknowsError, match="lora_prompt.json: this file is damaged; delete it"):
        plateau.table(tmp_path)


@pytest.fixture
def two_seeds(tmp_path):
    """Rows of a probe, of two seeds of LoRA + Prompt, one still improving, and of the likelihood; no card of an MLP."""
    write(tmp_path, adapters(*FLAT, seed=0), adapters(*RISING, seed=1), probe({2: {0.1: 0.7}}))
    parts = [
        graded({"probe": 1.0, "probe_mlp": 1.0, "lora_prompt": 3.0}),
        graded({"lora_prompt": 3.0}, seed=1),
        graded({"likelihood": 1.0}, reader="", trained_on=""),
    ]
    return pd.concat(parts, ignore_index=True), tmp_path


def measured(rows):
    return cells.measure(rows, scores.by_task(rows), TASKS).set_index("method")["unsettled"]


@pytest.mark.slow
def test_a_cell_is_marked_if_one_of_its_seeds_is(two_seeds):
    rows, folder = two_seeds
    marked = plateau.mark(rows, folder)
    pd.testing.assert_frame_equal(marked[[*rows]], rows)
    assert marked.groupby(["method", "seed"])["unsettled"].first()["lora_prompt"].tolist() == ["", IMPROVING]
    known = {"probe": "", "lora_prompt": IMPROVING, "likelihood": "", "probe_mlp": UNKNOWN}
    assert measured(marked).to_dict() == known
    assert measured(marked[marked["seed"] == 0])["lora_prompt"] == "", "the grid no longer has the other seed"
    assert {*measured(rows)} == {UNKNOWN} and {*plateau.no_verdict(measured(rows).reset_index())} == {""}


@pytest.mark.slow
def test_what_is_not_known_of_one_seed_is_not_known_of_the_cell_unless_another_is_marked(two_seeds):
    rows, folder = two_seeds
    (folder / "lora_prompt/a/a/seed0/lora_prompt.json").unlink()
    assert measured(plateau.mark(rows, folder))["lora_prompt"] == IMPROVING
    write(folder, adapters(*FLAT, seed=1))
    assert measured(plateau.mark(rows, folder))["lora_prompt"] == UNKNOWN


def run_of_two(tmp_path, *improving):
    """Rows in which the probe is far above LoRA + Prompt, with all cards; the estimators named were still improving."""
    rows = planted(lambda method, *_: 3.0 if method == "probe" else 0.5)
    keys = rows[["method", "reader", "trained_on", "seed"]].drop_duplicates().to_dict("records")
    kept = {True: lambda **names: adapters(*RISING, **names), False: lambda **names: adapters(*FLAT, **names)}
    write(tmp_path, *(kept[(key["method"], key["reader"], key["trained_on"]) in improving](**key) for key in keys))
    return plateau.mark(rows, tmp_path)


def claims_of(rows):
    table, _ = claims.evaluate(STATED, rows, ["weak", "strong"], TASKS)
    mine = table[
        (table["source"] == "measured") & (table["claim"] == "Probe is above LoRA + Prompt in every combination")
    ]
    return table, mine.set_index(["reading", "contrast"])


@pytest.mark.slow
def test_a_contrast_that_would_hold_is_inconclusive_and_so_is_its_claim(tmp_path):
    place = ("A", "Mistral trained on Mistral"), ("A", "LLaMA-2 trained on LLaMA-2")
    before, lines = claims_of(run_of_two(tmp_path))
    assert lines.loc[[*place], "says"].tolist() == [claims.HOLDS] * 2
    after, lines = claims_of(run_of_two(tmp_path, ("lora_prompt", "strong", "strong")))
    assert lines.loc[place[0], ["says", "reason"]].tolist() == [
        claims.OPEN,
        "a cell was still improving when training ended",
    ]
    assert lines.loc[place[1], ["says", "reason"]].tolist() == [claims.HOLDS, ""]
    assert lines["estimate"].notna().all() and lines["low"].notna().all(), "its value and interval stay"
    keys = ["claim", "source", "reading"]
    verdicts = [claims.verdicts(table).set_index(keys)["verdict"] for table in (before, after)]
    every = ("Probe is above LoRA + Prompt in every combination", "measured", "A")
    assert verdicts[0][every] == claims.HOLDS and verdicts[1][every] == claims.OPEN == "inconclusive"
    text = claims.claims_sentences(STATED, after, claims.verdicts(after))
    assert "a cell was still improving when training ended" in text and claims.contrasts_chart(after).to_dict()


@pytest.mark.slow
def test_a_contrast_that_would_fail_is_inconclusive_too(tmp_path):
    rows = run_of_two(
        tmp_path,
        *(
            (method, reader, of)
            for method in ("probe", "lora_prompt")
            for reader in ("weak", "strong")
            for of in ("weak", "strong")
        ),
    )
    table, _ = claims_of(rows)
    assert set(table.loc[table["source"] == "measured", "says"]) == {claims.OPEN}


@pytest.mark.slow
def test_no_difference_with_a_marked_cell_has_a_verdict(tmp_path):
    before, after = (
        differences.of_grid(run_of_two(tmp_path, *improving), ["weak", "strong"], TASKS)
        for improving in ((), [("lora_prompt", "strong", "strong")])
    )
    changed = after["says"] == IMPROVING
    assert (
        changed.equals(after["unsettled"] == IMPROVING)
        and 0 < changed.sum() < len(after)
        and not (before["says"] == IMPROVING).any()
    )
    assert before["says"][~changed].equals(after["says"][~changed]) and bootstrap.ABOVE in set(before["says"][changed])
    text = differences.differences_sentences(after)
    assert (
        "2 still improving of 6" in text
        and "3 still improving of 8" in text
        and differences.differences_chart(after).to_dict()
    )


@pytest.mark.slow
def test_the_contest_and_the_shift_give_no_verdict_on_a_marked_cell(tmp_path):
    tasks = [*TASKS, {"name": "nq_open", "role": "shift"}]
    rows = graded({"probe": 1.0, "lora_prompt": 5.0})
    write(tmp_path, probe({2: {0.1: 0.7}}), adapters(*RISING))
    table = controls.contest(plateau.mark(rows, tmp_path), ["a"], tasks).set_index("method")
    assert controls.contest(rows, ["a"], tasks).set_index("method")["against"]["lora_prompt"] == bootstrap.ABOVE
    assert (
        table["against"]["lora_prompt"] == IMPROVING
        and "With one of the two still improving when training ended: LoRA + Prompt (+"
        in controls.contest_sentences(table.reset_index())
    )
    write(tmp_path, probe({2: {0.1: 0.7, 1.0: 0.8}}), adapters(*FLAT))
    assert (
        controls.contest(plateau.mark(rows, tmp_path), ["a"], tasks).set_index("method")["against"]["lora_prompt"]
        == IMPROVING
    ), "the probe was"
    table = shift.shift(plateau.mark(rows, tmp_path), tasks).dropna(subset="says").set_index("method")
    assert table["says"].to_dict() == {"probe": IMPROVING, "lora_prompt": bootstrap.EXPLORATORY}
    drawn = [line for lines in shift.shift_chart(table.reset_index()).to_dict()["datasets"].values() for line in lines]
    assert {line["method"]: line["hollow"] for line in drawn} == {"probe": True, "lora_prompt": False}


def test_a_task_left_out_is_not_compared_with_training_that_ended_too_early(tmp_path):
    rows = graded({"lora_prompt": 2.0, "lora_prompt_without_sciq": 0.2, "lora_prompt_without_trivia_qa": 0.2})
    variants = [
        adapters(*looks, method=f"lora_prompt_without_{task}")
        for task, looks in (("sciq", RISING), ("trivia_qa", FLAT))
    ]
    write(tmp_path, adapters(*FLAT), *variants)
    table = shift.left_out(plateau.mark(rows, tmp_path))
    assert dict(zip(table["task"], table["unsettled"])) == {"sciq": IMPROVING, "trivia_qa": ""}
    assert (
        "in 1 of 1 cases by an interval below zero; 1 more were still improving when training ended."
        in shift.left_out_sentences(table)
    )
    assert "inconclusive: each time one of the two was still improving" in shift.left_out_sentences(
        table[table["task"] == "sciq"]
    )


def test_the_card_of_a_training_on_all_models_is_that_of_its_rows_alone(tmp_path):
    rows = pd.concat([graded({"lora_prompt": 1.0}), graded({"lora_prompt": 1.0}, trained_on=ALL_MODELS)])
    write(tmp_path, adapters(*FLAT, source="s"))
    place = tmp_path / "lora_prompt_all_models" / "a"
    place.mkdir(parents=True)
    card = adapters(0.5, 0.6, *RISING, trained_on=ALL_MODELS, source="s")
    (place / "lora_prompt.json").write_text(json.dumps(card))
    why = plateau.mark(rows, tmp_path).groupby("trained_on")["unsettled"].unique().map(list)
    assert why.to_dict() == {"a": [""], ALL_MODELS: [IMPROVING]}
    steps = heatmaps.table(rows, str(tmp_path), ["a"])["Steps of its LoRA + Prompt"]
    assert steps.tolist() == [f"{4 * len(FLAT)}"], "those of an ablation are not among them"


def first_page(rows):
    by_task = scores.by_task(rows)
    measured = cells.measure(rows, by_task, TASKS)
    primary = claims.corrected(rows, measured, bootstrap.samples(rows), ["weak", "strong"], TASKS)
    return cells.heatmap_table(measured, ["weak", "strong"], TASKS), primary


@pytest.mark.slow
def test_the_first_page_draws_no_conclusion_from_marked_cells(tmp_path):
    table, *beside = first_page(run_of_two(tmp_path))
    whole = "in 4 of 4 cells that have both. Of these, 4 are primary hypotheses: it is significantly higher in 4"
    text = heatmaps.heatmaps_sentences(table, *beside)
    assert IMPROVING not in text and f"{whole} and lower in 0." in text
    table, *beside = first_page(run_of_two(tmp_path, ("lora_prompt", "strong", "strong")))
    text = heatmaps.heatmaps_sentences(table, *beside)
    of_strong = table[
        (table["reading"] == "A") & (table["method"] == "lora_prompt") & (table["trained_on"] == "strong")
    ]["auroc"]
    assert (
        "\n\n- **Significantly better than chance in 6 of 6 cells**" in text
        and "in 2 of 2 cells that have both" in text
    )
    assert len(of_strong) == 2 and not any(f"reaches an AUROC of {value:.2f}" in text for value in of_strong)
    assert text.endswith(
        "- **2 of 8 cells were still improving when training ended** (↗): "
        "they count in none of these sentences and in no verdict."
    )
    table, *beside = first_page(run_of_two(tmp_path, *(("lora_prompt", model, model) for model in ("strong", "weak"))))
    assert "**LoRA + Prompt** was still improving in every cell" in heatmaps.heatmaps_sentences(table, *beside)
    table, *beside = first_page(
        run_of_two(
            tmp_path, *((method, model, model) for model in ("strong", "weak") for method in ("probe", "lora_prompt"))
        )
    )
    assert heatmaps.heatmaps_sentences(table, *beside).splitlines()[2:] == [
        "- **8 of 8 cells were still improving when training ended** (↗): nothing can be concluded from them."
    ]


@pytest.mark.slow
def test_an_older_run_without_cards_is_not_marked_and_says_so(tmp_path):
    table, *beside = first_page(plateau.mark(run_of_two(tmp_path).drop(columns="unsettled"), tmp_path / "nothing"))
    text = heatmaps.heatmaps_sentences(table, *beside)
    assert "in 4 of 4 cells that have both" in text and text.endswith(
        "- For 8 of 8 cells, no card records whether training had reached its plateau."
    )
    drawn = heatmaps.with_labels(table, 2).dropna(subset="auroc")
    assert set(drawn["mark"]) == {""} and set(drawn["training"]) == {"not known"}


@pytest.mark.slow
def test_heatmap_and_table_show_the_mark_of_the_marked_cells_and_of_no_others(tmp_path):
    table, *_ = first_page(run_of_two(tmp_path, ("lora_prompt", "strong", "strong")))
    chart = heatmaps.heatmaps_chart(table, ["weak", "strong"], "x")
    svg = vl_convert.vegalite_to_svg(chart.to_dict())
    shown = table[table["reading"] == "A"]
    texts = [f">{line.auroc:.2f} ↗<" for line in shown[shown["unsettled"] == IMPROVING].itertuples()]
    assert len(texts) == 2 and svg.count("↗</text>") == 2 and all(text in svg for text in texts)
    assert svg.count("When training ended: still improving") == svg.count("Trained on: strong") / 2 > 0, (
        "of the two heatmaps, one"
    )
    assert chart.to_dict()["description"].endswith("0 missing, 2 still improving.")
    html = heatmaps.heatmaps_html(shown, ["weak", "strong"])
    assert html.count("↗") == 2
    broken = shown.assign(auroc=np.nan)
    assert set(heatmaps.with_labels(broken, 2)["mark"]) == {""}, "what is missing is not marked"


def test_the_page_of_a_cell_says_why_and_shows_the_epochs_of_the_mlp(tmp_path):
    write(
        tmp_path,
        probe({2: {0.1: 0.7}}),
        probe({2: {0.01: 0.8, 0.1: 0.7}}, seed=1),
        probe({2: {0.01: 0.9, 0.1: 0.7}}, seed=7),
    )
    write(tmp_path, mlp(*FLAT), mlp(*FLAT, seed=1))

    def rows(seeds, *methods):
        return pd.DataFrame([*itertools.product(methods, range(seeds))], columns=["method", "seed"])

    probes, mlps = cell.training_sentences(plateau.table(tmp_path), rows(2, "probe", "probe_mlp")).split("\n\n")
    assert probes == (
        "**Probe was still improving when its training ended** (↗ in the heatmaps): with seed 1, its strength, 0.01, "
        "is the lowest that was tried, and gained 0.100 over the next. No verdict rests on it."
    )
    assert (
        mlps
        == "Probe (MLP) was not still improving when its training ended: AUROC on validation had stopped rising there, "
        "or rose by no more than 0.005."
    )
    assert "for 1 of 3 seeds, no card records" in cell.training_sentences(plateau.table(tmp_path), rows(3, "probe_mlp"))
    place = tmp_path / "probe_mlp/a/a/seed0"
    drawn = cell.learning_chart(str(place), "probe_mlp").to_dict()
    assert [line["validation_auroc"] for lines in drawn["datasets"].values() for line in lines] == [
        *FLAT
    ] and vl_convert.vegalite_to_svg(drawn)
    assert cell.learning_chart(str(place), "lora_prompt_mlp") is None
    write(tmp_path, adapters(*RISING))
    assert "looks at validation gained" in cell.training_sentences(plateau.table(tmp_path), rows(1, "lora_prompt"))
    assert "hconcat" in cell.learning_chart(str(tmp_path / "lora_prompt/a/a/seed0"), "lora_prompt").to_dict()


def seed_figure(tmp_path, *theirs):
    """The rows of `run_of_two` with all cards; those of LoRA + Prompt of these (reader, trained on) are released."""
    rows = run_of_two(tmp_path).drop(columns="unsettled")
    write(tmp_path, *(released(reader=reader, trained_on=of) for reader, of in theirs))
    return plateau.mark(rows, tmp_path)


OWN = [("weak", "weak"), ("strong", "strong")]  # as in grids/kapoor2024-released.yml


@pytest.mark.slow
def test_no_claim_rests_on_a_released_adapter(tmp_path):
    before, _ = claims_of(run_of_two(tmp_path))
    rows = seed_figure(tmp_path, ("strong", "strong"))
    after, lines = claims_of(rows)
    assert before["reason"].eq("").any() and "unsettled" not in after
    place = ("A", "Mistral trained on Mistral"), ("A", "LLaMA-2 trained on LLaMA-2")
    why = "a cell is of a released adapter, whose plateau is not known"
    assert lines.loc[place[0], ["says", "reason"]].tolist() == [claims.OPEN, why]
    assert lines.loc[place[1], ["says", "reason"]].tolist() == [claims.HOLDS, ""]
    assert lines["estimate"].notna().all() and lines["low"].notna().all(), "its value and interval stay"
    measured = after[after["source"] == "measured"]
    with_it = measured["cells"].str.contains(r"LoRA \+ Prompt, strong trained on strong")
    assert with_it.sum() > 1 and (measured.loc[with_it, "says"] == claims.OPEN).all()
    assert measured.loc[~with_it, "says"].tolist() == before.loc[measured.index[~with_it], "says"].tolist()
    assert why in claims.claims_sentences(STATED, after, claims.verdicts(after))


@pytest.mark.slow
def test_no_difference_with_a_released_adapter_has_a_verdict_nor_has_one_of_two(tmp_path):
    before = differences.of_grid(run_of_two(tmp_path), ["weak", "strong"], TASKS)
    assert {*before["unsettled"]} == {""} and RELEASED not in json.dumps(
        differences.differences_chart(before).to_dict()
    )
    after = differences.of_grid(seed_figure(tmp_path, *OWN), ["weak", "strong"], TASKS)
    theirs = after["says"] == RELEASED
    assert theirs.equals(after["unsettled"] == RELEASED) and before["says"][~theirs].equals(after["says"][~theirs])
    assert {*before["says"][theirs]} & {bootstrap.ABOVE, bootstrap.BELOW} and {*after["says"][~theirs]} != {RELEASED}
    # All of LoRA + Prompt in reading A are released; the contrast of two of them has no verdict either.
    both = (after["reading"] == "A") & after["what"].str.startswith("LoRA + Prompt, scored on")
    assert both.sum() == 2 and theirs[both].all()
    assert after["estimate"].notna().all()
    # Of methods all four places in reading A; of self-training the four of LoRA + Prompt; of readers two of four.
    text = differences.differences_sentences(after)
    assert "4 with a released adapter of 6" in text and "4 with a released adapter of 8" in text
    assert RELEASED in json.dumps(differences.differences_chart(after).to_dict())


def test_controls_and_shift_give_no_verdict_on_a_released_adapter(tmp_path):
    tasks = [*TASKS, {"name": "nq_open", "role": "shift"}]
    rows = graded({"probe": 1.0, "lora_prompt": 5.0, "probe_last": 1.0})
    write(tmp_path, probe({2: {0.1: 0.7}}), released())
    marked = plateau.mark(rows, tmp_path)
    table = controls.contest(marked, ["a"], tasks).set_index("method")
    assert table["against"].dropna().to_dict() == {"lora_prompt": RELEASED, "probe_last": bootstrap.EXPLORATORY}
    why = "Without a verdict, since the adapter was released by others: LoRA + Prompt (+"
    assert why in controls.contest_sentences(table.reset_index())
    table = shift.shift(marked, tasks).dropna(subset="says").set_index("method")
    assert table["says"].to_dict() == {"probe": bootstrap.EXPLORATORY, "lora_prompt": RELEASED}
    assert f", {RELEASED})" in shift.shift_sentences(table.reset_index())
    drawn = [line for lines in shift.shift_chart(table.reset_index()).to_dict()["datasets"].values() for line in lines]
    assert {line["method"]: line["hollow"] for line in drawn} == {"probe": False, "lora_prompt": True}


@pytest.mark.slow
def test_the_first_page_shows_released_adapters_and_concludes_nothing_from_them(tmp_path):
    table, *beside = first_page(seed_figure(tmp_path, *OWN))
    lora = table[(table["reading"] == "A") & (table["method"] == "lora_prompt")]
    assert len(lora) == 4 and lora["auroc"].notna().all() and lora["unsettled"].eq(RELEASED).all()
    text = heatmaps.heatmaps_sentences(table, *beside)
    assert "\n- **Significantly better than chance in 4 of 4 cells**: " in text
    assert "and **LoRA + Prompt** was trained by others in every cell.\n" in text
    assert "The probe is higher" not in text and "primary hypotheses" not in text
    count = "- **4 of 8 cells are of adapters that others have released**"
    assert text.endswith(f"{count}: they count in none of these sentences and in no verdict.")
    drawn = heatmaps.with_labels(lora, 2)
    assert {*drawn["mark"]} == {""} and {*drawn["training"]} == {"not known, released by others"}
    assert drawn["value"].tolist() == [f"{value:.2f}" for value in lora["auroc"]]
    assert heatmaps.described(table).endswith("0 missing, 4 with a released adapter.")
    table, *beside = first_page(seed_figure(tmp_path, ("strong", "strong")))
    text = heatmaps.heatmaps_sentences(table, *beside)
    assert "in 6 of 6 cells**" in text and "in 2 of 2 cells that have both" in text
