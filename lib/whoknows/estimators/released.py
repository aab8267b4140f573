"""Released adapters at work: the log-odds that `data.adapters` and a reader give an answer, as their authors do it.

They were trained to say, with the same query and tokens as LoRA + Prompt, whether an answer is correct. The texts are
those of the authors' code (github.com/activatedgeek/calibration-tuning: `LMText`, `prepare_uncertainty_query` and
`get_token_vec`), each encoded as a whole, as there.
"""

from collections.abc import Iterable
from pathlib import Path

import torch

from whoknows import WhoknowsError
from whoknows.data import adapters, files
from whoknows.data.adapters import ADAPTERS, CONFIG, TEMPERATURES
from whoknows.data.prompts import QUERY
from whoknows.estimators.lora import LoraPrompt, put
from whoknows.estimators.lora_data import Dataset
from whoknows.models.packing import PackedBatch, PackedExample
from whoknows.models.reader import Reader, targets

ASKED = "\nAnswer:"  # between question and answer, whether the question ends so or not


def example(reader: Reader, question: str, answer: str) -> PackedExample:
    """The ids of a question, an answer and the query; `Question: ` is put before a question that has it nowhere."""
    context = question if "Question:" in question else f"Question: {question}"
    text = f"{context.strip().removesuffix(ASKED).strip()}{ASKED} {answer}".strip() + QUERY
    ids = reader.tokenizer(text, split_special_tokens=True).input_ids
    return PackedExample(ids[:1], (ids[1:],))


def load(card: dict, folder: Path, reader: Reader, batch_tokens: int | None) -> tuple[LoraPrompt, float]:
    """The reader with the adapters, and the temperature that divides their log-odds.

    Raises:
        WhoknowsError: a file is missing or damaged, or the adapters do not fit the reader.
    """
    path = folder / CONFIG
    known, wanted = targets(reader.model, "all-linear"), card["settings"]["targets"]
    if strange := [name for name in wanted if name not in known]:
        raise WhoknowsError(
            f"{path}: it adapts {strange[0]!r:.60}, but the blocks of {card['source']} have {', '.join(known)} alone; "
            "name an adapter of this reader"
        )
    adapters.require_weights(card, folder)
    stored, temperature = (
        next((_read(folder / name) for name in card["released"] if name in names), {})
        for names in (ADAPTERS, TEMPERATURES)
    )
    estimator = LoraPrompt(reader, card["settings"], card["seed"], batch_tokens)
    if not put(stored, estimator.reader.model):
        raise WhoknowsError(f"{folder}: its weights do not fit {card['source']} or {CONFIG}; fetch it again")
    estimator.reader.choices = tuple(reader.tokenizer(choice).input_ids[-1] for choice in ("i", "ii"))
    return estimator, float(temperature["log_temperature"].exp()) if temperature else card.get("temperature", 1.0)


def score(estimator: LoraPrompt, questions: Iterable[str], answers: Iterable[str]) -> torch.Tensor:
    """Log-odds [n] that answers are right, before they are divided by the temperature.

    Raises:
        WhoknowsError: a question and its answer are longer than the reader sees.
    """
    reader, ends = estimator.reader, []
    examples = [example(reader, *pair) for pair in zip(questions, answers, strict=True)]
    for one in examples:
        if len(one) > reader.limit:
            raise WhoknowsError(
                f"a question and an answer make {len(one)} tokens with the query, more than the {reader.limit} that "
                "the reader sees at once; leave its task out of the grid"
            )
        ends.append([len(one) - 1])
    return estimator.score(Dataset(PackedBatch(examples, ends, {"": [0] * len(examples)}), None))[""]


def _read(path: Path) -> dict[str, torch.Tensor]:
    return (files.read_safetensors if path.suffix == ".safetensors" else files.read_torch)(path)
