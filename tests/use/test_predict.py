"""Estimators that the stages trained and saved say of new lines just what the stages' own rows say."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from io import TextIOWrapper
from pathlib import Path
from time import sleep
from types import SimpleNamespace

import numpy as np
import pandas as pd
import peft
import pytest
import torch
from test_lora_prompt import SETTINGS, learnable
from test_probe import MLP

from made_up import TEXTS, fresh, plain, spied
from whoknows import WhoknowsError, __main__
from whoknows.data import assets, files, prompts, question_files, tables
from whoknows.data.prompts import QUERY
from whoknows.estimators.probe import Logistic, Mlp
from whoknows.models import loading
from whoknows.models.packing import PackedExample
from whoknows.report.pages import cell
from whoknows.stages import answer_file, extract, lora_prompt, probe
from whoknows.use import cards, outputs, predict

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
METHODS = ("probe", "probe_mlp", "lora_prompt", "lora")
FOLDER = {"probe_mlp": "probe"}  # the others have folders of their own
PAIR = {"question": "Why?", "answer": "metal"}


class Run:
    """A reader, in a folder; the answers of two models; and estimators that were trained on the first one's."""

    def __init__(self, reader, folder):
        self.reader, self.folder, self.frames = reader, folder, {"one": learnable(60), "two": learnable(60)}
        self.frames["two"]["answer"] = [TEXTS[i % 6] for i in range(60)]  # an empty one too
        for part in (reader.model, reader.tokenizer):
            part.save_pretrained(folder / "reader")
        extract.run("r", reader, self.frames, 0.5, 600, str(folder / "features"))
        used = {
            "source": str(folder / "reader"),
            "precision": "float32",
            "template": None,
            "digest": assets.digest(str(folder / "reader")),
        }
        rows = [
            probe.run(
                "r", "one", 0, self.frames, str(folder / "features"), "all", [1.0], MLP, str(folder / "probe"), **used
            )[0]
        ]
        settings = SETTINGS | {"epochs": 2, "evaluations": 2}
        for method, query in (("lora_prompt", True), ("lora", False)):
            out = {"out": str(folder / method), **used}
            rows.append(
                lora_prompt.run(
                    "r",
                    fresh(reader),
                    "one",
                    0,
                    self.frames,
                    settings,
                    600,
                    str(folder / "features"),
                    method,
                    query,
                    **out,
                )[1]
            )
        self.rows = pd.concat(rows)
        for written, table in zip(("probe", "lora_prompt", "lora"), rows):
            cards.write(folder / written, table)

    def place(self, method):
        return self.folder / FOLDER.get(method, method)

    def load(self, method):
        return predict.load(self.place(method), method)

    def expected(self, method, scored):
        """The stage's logits, and the questions and answers that they are of."""
        rows = self.rows[(self.rows["method"] == method) & (self.rows["scored"] == scored)]
        asked = self.frames[scored].set_index("question_id").loc[rows["question_id"]]
        return rows["logit"].to_numpy(), asked["question"].tolist(), asked["answer"].tolist()


@pytest.fixture(scope="module")
def alone(mistral, tmp_path_factory):
    """What is enough where the reader does not matter."""
    return Run(mistral, tmp_path_factory.mktemp("tiny-mistral"))


@pytest.fixture(scope="module")
def other(llama, tmp_path_factory):
    return Run(llama, tmp_path_factory.mktemp("tiny-llama"))


@pytest.fixture(params=["alone", "other"])
def run(request):
    return request.getfixturevalue(request.param)


def as_lines(pairs):
    return [json.dumps({"question": question, "answer": answer}).encode() for question, answer in pairs]


def given(estimator, lines, size=64):
    return list(predict.stream(estimator, predict.lines(lines, "in.jsonl"), "in.jsonl", size))


def call(arguments, text, monkeypatch, capsys):
    """Status, lines and what stderr says of the command with some input."""
    with tempfile.TemporaryFile() as file:
        file.write(text)
        file.seek(0)
        monkeypatch.setattr(sys, "stdin", TextIOWrapper(file))
        status = __main__.main(["score", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, [json.loads(line) for line in captured.out.splitlines()], captured.err


@pytest.mark.parametrize("method", METHODS)
def test_the_confidence_is_the_one_that_the_stage_wrote(run, method):
    estimator = run.load(method)
    for scored in run.frames:
        expected, questions, answers = run.expected(method, scored)
        logits = estimator.logits(questions, answers).numpy()
        assert len(logits) and np.ptp(expected) > 0.05
        if scored == "two":
            assert "" in answers
        np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_a_question_and_an_answer_are_cleaned_as_a_run_cleans_them(alone, tmp_path):
    row = {"question": " Read  this.\r\n\r\nWhich\u00a0metal?\n", "answer": "\n tin \r\n"}
    (tmp_path / "mine.jsonl").write_text(json.dumps(row))
    table = question_files.load({"name": "mine", "role": "shift", "file": str(tmp_path / "mine.jsonl")})
    estimator, (asked,) = alone.load("probe"), table["question"]
    assert asked != row["question"] and estimator.example(**row) == estimator.example(asked, "tin")


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_line_ends_count_in_a_run_and_here_alike(alone, end, tmp_path):
    splits = ["train", "validation", "test"] * 2
    rows = [[f"Which{end}metal is {n}?", f"tin{end}or so" if n < 3 else "air", split] for n, split in enumerate(splits)]
    with open(tmp_path / "a.csv", "w", newline="") as file:
        csv.writer(file).writerows([("question", "answer", "split"), *rows])
    asked = question_files.load({"name": "mine", "role": "train", "file": str(tmp_path / "a.csv")})
    asked["gold"], asked["question_id"] = [["tin"]] * 6, asked["key"]
    of_run, _ = answer_file.read(asked, str(tmp_path / "a.csv"), {})
    estimator, table = alone.load("probe"), outputs.Table(tmp_path / "a.csv", predict.COLUMNS)
    scored = list(predict.stream(estimator, table.rows, "a.csv", 64))
    expected = estimator.of_examples([
        PackedExample(estimator.reader.start() + estimator.reader.question(q), (estimator.reader.answer(a),))
        for q, a in zip(of_run["question"], of_run["answer"])
    ])  # fmt: skip
    assert of_run["answer"].tolist() == ["tin\nor so"] * 3 + ["air"] * 3
    assert [row["logit"] for row in scored] == pytest.approx(expected.tolist(), abs=1e-5)
    assert [[row["question"], row["answer"]] for row in scored] == [row[:2] for row in rows], (
        "they are written as they came"
    )


def test_choices_stand_as_a_data_set_of_the_run_has_them(alone):
    asked, _ = prompts.as_choice("Which  metal?", ["two  words ", "tin "], "tin ")
    estimator = alone.load("probe")
    assert estimator.example(asked, "B") == estimator.example(asked.replace("Which  metal", "Which metal"), "B")
    assert estimator.example(asked, "B") != estimator.example(tables.tidy(asked), "B")


@pytest.mark.parametrize("method", METHODS)
def test_the_confidence_is_that_of_plain_transformers_at_the_last_token(run, method):
    estimator, reader = run.load(method), run.reader
    model = (
        peft.PeftModel.from_pretrained(fresh(reader).model, run.place(method)).eval()
        if "lora" in method
        else reader.model
    )
    for answer in ("metal", ""):
        question = reader.tokenizer("Question: Why?\nAnswer:").input_ids
        ids = question + (reader.encode(f" {answer}") or reader.encode("\n"))
        out = plain(
            type(reader)(model, reader.tokenizer), ids + (reader.encode(QUERY) if method == "lora_prompt" else [])
        )
        states = torch.stack(out.hidden_states)[:, 0, -1]
        if method == "lora_prompt":
            no, yes = reader.choices
            expected = out.logits[0, -1, yes] - out.logits[0, -1, no]
        elif method == "lora":
            head = files.read_safetensors(run.folder / "lora/classifier.safetensors")
            expected = (
                torch.nn.functional.layer_norm(states[-1], states[-1].shape) @ head["weight"][0] + head["bias"][0]
            )
        else:
            kept = Logistic([], []) if method == "probe" else Mlp(MLP, 0)
            kept.restore(estimator.card["chosen"], files.read_safetensors(run.folder / f"probe/{method}.safetensors"))
            expected = kept.score(states[None].bfloat16())[0]
        assert float(estimator.logits(["Why?"], [answer])) == pytest.approx(float(expected), abs=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_the_confidence_depends_neither_on_the_lines_read_at_once_nor_on_the_batches(alone, method, monkeypatch):
    estimator, (_, questions, answers) = alone.load(method), alone.expected(method, "two")
    lines, logits = as_lines(zip(questions, answers)), []
    for size, tokens in ((64, 2048), (7, 2048), (1, 2048), (64, 100)):
        monkeypatch.setattr(predict, "PASS_TOKENS", tokens)
        estimator = alone.load(method)
        logits.append([line["logit"] for line in given(estimator, lines, size)])
    for other in logits[1:]:
        np.testing.assert_allclose(other, logits[0], atol=1e-4)


@pytest.mark.parametrize(
    "method, available, passes, each", [("probe", 1, 3, 1), ("lora_prompt", 2, 6, 1), ("lora", 12, 8, 2)]
)
def test_passes_side_by_side_say_the_same_and_every_thread_takes_some(
    alone, method, available, passes, each, monkeypatch
):
    _, questions, answers = alone.expected(method, "two")
    questions, answers, expected = questions * 20, answers * 20, alone.load(method).logits(questions * 20, answers * 20)
    monkeypatch.setattr(torch, "get_num_threads", lambda: available)
    threads = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    estimator, busy = alone.load(method), set()

    def counted(at, score):
        def work(packed):
            busy.add((at, threading.get_ident()))
            sleep(0.01)
            return score(packed)

        return work

    estimator.scores = [counted(at, score) for at, score in enumerate(estimator.scores)]
    assert len(estimator.scores) == passes
    np.testing.assert_allclose(estimator.logits(questions, answers), expected, atol=1e-4)
    assert {at for at, _ in busy} == {*range(passes)} and len(busy) == len({thread for _, thread in busy}) == passes
    assert threads == [each] * passes + [available]
    busy.clear()
    estimator.logits(questions[:1], answers[:1])
    assert busy == {(0, threading.get_ident())}


@pytest.mark.parametrize("device, passes, padding", [("cpu", 14, 0.1), ("cuda", 1, 1.0)])
def test_a_pass_on_a_cpu_has_little_padding_and_one_on_a_gpu_as_many_tokens_as_extract(device, passes, padding):
    examples = [PackedExample([7] * (5 + 37 * at % 50), ([at],)) for at in range(200)]
    seen = []

    def score(packed):
        seen.append(packed.longest * len(packed.examples))
        return torch.tensor([float(example.branches[0][0]) for example in packed.examples])

    reader = SimpleNamespace(device=torch.device(device))
    estimator = predict.Estimator({}, Path(), reader, [], lambda tokens: None, [score])
    assert estimator.of_examples(examples).tolist() == [*range(200)]
    tokens = sum(map(len, examples))
    assert len(seen) == passes and sum(seen) < (1 + padding) * tokens


@pytest.fixture
def low(alone, tmp_path):
    """The folder of a probe of a layer with blocks above it."""
    shutil.copytree(alone.folder / "probe", tmp_path / "low")
    card = json.loads((tmp_path / "low/probe.json").read_text())
    card["chosen"]["layer"] = 1
    (tmp_path / "low/probe.json").write_text(json.dumps(card))
    return tmp_path / "low"


def test_blocks_above_the_layer_of_a_probe_are_not_run(low, alone, monkeypatch):
    texts = [list(texts) for texts in alone.expected("probe", "two")[1:]]
    short = predict.load(low)
    monkeypatch.setattr(predict, "_shorten", lambda reader, layer: None)
    whole = predict.load(low)
    assert (short.reader.depth, len(short.reader.layers)) == (2, 2) and whole.reader.depth > 2
    np.testing.assert_allclose(short.logits(*texts), whole.logits(*texts), atol=1e-4)
    assert np.ptp(short.logits(*texts).numpy()) > 0.05


@pytest.mark.parametrize("change", ["other states", "an error"])
def test_a_reader_whose_lower_layers_know_of_the_upper_ones_stays_whole(low, monkeypatch, change):
    usual = predict._shorten

    def shorten(reader, layer):
        depth, block = reader.depth, reader.layers[0]

        def hook(module, args):
            if reader.depth == depth:
                return args
            return (args[0] + 1, *args[1:]) if change == "other states" else 1 / 0

        handle = block.register_forward_pre_hook(hook)
        usual(reader, layer)
        handle.remove()
        assert reader.depth == len(reader.layers) == depth and layer == 1

    monkeypatch.setattr(predict, "_shorten", shorten)
    assert torch.isfinite(predict.load(low).logits(["Why?"], ["metal"])).all()


def test_an_error_in_one_thread_ends_the_others_and_is_raised(alone, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    estimator, done = alone.load("probe"), []

    def fail(packed):
        raise ValueError("broken")

    def work(packed):
        sleep(0.05)
        done.append(packed)
        return torch.zeros(len(packed.examples))

    estimator.scores = [fail, work]
    with pytest.raises(ValueError, match="broken"):
        estimator.logits(["Why?" * 20] * 900, ["metal"] * 900)
    assert len(done) < 4


def test_other_keys_are_kept_and_the_lines_stay_in_order(alone):
    pairs = [("Why?", "a " * k) for k in (9, 1, 30, 2, 5)]  # batches are made by length
    lines = [
        json.dumps({"id": at, "question": q, "note": {"ü": [1, None]}, "answer": a}).encode()
        for at, (q, a) in enumerate(pairs)
    ]
    results = given(alone.load("lora_prompt"), lines, 3)
    assert [line["id"] for line in results] == [0, 1, 2, 3, 4] and all(
        line["note"] == {"ü": [1, None]} for line in results
    )
    single = [given(alone.load("lora_prompt"), [line])[0]["logit"] for line in lines]
    np.testing.assert_allclose([line["logit"] for line in results], single, atol=1e-4)
    for line in results:
        assert line["p_correct"] == pytest.approx(1 / (1 + np.exp(-line["logit"])), rel=1e-6)
        assert float(str(np.float32(line["logit"]))) == line["logit"], "the digits of float32 and no more"


def test_an_endless_input_is_read_no_further_than_is_asked_for(alone):
    read = []

    def lines():
        while True:
            read.append(1)
            yield from as_lines([("Why?", "metal")])

    results = predict.stream(alone.load("probe"), predict.lines(lines(), "in"), "in", 5)
    for count in range(1, 12):
        next(results)
        assert len(read) == -(-count // 5) * 5


@pytest.mark.parametrize(
    "bad, sentence",
    [
        (b"{'question': 1}", "this is no JSON; write one object a line"),
        (b"[" * 100_000, "this is no JSON"),
        (b'{"question": "\xff", "answer": ""}', "this is no JSON"),
        (b"[1]", "this is no JSON object; write one a line"),
        (b'{"question": "Why?"}', "`answer` is missing or no text"),
        (b'{"question": "Why?", "answer": null}', "`answer` is missing or no text"),
        (b'{"question": "\\ud800", "answer": ""}', "`question` is missing or no text"),
        (
            json.dumps({"question": "Why?", "answer": "metal " * 5000}).encode(),
            r"make \d{4,5} tokens, more than the 4096 that the reader sees at once; shorten them",
        ),
    ],
)
def test_a_bad_line_is_one_sentence_and_those_before_it_are_given(alone, bad, sentence):
    lines = [*as_lines([("Why?", "metal"), ("Why?", "water")]), b"\n", bad, *as_lines([("Why?", "king")])]
    answers = []
    with pytest.raises(WhoknowsError, match=rf"^in\.jsonl, line 4: .*{sentence}") as error:
        for line in predict.stream(alone.load("probe"), predict.lines(lines, "in.jsonl"), "in.jsonl", 64):
            answers.append(line["answer"])
    assert answers == ["metal", "water"] and "\n" not in str(error.value)


def test_a_confidence_that_is_no_number_is_refused(alone):
    estimator = alone.load("lora_prompt")
    estimator.reader.model.lm_head.weight.data.fill_(torch.nan)
    with pytest.raises(WhoknowsError, match="in.jsonl, line 1: the confidence is not a finite number"):
        given(estimator, as_lines([("Why?", "metal")]))


def test_the_command_writes_lines_to_stdout_and_all_else_to_stderr(alone, monkeypatch, capsys, tmp_path):
    text = json.dumps(PAIR | {"x": "Zürich \ud83d"}).encode() + b"\n\n" + json.dumps(PAIR).encode()
    status, lines, message = call(["--estimator", alone.folder / "lora_prompt"], text, monkeypatch, capsys)
    assert status == 0 and [list(line) for line in lines] == [
        ["question", "answer", "x", "p_correct", "logit"],
        ["question", "answer", "p_correct", "logit"],
    ]
    assert (
        lines[0]["x"] == "Zürich \ud83d" and message == "lora_prompt: reader r, trained on answers of one to made_up\n"
    )
    (tmp_path / "in.jsonl").write_bytes(text)
    again = call(
        ["--estimator", alone.folder / "lora_prompt", "--input", tmp_path / "in.jsonl"], b"", monkeypatch, capsys
    )
    assert again == (0, lines, message)
    (expected,) = alone.load("lora_prompt").logits([PAIR["question"]], [PAIR["answer"]]).tolist()
    assert lines[1]["logit"] == pytest.approx(expected, abs=1e-4)


def test_a_bad_line_ends_the_command_after_the_lines_before_it(alone, monkeypatch, capsys):
    text = json.dumps(PAIR).encode() + b"\noops\n"
    status, lines, message = call(["--estimator", alone.folder / "probe"], text, monkeypatch, capsys)
    assert (
        status == 2
        and len(lines) == 1
        and message.splitlines()[-1].startswith("standard input, line 2: this is no JSON")
    )


def test_a_folder_with_two_probes_gives_the_one_that_is_asked_for(alone):
    assert predict.load(alone.folder / "probe").card["method"] == "probe"
    assert predict.load(alone.folder / "probe", "probe_mlp").card["method"] == "probe_mlp"
    assert predict.load(alone.folder / "lora").card["method"] == "lora"
    with pytest.raises(WhoknowsError, match="it holds no lora; ask for probe or probe_mlp"):
        predict.load(alone.folder / "probe", "lora")


def without(card, key):
    return {name: value for name, value in card.items() if name != key}


@pytest.mark.parametrize(
    "method, file, change, sentence",
    [
        ("probe", "probe.json", lambda card: without(card, "source"), "ask for probe_mlp"),
        (
            "lora_prompt",
            "lora_prompt.json",
            lambda card: without(card, "source"),
            "holds no estimator with a card; run `make book`",
        ),
        (
            "probe",
            "probe.json",
            lambda card: card | {"source": "no/such/place"},
            r"probe\.json, source: models: the source 'no/such/place' is no asset",
        ),
        ("lora_prompt", "lora_prompt.json", None, "lora_prompt.json: this file is damaged"),
        (
            "probe",
            "probe.json",
            lambda card: card | {"settings": {"depth": 1}},
            r"probe\.json: this card is damaged, or of another version",
        ),
        (
            "lora_prompt",
            "lora_prompt.json",
            lambda card: card | {"settings": without(card["settings"], "r")},
            r"lora_prompt\.json: this card is damaged, or of another version",
        ),
        ("probe", "probe.safetensors", None, "probe.safetensors: this file is damaged"),
        ("lora_prompt", "adapter_model.safetensors", None, "adapter_model.safetensors: this file is damaged"),
        (
            "lora_prompt",
            "lora_prompt.json",
            lambda card: card | {"settings": card["settings"] | {"r": 3}},
            "these adapters do not fit the reader or the settings",
        ),
        (
            "lora_prompt",
            "lora_prompt.json",
            lambda card: card | {"settings": card["settings"] | {"first_layer": 0}},
            "these adapters do not fit",
        ),
    ],
)
def test_a_wrong_folder_is_one_sentence(alone, tmp_path, method, file, change, sentence):
    for path in (alone.folder / method).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "no" / "such" / "place").mkdir(parents=True)
    card = json.loads((tmp_path / f"{method}.json").read_text())
    (tmp_path / file).write_text(json.dumps(change(card)) if change else "{broken")
    with pytest.raises(WhoknowsError, match=sentence) as error, pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        predict.load(tmp_path, method)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_no_folder_no_file_and_no_number_of_lines(alone, tmp_path, monkeypatch, capsys):
    status, lines, message = call(["--estimator", tmp_path / "gone"], b"", monkeypatch, capsys)
    assert status == 2 and not lines and "gone: there is no such folder" in message and len(message.splitlines()) == 1
    status, lines, message = call(
        ["--estimator", alone.folder / "probe", "--input", tmp_path / "gone"], b"", monkeypatch, capsys
    )
    assert status == 2 and "gone: this file cannot be read (No such file or directory)" in message
    with pytest.raises(SystemExit):
        call(["--estimator", alone.folder / "probe", "--lines", "0"], b"", monkeypatch, capsys)
    assert "0 is no number of lines" in capsys.readouterr().err


def test_a_probe_for_another_reader_is_refused(alone, tmp_path):
    for path in (alone.folder / "probe").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    state = files.read_safetensors(tmp_path / "probe.safetensors")
    files.write_safetensors(
        tmp_path / "probe.safetensors", {name: torch.cat([weights, weights]) for name, weights in state.items()}
    )
    with pytest.raises(WhoknowsError, match="for hidden states of width 128, but those of the reader .* have 64"):
        predict.load(tmp_path)


@pytest.mark.parametrize("method", ["probe", "lora_prompt"])
def test_another_reader_of_the_same_shape_in_the_same_place_is_refused(alone, tmp_path, monkeypatch, capsys, method):
    shutil.copytree(alone.folder / method, tmp_path / "estimator")
    shutil.copytree(alone.folder / "reader", tmp_path / "reader")
    source = str(tmp_path / "reader")
    card = json.loads((tmp_path / f"estimator/{method}.json").read_text()) | {
        "source": source,
        "digest": assets.digest(source),
    }
    (tmp_path / f"estimator/{method}.json").write_text(json.dumps(card))
    assert predict.load(tmp_path / "estimator", method).reader.digest == card["digest"]
    weights = files.read_safetensors(tmp_path / "reader/model.safetensors")
    name = next(
        name for name in weights if "layers.2" in name and "mlp" in name
    )  # neither the head nor the first block
    files.write_safetensors(
        tmp_path / "reader/model.safetensors", weights | {name: weights[name] * 1.5}, {"format": "pt"}
    )
    assert loading.load(source, "float32").identity != loading.load(
        str(alone.folder / "reader"), "float32"
    ).identity.replace(str(alone.folder), str(tmp_path))
    status, lines, message = call(
        ["--estimator", tmp_path / "estimator", "--method", method], json.dumps(PAIR).encode(), monkeypatch, capsys
    )
    assert status == 2 and not lines and len(message.splitlines()) == 1
    assert f"{method}.json, source: models: the source '{source}' is another model now" in message


def test_the_cards_say_how_it_was_trained(alone):
    card = json.loads((alone.folder / "lora_prompt/lora_prompt.json").read_text())
    names = {
        "method": "lora_prompt",
        "reader": "r",
        "trained_on": "one",
        "seed": 0,
        "tasks": ["made_up"],
        "query": True,
        "precision": "float32",
    }
    assert card.items() >= names.items() and card["settings"]["first_layer"] == 0.5
    for method in METHODS:
        stored = json.loads((alone.place(method) / f"{method}.json").read_text())
        assert stored["digest"] == assets.digest(str(alone.folder / "reader")) and stored["template"] is None
    assert [set(look) for look in card["history"]] == [{"step", "loss", "validation_auroc", "seconds"}] * 2
    assert not json.loads((alone.folder / "lora/lora.json").read_text())["query"]
    for method, curve in (("probe", "layer"), ("lora_prompt", "step")):
        assert curve in cell.learning_chart(str(alone.folder / method), method).to_json()


def test_threads_that_wait_leave_their_cores_to_others(alone):
    command = [sys.executable, "-m", "whoknows", "score", "--estimator", str(alone.folder / "probe")]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "lib"), "OMP_DISPLAY_ENV": "VERBOSE"}
    environment.pop("OMP_WAIT_POLICY", None)
    done = subprocess.run(command, input=json.dumps(PAIR), env=environment, capture_output=True, text=True)
    # The policy itself is always shown as passive; turns spent waiting are not.
    assert re.search("GOMP_SPINCOUNT *= *'0'", done.stderr), done.stderr


def test_a_probe_scores_without_waiting_for_what_trains_adapters(alone):
    text = "import sys; from whoknows.use import predict; predict.load(sys.argv[1]).logits(['Why?'], ['metal'])\n"
    command = [sys.executable, "-c", f"{text}print('peft' in sys.modules)", str(alone.folder / "probe")]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "lib")}
    assert subprocess.run(command, env=environment, capture_output=True, text=True).stdout == "False\n"


def test_as_a_process_it_answers_while_the_input_is_open_and_ends_when_nobody_reads(alone):
    command = [
        sys.executable,
        "-m",
        "whoknows",
        "score",
        "--estimator",
        str(alone.folder / "lora_prompt"),
        "--lines",
        "1",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "lib")}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        for answer in ("metal", "water"):
            process.stdin.write(json.dumps(PAIR | {"answer": answer}) + "\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["answer"] == answer
        process.stdout.close()
        _, message = process.communicate("\n".join([json.dumps(PAIR)] * 3), timeout=300)
    assert process.returncode == 0 and message.splitlines() == [
        "lora_prompt: reader r, trained on answers of one to made_up"
    ]


def test_a_run_killed_in_the_middle_leaves_what_it_scored_and_the_file_is_that_of_one_run(
    alone, tmp_path, monkeypatch, capsys
):
    """The process is killed by SIGKILL; the next run scores the rest alone, bit for bit as one run would have."""
    rows = [{"question": f"Why {i}?", "answer": f"{TEXTS[i % 6]} {i}"} for i in range(200)]
    source, out, whole = (tmp_path / f"{name}.jsonl" for name in ("in", "out", "whole"))
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    part = tmp_path / "out.jsonl.part"
    arguments = ["--estimator", alone.place("probe"), "--input", source, "--lines", "2", "--output"]
    command, environment = [sys.executable, "-m", "whoknows", "score"], os.environ | {"PYTHONPATH": str(ROOT / "lib")}
    process = subprocess.Popen([*command, *map(str, arguments), out], env=environment, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (part.exists() and part.read_bytes().count(b"\n") >= 3):
        sleep(0.002)
    process.kill()
    assert process.wait() == -9 and not out.exists()
    kept = part.read_bytes().count(b"\n")
    assert 3 <= kept < 100
    seen = spied(monkeypatch, predict.Estimator, "of_examples")
    assert call([*arguments, out], b"", monkeypatch, capsys)[0] == 0
    scored, estimator = [example for one in seen for example in one["examples"]], alone.load("probe")
    assert scored == [estimator.example(row["question"], row["answer"]) for row in rows[2 * kept :]]
    assert call([*arguments, whole], b"", monkeypatch, capsys)[0] == 0
    assert out.read_bytes() == whole.read_bytes() and not part.exists()
    assert len({json.loads(line)["logit"] for line in out.read_text().splitlines()}) >= 6
