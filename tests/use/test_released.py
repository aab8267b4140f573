"""Adapters that others released, without a card of ours, score just as PEFT itself and the authors' own texts say."""

import json
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from made_up import fresh
from whoknows import WhoknowsError, __main__
from whoknows.data.prompts import QUERY
from whoknows.models import loading
from whoknows.use import cards, predict

pytestmark = pytest.mark.slow

CONTEXT = "Read the following and answer the question.\nQuestion: Which metal is a liquid?"
PAIRS = [(CONTEXT, "mercury"), ("Why?", "of the moon")]


@pytest.fixture
def adapter(reader, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "has_bfloat16", lambda: False)
    return made(reader, tmp_path / "tiny-ct-oe")


def made(reader, folder):
    """The folder of an adapter like those of the paper's authors, and the model with it, in float32."""
    torch.manual_seed(0)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    model = peft.get_peft_model(fresh(reader).model, config).eval()
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    kind = {"peft_type": "CALIBRATED_LORA", "task_type": "CALIBRATED_CAUSAL_LM", "query_format": "roman_choice"}
    change(folder, base_model_name_or_path=reader.tokenizer.name_or_path, use_temperature=True, **kind)
    return folder, model


def change(folder, **values):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def expected(model, tokenizer, question, answer):
    """The log-odds by plain PEFT, of the text and the tokens of the authors' code."""
    context = question if "Question:" in question else f"Question: {question}"
    ids = tokenizer(f"{context}\nAnswer: {answer}{QUERY}", return_tensors="pt").input_ids
    no, yes = (tokenizer(choice).input_ids[-1] for choice in ("i", "ii"))
    with torch.no_grad():
        last = model(input_ids=ids).logits[0, -1]
    return float(last[yes] - last[no])


def test_the_scores_are_those_of_plain_peft(reader, adapter):
    folder, model = adapter
    wanted = [expected(model, reader.tokenizer, *pair) for pair in PAIRS]
    plain = [expected(reader.model, reader.tokenizer, *pair) for pair in PAIRS]
    assert all(abs(one - other) > 1e-2 for one, other in zip(wanted, plain)), "the adapters do something"
    questions, answers = zip(*PAIRS)
    estimator = predict.load(folder)
    torch.testing.assert_close(estimator.logits(questions, answers), torch.tensor(wanted), atol=1e-4, rtol=0)
    again = estimator.logits([f"{CONTEXT}\nAnswer:"], ["mercury"])
    torch.testing.assert_close(again, torch.tensor(wanted[:1]), atol=1e-4, rtol=0)
    again = estimator.logits([" Why?\r\n"], [" of the moon\n"])
    torch.testing.assert_close(again, torch.tensor(wanted[1:]), atol=1e-4, rtol=0)
    assert QUERY == "\n\nIs the proposed answer correct?\nChoices:\n(i): no\n(ii): yes\nAnswer:", "the paper's words"
    save_file({"log_temperature": torch.tensor(0.5)}, folder / "temperature_model.safetensors")
    cooler = predict.load(folder)
    scaled = torch.tensor(wanted) / torch.tensor(0.5).exp()
    torch.testing.assert_close(cooler.logits(questions, answers), scaled, atol=1e-4, rtol=0)
    assert cooler.identity != estimator.identity


def test_weights_in_the_older_format_are_the_same(adapter):
    folder, _ = adapter
    wanted = predict.load(folder).logits(*zip(*PAIRS))
    torch.save(load_file(folder / "adapter_model.safetensors"), folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()
    torch.save({"log_temperature": torch.zeros(1)}, folder / "temperature_model.pt")
    assert torch.equal(predict.load(folder).logits(*zip(*PAIRS)), wanted)
    (folder / "adapter_model.bin").unlink()
    with pytest.raises(WhoknowsError, match="neither adapter_model.safetensors nor adapter_model.bin; fetch it again"):
        predict.load(folder)


def test_the_command_takes_one_from_the_hub(adapter, hub_server, tmp_path, monkeypatch, capsys):
    folder, _ = adapter
    save_file({"log_temperature": torch.tensor(0.5)}, folder / "temperature_model.safetensors")
    files = {path.name: path.read_bytes() for path in folder.iterdir()} | {"optimizer.pt": b"large"}
    hub_server.repositories["org/tiny-ct-oe"] = files
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in PAIRS))
    assert __main__.main(["score", "--estimator", "org/tiny-ct-oe", "--input", "in.jsonl"]) == 0
    said = capsys.readouterr()
    logits = [json.loads(line)["logit"] for line in said.out.splitlines()]
    assert logits == pytest.approx(predict.load(folder).logits(*zip(*PAIRS)).tolist(), abs=1e-4)
    assert "trained on answers of an unnamed model to unnamed questions" in said.err
    assert not any("optimizer" in path for path, _ in hub_server.asked)
    hub_server.repositories["org/other"] = {"adapter_config.json": json.dumps({"peft_type": "IA3"}).encode()}
    with pytest.raises(WhoknowsError, match="^org/other/adapter_config.json: this is no configuration of a LoRA"):
        predict.load("org/other")


@pytest.mark.parametrize(
    "values, sentence",
    [
        ({"peft_type": "LOHA"}, "peft_type is 'LOHA', and only adapters with LORA or CALIBRATED_LORA there"),
        ({"task_type": "SEQ_CLS"}, "task_type is 'SEQ_CLS', and only adapters with CAUSAL_LM or CALIBRATED_CAUSAL_LM"),
        ({"query_format": "bool"}, "query_format is 'bool', and only adapters with roman_choice there"),
        ({"use_dora": True}, "use_dora is True, and only adapters with False there"),
        ({"target_modules": "all.*"}, "no configuration of a LoRA adapter with .* a list of target_modules"),
        ({"target_modules": ["q_proj", "Wqkv"]}, "it adapts 'Wqkv', but the blocks of .* have q_proj, k_proj"),
        ({"target_modules": ["q_proj"]}, "its weights do not fit"),
        ({"r": 8}, "its weights do not fit"),
        ({"base_model_name_or_path": "no-such-model"}, "adapter_config.json, source: models: the source 'no-such-m"),
    ],
)
def test_another_kind_of_adapter_is_one_sentence(adapter, values, sentence):
    folder, _ = adapter
    change(folder, **values)
    with pytest.raises(WhoknowsError, match=sentence) as error:
        predict.load(folder)
    assert str(error.value).startswith(str(folder)) and "\n" not in str(error.value)


def test_it_is_no_estimator_of_ours(adapter):
    folder = Path(adapter[0])
    (folder / "README.md").write_text("# Theirs")
    with pytest.raises(WhoknowsError, match="it holds no estimator with a card"):
        cards.whole(folder)
