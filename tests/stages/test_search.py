"""The search: each training is one that LoRA + Prompt would do, by validation answers alone, and none is done twice."""

import pandas as pd
import pytest
import torch
import vl_convert
from test_lora_prompt import SETTINGS, USED, learnable

from made_up import fresh, mixed, save_hidden, spied
from whoknows import WhoknowsError
from whoknows.data import files
from whoknows.data.rows import fewer, for_seed, smaller
from whoknows.estimators.hidden import load_hidden
from whoknows.estimators.lora import LoraPrompt
from whoknows.estimators.probe import Logistic
from whoknows.models import distributed, loading
from whoknows.report.pages import settings
from whoknows.stages import extract, lora_prompt, search
from whoknows.stages import probe as probe_stage

SHORT = SETTINGS | {"epochs": 2, "evaluations": 2, "wrong_per_right": 1}
ASKED = {
    "seed": 0,
    "settings": SHORT,
    "learning_rates": [2e-3],
    "sizes": [20, 500],
    "layers": [1, 4],
    "strengths": [0.1, 1.0],
    "batch_tokens": 600,
}
TRAININGS = [(2e-3, 30), (1e-2, 30), (1e-2, 20)]


def answered():
    return {"one": learnable(60), "two": learnable(60).assign(answer="water")}


def run(llama, folder, frames, load=None, **changes):
    names = {"features": str(folder / "features"), "out": str(folder / "one.parquet")}
    return search.run("one", load or (lambda: fresh(llama)), frames, **names | ASKED | changes)


@pytest.fixture(scope="module")
def made(llama, tmp_path_factory):
    """A folder with the reader's features, and what a search with them found."""
    folder = tmp_path_factory.mktemp("search")
    extract.run("one", llama, answered(), 0.5, 600, str(folder / "features"))
    return folder, run(llama, folder, answered())


def same(one, other):
    pd.testing.assert_frame_equal(one.drop(columns="seconds"), other.drop(columns="seconds"))


@pytest.mark.slow
def test_a_line_for_each_look_at_validation_and_for_each_fit_of_the_probe(made):
    folder, table = made
    lora, probe = (table[table["method"] == method] for method in ("lora_prompt", "probe"))
    looks = lora.groupby(["learning_rate", "training_answers"])
    assert looks.size().to_dict() == dict.fromkeys(TRAININGS, 2) and looks["epoch"].last().tolist() == [2, 2, 2]
    assert looks["seconds"].apply(lambda spent: 0 < spent.iloc[0] < spent.iloc[1]).all()
    assert (
        probe["training_answers"].tolist() == [30, 20]
        and probe["learning_rate"].isna().all()
        and (probe["seconds"] > 0).all()
    )
    used = table[table["in_grid"]]
    assert set(zip(used["method"], used["training_answers"])) == {("lora_prompt", 30), ("probe", 30)} and set(
        used["learning_rate"].dropna()
    ) == {1e-2}
    assert set(table["reader"]) == {"one"} and not (folder / "one.parquet.parts").exists()
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "one.parquet"), table)


@pytest.mark.parametrize("rate, size", TRAININGS)
def test_a_training_is_that_of_the_stage_with_the_same_setting(llama, made, tmp_path, rate, size):
    folder, table = made
    frames = answered()
    frames["one"] = smaller(frames["one"], [size], 0).get(size, frames["one"])
    tried = SHORT | {"learning_rate": rate}
    estimator, _ = lora_prompt.run(
        "one", fresh(llama), "one", 0, frames, tried, 600, str(folder / "features"), **USED, out=str(tmp_path / "out")
    )
    looks = table[(table["learning_rate"] == rate) & (table["training_answers"] == size)]
    for key in ("step", "validation_auroc"):
        assert looks[key].tolist() == [look[key] for look in estimator.history]


def test_the_probe_is_the_logistic_one_of_the_grid_on_the_same_answers(made):
    folder, table = made
    frame = answered()["one"]
    for size, some in ({30: frame} | smaller(frame, [20], 0)).items():
        fitted = Logistic([1, 4], [0.1, 1.0]).fit(
            *probe_stage.parts(some, load_hidden(str(folder / "features"), "one", "one", frame), "one")
        )
        auroc = table.loc[(table["method"] == "probe") & (table["training_answers"] == size), "validation_auroc"].item()
        assert auroc == max(line["validation_auroc"] for line in fitted)


class Stand:
    """In the place of what one training needs, and of the estimator that is trained."""

    rows, history = (
        range(13),
        [{"step": step, "loss": 0.5, "validation_auroc": 0.6, "seconds": step} for step in (4, 8)],
    )

    def __init__(self, *arguments, **named):
        pass

    def fit(self, estimator, file):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 3])
def test_the_trainings_and_the_probes_are_handed_the_seed_and_its_division_without_test_answers(
    llama, tmp_path, monkeypatch, seed
):
    frames, hidden = mixed(), torch.randn(96, 5, 3)
    save_hidden(str(tmp_path), "two", hidden)
    readied, built = spied(monkeypatch, search, "prepare", Stand), spied(monkeypatch, search, "LoraPrompt", Stand)
    fitted = spied(monkeypatch, Logistic, "fit")
    options = ASKED | {"seed": seed, "batch_tokens": 7}
    table = search.run(
        "two", lambda: llama, frames, features=str(tmp_path), out=str(tmp_path / "two.parquet"), **options
    )
    divided = {scored: for_seed(frame, seed) for scored, frame in frames.items()}
    untested = {scored: frame.assign(split=frame["split"].replace("test", "")) for scored, frame in divided.items()}
    every = int((divided["two"]["split"] == "train").sum())
    learnt = {every: untested["two"], 20: fewer(untested["two"], 20, seed)}
    trainings = [(2e-3, every), (1e-2, every), (1e-2, 20)]
    for (rate, size), ready, estimator in zip(trainings, readied, built, strict=True):
        handed, common = (
            ready.pop("frames"),
            {"reader": llama, "settings": SHORT | {"learning_rate": rate}, "seed": seed, "batch_tokens": 7},
        )
        assert all(handed[scored].equals(frame) for scored, frame in (untested | {"two": learnt[size]}).items())
        assert ready == common | {
            "trained_on": "two",
            "folder": str(tmp_path),
            "query": True,
            "without": None,
        } and estimator == common | {"query": True}
    for learned, fit in zip(learnt.values(), fitted, strict=True):
        assert (fit["self"].layers, fit["self"].strengths) == ([1, 4], [1.0, 0.1])
        for split in ("train", "validation"):
            keep = learned.index[learned["split"] == split]
            assert (
                torch.equal(fit[split].hidden, hidden[keep])
                and fit[split].correct.tolist() == learned.loc[keep, "correct"].tolist()
            )
    lora = table[table["method"] == "lora_prompt"]
    assert list(zip(lora["learning_rate"], lora["training_answers"])) == [
        training for training in trainings for _ in range(2)
    ]
    assert lora["epoch"].tolist() == [2.0, 4.0] * 3, "13 answers in steps of 8 are an epoch of two steps"


def test_a_cell_hands_on_every_parameter_of_its_notebook(tmp_path, monkeypatch):
    frames, out, used = (
        mixed(8),
        str(tmp_path / "out.parquet"),
        {"source": "s", "precision": "4bit", "template": {"day": "d"}, "digest": "abc"},
    )
    for scored, frame in frames.items():
        files.write_parquet(tmp_path / f"{scored}.parquet", frame)
    table = pd.DataFrame({"reader": ["r"]})
    names = {
        "seed": 3,
        "features": "f",
        "settings": {"r": 3},
        "learning_rates": [1.0],
        "sizes": [2],
        "layers": [4],
        "strengths": [5.0],
        "batch_tokens": 7,
    }
    monkeypatch.setattr(distributed, "run", lambda module, work, parameters: work(**parameters))
    loaded = spied(monkeypatch, loading, "load", lambda *_: "the model")
    ran = spied(monkeypatch, search, "run", lambda *_, **__: files.write_parquet(out, table))
    result = search.cell(
        reader="r", answers={scored: str(tmp_path / f"{scored}.parquet") for scored in frames}, out=out, **names, **used
    )
    assert result.equals(table) and ran[0].pop("load")() == "the model" and loaded == [used]
    for scored, frame in ran[0].pop("answers").items():
        pd.testing.assert_frame_equal(frame.drop(columns="gold"), frames[scored].drop(columns="gold"))
    assert ran == [{"name": "r", "out": out} | names]


@pytest.mark.slow
def test_test_answers_have_no_say(llama, made, tmp_path):
    """Nobody reads what they are, nor whether they are right."""
    folder, tables = made[0], []
    save_hidden(str(tmp_path), "one", files.read_safetensors(folder / "features/one.safetensors")["hidden"])
    for turned in (False, True):
        frames = answered()
        for frame in frames.values():
            test = frame["split"] == "test"
            frame["correct"] ^= test & turned
            frame["answer"] = frame["answer"].mask(test & turned, "something else")
        changes = {
            "settings": SHORT | {"first_layer": 0},
            "learning_rates": [],
            "sizes": [],
            "features": str(tmp_path),  # of which nothing says what was read
            "out": str(tmp_path / "one.parquet"),
        }
        tables.append(run(llama, folder, frames, **changes))
    same(*tables)


@pytest.mark.slow
def test_a_killed_search_goes_on_with_the_training_that_was_not_done(llama, made, tmp_path, monkeypatch):
    folder, table = made
    fits, loads, fit = [], [], LoraPrompt.fit

    def killed(self, *arguments):
        fits.append(self.settings["learning_rate"])
        if len(fits) == 2:
            raise KeyboardInterrupt
        fit(self, *arguments)

    def load():
        loads.append(1)
        return fresh(llama)

    monkeypatch.setattr(LoraPrompt, "fit", killed)
    changes = {"load": load, "out": str(tmp_path / "one.parquet")}
    with pytest.raises(KeyboardInterrupt):
        run(llama, folder, answered(), **changes)
    same(run(llama, folder, answered(), **changes), table)
    assert fits == [2e-3, 1e-2, 1e-2, 1e-2] and len(loads) == 3 + 3


def lines(reader, values, grid_rate):
    """Two looks for each rate, and a probe."""
    looks = [(rate, step, auroc) for rate, (first, last) in values.items() for step, auroc in ((1, first), (2, last))]
    lora = pd.DataFrame(looks, columns=["learning_rate", "step", "validation_auroc"]).assign(
        method="lora_prompt", training_answers=90
    )
    table = pd.concat(
        [lora, pd.DataFrame({"method": ["probe"], "validation_auroc": [0.7], "training_answers": [90]})],
        ignore_index=True,
    )
    in_grid = table["learning_rate"].isna() | (table["learning_rate"] == grid_rate)
    return table.assign(
        reader=reader, in_grid=in_grid, epoch=table["step"] / 2, seconds=table["step"].fillna(0) * 10 + 0.5
    )


@pytest.fixture
def two():
    fewer = lines("a", {1e-3: (0.61, 0.55)}, 1e-3).assign(training_answers=45, in_grid=False)
    return pd.concat(
        [
            lines("a", {1e-3: (0.6, 0.8), 1.5e-4: (0.7, 0.65)}, 1e-3),
            fewer,
            lines("b", {1e-3: (0.9, 0.85), 3e-5: (0.5, 0.55)}, 3e-5),
        ],
        ignore_index=True,
    )


def test_a_sentence_says_what_validation_prefers_and_whether_the_grid_uses_it(two):
    assert settings.preferred(two, ["a", "b"]) == (
        "For a, validation prefers the learning rate 0.001 (AUROC 0.800) among 2, and the grid uses it. "
        "For b, validation prefers the learning rate 0.001 (AUROC 0.900) among 2, but the grid uses 3e-05 (0.550)."
    )


def test_the_table_has_each_training_once_with_its_best_look_and_its_whole_time(two):
    tried = settings.best(two)
    assert len(tried) == 8
    first = tried[(tried["reader"] == "b") & (tried["learning_rate"] == 1e-3)].iloc[0]
    assert (first["validation_auroc"], first["epoch"], first["seconds"]) == (0.9, 0.5, 20.5)
    shown = settings.html(two)
    assert (
        shown.count("<tr") == 1 + 8
        and shown.count("<td>yes</td>") == 4
        and shown.count("<td>3e-05</td>") == 1
        and "nan" not in shown.lower()
    )


def test_heatmaps_show_every_rate_and_the_sizes_at_the_grids_rate(two):
    by_time, by_size = settings.search_curve(two).to_dict(), settings.sizes_chart(two).to_dict()
    (drawn,), (sizes,) = (list(spec["datasets"].values()) for spec in (by_time, by_size))
    assert {line["what"] for line in drawn if line["reader"] == "b"} == {
        "probe",
        "LoRA + Prompt, 0.001",
        "LoRA + Prompt, 3e-05",
    }
    assert len(drawn) == 10 and all(line["training_answers"] == 90 for line in drawn), (
        "fewer answers are on the other one"
    )
    assert {(line["reader"], line["method"], line["training_answers"], line["validation_auroc"]) for line in sizes} == {
        ("a", "lora_prompt", 90, 0.8), ("a", "lora_prompt", 45, 0.61), ("a", "probe", 90, 0.7), ("a", "probe", 45, 0.7),
        ("b", "lora_prompt", 90, 0.55), ("b", "probe", 90, 0.7),
    }  # fmt: skip
    for spec in (by_time, by_size):
        assert vl_convert.vegalite_to_vega(spec)["marks"]


def test_a_reader_that_has_nothing_to_learn_from_its_own_answers_has_no_search(tmp_path, two):
    frames = answered()
    frames["one"].loc[frames["one"]["split"] == "train", "correct"] = False
    table = run(None, tmp_path, frames, load=None)
    assert table.empty and settings.read(str(tmp_path), ["one"]).empty
    assert settings.preferred(table, ["one"]).startswith("There is no search of one: nothing can be learned from")
    assert settings.search_curve(table) is None and settings.sizes_chart(table) is None
    files.write_parquet(tmp_path / "two.parquet", two)
    pd.testing.assert_frame_equal(settings.read(str(tmp_path), ["one", "two"]), two, check_dtype=False, check_like=True)
    assert settings.preferred(two, ["one", "a", "b"]).endswith("or the stage did not finish.")


def test_no_search_is_one_sentence(tmp_path):
    with pytest.raises(WhoknowsError, match="has no search of a, b: run the stage search first"):
        settings.read(str(tmp_path), ["a", "b"])
