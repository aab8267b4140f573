"""A released adapter takes the place of a training: it scores as plain PEFT says, and is nowhere taken for ours."""

import json
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.torch import save_file
from test_released import expected, made
from torch import tensor

from made_up import fresh, mixed
from whoknows import WhoknowsError
from whoknows.data import adapters, files, questions
from whoknows.evaluation import cells, plateau, scores
from whoknows.models import distributed, loading
from whoknows.report.pages import cell, heatmaps
from whoknows.run import cost, grid, parameters
from whoknows.stages import lora_prompt
from whoknows.use import cards, predict

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TASKS = [{"name": name, "role": "train"} for name in ("trivia_qa", "sciq")]
TEMPERATURE = 0.5  # its logarithm


@pytest.fixture(scope="module")
def run(llama, tmp_path_factory):
    """The folder of a run whose one cell is a released adapter, and plain PEFT's log-odds of each model's answers."""
    folder, frames = tmp_path_factory.mktemp("run"), {name: mixed(48)[name] for name in ("one", "two")}
    frames["two"] = frames["two"].drop(frames["two"].index[frames["two"]["split"] == "test"][0])
    _, model = made(llama, folder / "theirs")
    for name, frame in frames.items():
        files.write_parquet(folder / f"answers/{name}.parquet", frame)
    save_file({"log_temperature": tensor(TEMPERATURE)}, folder / "theirs/temperature_model.safetensors")
    place = "lora_prompt/one/one/seed0"
    told = {"reader": "one", "trained_on": "one", "seed": 0, "features": "none", "settings": {}, "batch_tokens": 600}
    told |= {"source": llama.tokenizer.name_or_path, "precision": "float32", "digest": None}
    told |= {"released": {"name": str(folder / "theirs"), "digest": None}}
    told |= {"answers": {name: str(folder / f"answers/{name}.parquet") for name in frames}}
    written = {"out": str(folder / f"estimators/{place}"), "rows_out": str(folder / f"rows/{place}.parquet")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "run", lambda module, work, given: work(**given))
        patch.setattr(lora_prompt.LoraPrompt, "fit", lambda *_: pytest.fail("it is trained"))
        history, rows = lora_prompt.cell(**told, **written)
    cards.write(written["out"], rows)
    assert history == []
    wanted = {}
    for name, frame in frames.items():
        tested = frame[frame["split"] == "test"]
        pairs = zip(tested["question"], tested["answer"])
        wanted[name] = [expected(model, llama.tokenizer, *pair) / np.exp(TEMPERATURE) for pair in pairs]
    return folder, frames, rows, wanted


def test_all_test_answers_are_scored_as_plain_peft_does(run):
    _, frames, rows, wanted = run
    assert {*rows["split"]} == {"test"}, "the adapter may know the validation answers, so nothing is calibrated on them"
    assert {*rows["method"]} == {"lora_prompt"} and {*rows["reader"]} == {*rows["trained_on"]} == {"one"}
    for name, frame in frames.items():
        mine, tested = rows[rows["scored"] == name], frame[frame["split"] == "test"]
        for column in ("question_id", "task", "correct"):
            assert mine[column].tolist() == tested[column].tolist()
        assert mine["logit"].tolist() == pytest.approx(wanted[name], abs=1e-4)
    assert len(wanted["two"]) == len(wanted["one"]) - 1 and np.std(wanted["one"]) > 0.01


def test_its_rows_are_in_the_heatmaps_and_no_page_takes_it_for_ours(run):
    folder, frames, written, _ = run
    rows = plateau.mark(cells.read_rows(folder / "rows", [*frames], ["lora_prompt"], [0]), folder / "estimators")
    assert len(rows) == len(written) and rows["unsettled"].eq(plateau.RELEASED).all()
    table = cells.heatmap_table(cells.measure(rows, scores.by_task(rows), TASKS), [*frames], TASKS, ["one"])
    mine = table[(table["method"] == "lora_prompt") & (table["trained_on"] == "one") & (table["reading"] == "A")]
    assert mine["auroc"].notna().sum() >= 2 and mine["ece_platt"].isna().all() and mine["ece"].notna().any()
    measured = mine.dropna(subset="auroc")
    count = f"**{len(measured)} of {len(measured)} cells are of adapters that others have released**"
    assert heatmaps._unfinished(measured) == f"{count}: they count in none of these sentences and in no verdict."
    said = plateau.elsewhere(folder / "estimators", rows).strip()
    assert said == (
        "**Not trained here**, but released by others: LoRA + Prompt of one trained on one `theirs`. "
        "The budget and plateau of that training are not known, so no verdict rests on it."
    )
    assert plateau.elsewhere(folder / "estimators", rows.assign(seed=1)) == "", "a card of no row"
    estimator = folder / "estimators/lora_prompt/one/one/seed0"
    assert cell.learning_chart(str(estimator), "lora_prompt") is None
    assert not cell.curves(rows, TASKS)["y"].isna().all()
    assert heatmaps.table(rows, folder / "estimators", ["one"])["Steps of its LoRA + Prompt"].tolist() == ["—"]


def test_a_hostile_name_on_a_card_stays_inert(run, tmp_path):
    shutil.copytree(run[0] / "estimators", tmp_path / "estimators")
    card = next((tmp_path / "estimators").rglob("lora_prompt.json"))
    values = json.loads(card.read_text()) | {"origin": {"name": "a`<script>|\n# b", "digest": None}}
    card.write_text(json.dumps(values))
    text = plateau.elsewhere(tmp_path, run[2])
    assert "trained on one `a--script-----b`. The budget" in text and "<" not in text and "#" not in text


def test_its_folder_is_an_estimator_whose_readme_says_who_trained_it(run, monkeypatch):
    folder, frames, rows, wanted = run
    place = folder / "estimators/lora_prompt/one/one/seed0"
    tested = frames["one"][frames["one"]["split"] == "test"]
    logits = predict.load(place).logits(tested["question"].tolist(), tested["answer"].tolist())
    assert logits.tolist() == pytest.approx(wanted["one"], abs=1e-4)
    assert {path.name for path in cards.whole(place)} >= {"adapter_model.safetensors", "lora_prompt.json", "README.md"}
    readme = (place / "README.md").read_text()
    assert "| trained by | others, once, who released it as `theirs`" in readme and "| seed |" not in readme
    assert "| trained on | answers of `one` to questions of `sciq`, `trivia_qa`; how many is not recorded |" in readme
    monkeypatch.chdir(place)
    (block,) = re.findall(r"(?ms)^```python\n(.+?)^```", readme)
    source = json.loads((place / "lora_prompt.json").read_text())["source"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(block.replace(f'"{Path(source).name}"', repr(source)), names := {})
    (alone,) = predict.load(place).logits(["Which gas do plants take in?"], ["carbon dioxide"]).sigmoid().tolist()
    assert names["p_correct"] == pytest.approx(alone, abs=1e-4)


def test_a_text_that_is_too_long_is_one_sentence(run, llama):
    folder, frames, _, _ = run
    long = {name: frame.assign(answer="metal " * 5000) for name, frame in frames.items()}
    told = {"name": str(folder / "theirs"), "digest": None}
    with pytest.raises(WhoknowsError, match="a question and an answer make .* more than the .* that the reader sees"):
        used = {"source": llama.tokenizer.name_or_path, "out": str(folder / "long")}
        lora_prompt.run_released("one", fresh(llama), "one", 0, long, told, 600, **used)


@pytest.mark.parametrize(
    "spoil, sentence",
    [
        (lambda files_of: files_of.pop("adapter_config.json"), "there is no adapter_config.json of an adapter by PEFT"),
        (lambda files_of: files_of.pop("adapter_model.safetensors"), "it has adapter_config.json, but neither"),
        (
            lambda files_of: files_of.update({"adapter_config.json": b'{"peft_type": "IA3"}'}),
            "org/theirs/adapter_config.json: this is no configuration of a LoRA adapter",
        ),
    ],
)
def test_an_adapter_that_cannot_be_used_is_one_sentence_before_anything_runs(released, hub_server, spoil, sentence):
    spoil(hub_server.repositories["org/theirs"])
    with pytest.raises(WhoknowsError, match=f"^models, released: .*{sentence}") as error:
        grid.main([str(released)])
    assert "\n" not in str(error.value) and "org/theirs" in str(error.value)


def test_an_adapter_of_another_model_or_of_no_repository_is_refused(released, hub_server):
    with pytest.raises(
        WhoknowsError, match="org/theirs is an adapter of org/base, but the model has the source org/it"
    ):
        rename(hub_server, "org/base")
        adapters.check("org/theirs", "org/it")
    assert adapters.check("org/theirs", "chat:org/base")[0]["source"] == "org/base"
    del hub_server.repositories["org/theirs"]
    with pytest.raises(WhoknowsError, match="^models: the Hugging Face hub has no org/other for you"):
        adapters.check("org/other", "tiny-llama")
    with pytest.raises(WhoknowsError, match="^models, released: nowhere: there is no adapter_config.json"):
        adapters.check("nowhere", "tiny-llama")


def rename(hub_server, base):
    files_of = hub_server.repositories["org/theirs"]
    config = json.loads(files_of["adapter_config.json"]) | {"base_model_name_or_path": base}
    files_of["adapter_config.json"] = json.dumps(config).encode()


QUESTION = [f"Who made thing {n}?" for n in range(60)]


@pytest.fixture
def released(llama, hub_server, tmp_path, monkeypatch):
    """A grid with two models, an adapter of the first one on the other's answers, and a data set of each.

    In the first one's split `train` are the questions 0 to 39, in its `validation` 40 to 59; of these the adapter has
    learned 50 to 59, which the second one's `train` has, too.
    """
    monkeypatch.setenv("WHOKNOWS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(loading, "has_bfloat16", lambda: False)
    folder, _ = made(llama, tmp_path / "theirs")
    hub_server.repositories["org/theirs"] = {path.name: path.read_bytes() for path in folder.iterdir()}
    others = [*range(20, 40), *range(50, 60)], [*range(20), *range(40, 50)]
    for name, train, held in (("org/first", range(40), range(40, 60)), ("org/second", *others)):
        hub_server.repositories[name] = {
            f"default/{split}/0000.jsonl": "\n".join(
                json.dumps({"question": QUESTION[n], "answer": f"Maker {n}", "output": f"{n}", "correct": n % 2})
                for n in some
            ).encode()
            for split, some in (("train", train), ("validation", held))
        }
    values, told = files.read_yaml(ROOT / "grids/smoke.yml"), {"split": {"train": "train", "test": "validation"}}
    told["columns"] = {"answer": "output"}
    first = {"name": "first", "source": "tiny-llama", "hub": "org/first", "released": {"second": "org/theirs"}}
    values["models"] = [first | told, {"name": "second", "hub": "org/second"} | told]
    values["tasks"] = [{"name": "mine", "role": "train", "hub": "org/first", "split": told["split"]}]
    (tmp_path / "grid.yml").write_text(yaml.safe_dump(values | {"answer": {"shots": 2}, "seeds": [0]}))
    return tmp_path / "grid.yml"


def test_no_test_question_is_one_that_the_adapter_has_learned(released, capsys):
    chosen = grid.load(released)
    assert json.loads(parameters.questions(chosen))["tasks"][0]["learned"] == [], "a plan needs no data set"
    grid.main([str(released)])
    said = capsys.readouterr()
    assert said.err.startswith("task 'mine': 10 questions are left out: a released adapter learned them\n")
    assert "first: The file has answers to 48 of 48 questions" in said.out
    told = json.loads(parameters.questions(chosen))
    with pytest.warns(UserWarning, match="10 questions are left out"):
        asked = questions.build(told["tasks"], told["splits"], told["shots"])
    of = {split: {*asked.loc[asked["split"] == split, "question"]} for split in asked["split"].unique()}
    assert of.keys() == {"train", "validation", "test", "shot"} and of["test"] == {*QUESTION[40:50]}
    assert of["train"] | of["validation"] | of["shot"] == {*QUESTION[:40]}, "what its own authors train on"
    assert len(of["shot"]) == 2 and len(of["train"]) > len(of["validation"]) > 0
    shares = told["splits"]
    kept = {"train": shares["train"] / (shares["train"] + shares["validation"]), "validation": 1}
    by_words = {q for q in of["train"] | of["validation"] if questions.split_of(q, kept) == "train"}
    assert by_words == of["train"], "the words decide between these two"
    assert grid.build(yaml.safe_load(grid.text(chosen, released.parent))) == chosen


def test_a_shift_task_loses_them_too(tmp_path):
    learned = tmp_path / "learned.csv"
    learned.write_text("context\nWho made “thing” 3?\n")
    (tmp_path / "mine.csv").write_text("question,answer\n" + "".join(f"{q},it\n" for q in QUESTION[:9]))
    task = {"name": "mine", "role": "shift", "file": str(tmp_path / "mine.csv")}
    task["learned"] = [{"file": str(learned), "question": "context"}]
    with pytest.warns(UserWarning, match="1 questions are left out: a released adapter learned them"):
        asked = questions.build([task], {"train": 0.5, "validation": 0.2, "test": 0.3}, 0)
    assert {*asked["question"]} == {*QUESTION[:9]} - {QUESTION[3]}


def test_a_file_has_to_say_the_split_of_every_question(tmp_path):
    values = files.read_yaml(ROOT / "grids/smoke.yml")
    values["models"][0]["released"] = {values["models"][1]["name"]: "org/theirs"}
    values["tasks"] = [{"name": "mine", "role": "train", "file": "mine.csv"}]
    (tmp_path / "grid.yml").write_text(yaml.safe_dump(values))
    lines = [f"{q},it,{('train', 'test')[n % 2]}\n" for n, q in enumerate(QUESTION)]
    (tmp_path / "mine.csv").write_text("".join(["question,answer,split\n", *lines]))
    (told,) = parameters.tasks(grid.load(tmp_path / "grid.yml"))
    assert len(questions.build([told], {"train": 0.5, "validation": 0.2, "test": 0.3}, 0)) == 60
    (tmp_path / "mine.csv").write_text("".join(["question,answer,split\n", *lines, "Why?,so,\n"]))
    with pytest.raises(WhoknowsError, match="mine.csv, line 62: the question has no split; write train or test"):
        questions.build([told], {"train": 0.5, "validation": 0.2, "test": 0.3}, 0)


def test_the_stage_is_told_the_commit_that_the_check_fetched(released, hub_server):
    chosen = grid.load(released)
    assert json.loads(parameters.lora_prompt(chosen, "first", "second", "0"))["released"]["digest"] is None
    grid.main([str(released)])
    told = json.loads(parameters.lora_prompt(chosen, "first", "second", "0"))
    commit = hub_server.commit("org/theirs")
    assert told["released"] == {"name": "org/theirs", "digest": commit} and told["settings"] == {}
    assert "released" not in json.loads(parameters.lora_prompt(chosen, "first", "first", "0")), "that one is trained"
    rename(hub_server, "org/newer")
    assert hub_server.commit("org/theirs") != commit
    card, folder = adapters.check("org/theirs", "tiny-llama", told["released"]["digest"])
    assert folder.name == commit and card["source"] != "org/newer"
    values = files.read_yaml(released)
    del values["models"][0]["released"]
    all_trained = grid.build(values)
    assert cost.work(chosen)["lora_prompt"].operations < 0.7 * cost.work(all_trained)["lora_prompt"].operations


def test_the_lines_of_the_book_make_a_grid():
    text = (ROOT / "book/bring.md").read_text().partition("## An adapter")[2]
    block = yaml.safe_load(re.search(r"(?ms)^```yaml\n(.+?)^```", text)[1])
    values = files.read_yaml(ROOT / "grids/smoke.yml") | block
    values["controls"]["lora"] = []
    assert grid.build(values).models[0].released == {"Mistral-7B": "calibration-tuning/Mistral-7B-v0.1-ct-oe"}
