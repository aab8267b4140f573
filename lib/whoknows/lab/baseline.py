"""The plain way to answer, extract and train, with transformers' `generate`, PEFT and the `Trainer`.

It is what `bench` measures this library against, and it gives the same answers and the same numbers: each question
goes with its whole few-shot prompt, each answer with its question, and the query needs a forward pass of its own.
"""

import tempfile

import torch
from torch.nn import functional as F
from transformers import PrinterCallback, Trainer, TrainingArguments

from whoknows.models.packing import columns
from whoknows.models.reader import Reader

IGNORED = -100  # a label that no loss is computed for


@torch.inference_mode()
def answer(reader: Reader, prompts: list[list[int]], max_new_tokens: int) -> list[str]:
    """What `generate` writes greedily after these ids, up to the line end, for one batch padded on the left."""
    inputs = padded(prompts, "left", reader.device)
    line_ends = [ids[0] for ids in map(reader.encode, ("\n", "\n\n")) if len(ids) == 1]
    ends = sorted({*reader.ends, *line_ends})
    options = {"max_new_tokens": max_new_tokens, "do_sample": False, "eos_token_id": ends, "pad_token_id": ends[0]}
    written = reader.model.generate(**inputs, **options)[:, inputs["input_ids"].shape[1] :]
    texts = reader.tokenizer.batch_decode(written, skip_special_tokens=True)
    return [text.lstrip(" ").split("\n")[0].strip() for text in texts]


@torch.inference_mode()
def hidden_states(reader: Reader, texts: list[list[int]], rows: int) -> torch.Tensor:
    """[texts, layers + 1, width] hidden states at the last token of each text, `rows` texts at a time."""
    parts = []
    for part in (texts[i : i + rows] for i in range(0, len(texts), rows)):
        states = reader.base(**padded(part, "right", reader.device), output_hidden_states=True).hidden_states
        last = torch.tensor([len(ids) - 1 for ids in part])
        parts.append(torch.stack([layer[range(len(part)), last].cpu() for layer in states], dim=1))
    return torch.cat(parts)


@torch.inference_mode()
def zero_shot(reader: Reader, texts: list[list[int]], rows: int) -> torch.Tensor:
    """[texts] log-odds of yes after texts that end in the query, `rows` texts at a time."""
    no, yes = reader.choices
    parts = []
    for part in (texts[i : i + rows] for i in range(0, len(texts), rows)):
        logits = reader.model(**padded(part, "right", reader.device)).logits
        last = logits[range(len(part)), [len(ids) - 1 for ids in part]].float().cpu()
        parts.append(last[:, yes] - last[:, no])
    return torch.cat(parts)


def train(reader: Reader, texts: list[list[int]], correct: list[bool], settings: dict, seed: int) -> None:
    """One epoch of the `Trainer`, with the loss on the two choice tokens.

    Args:
        reader: a model with adapters.
        texts: ids that end in the query.
        settings: the grid's `lora_prompt` section.
    """
    no, yes = reader.choices
    examples = [{"ids": ids, "label": yes if right else no} for ids, right in zip(texts, correct)]

    def collate(rows):
        inputs = padded([row["ids"] for row in rows], "right", torch.device("cpu"))
        labels = torch.full_like(inputs["input_ids"], IGNORED)
        labels[range(len(rows)), [len(row["ids"]) - 1 for row in rows]] = torch.tensor([row["label"] for row in rows])
        return inputs | {"labels": labels}

    def loss(outputs, labels, num_items_in_batch=None):
        labelled = labels != IGNORED
        return F.cross_entropy(outputs.logits[labelled][:, [no, yes]].float(), (labels[labelled] == yes).long())

    how = {"per_device_train_batch_size": settings["batch_size"], "num_train_epochs": 1, "seed": seed}
    how |= {"learning_rate": settings["learning_rate"], "lr_scheduler_type": "cosine"}
    how |= {"use_cpu": not torch.cuda.is_available(), "remove_unused_columns": False}
    quiet = {"save_strategy": "no", "logging_strategy": "no", "report_to": "none", "disable_tqdm": True}
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(folder, **how, **quiet)
        trainer = Trainer(reader.model, arguments, collate, examples, compute_loss_func=loss)
        trainer.remove_callback(PrinterCallback)
        trainer.train()


def padded(texts: list[list[int]], side: str, on: torch.device) -> dict[str, torch.Tensor]:
    """input_ids and attention_mask [texts, columns], padded on the left or on the right."""
    wide = columns(max(map(len, texts)))
    ids, mask = torch.zeros(2, len(texts), wide, dtype=torch.long)
    for row, text in enumerate(texts):
        here = slice(wide - len(text), wide) if side == "left" else slice(len(text))
        ids[row, here] = torch.tensor(text)
        mask[row, here] = 1
    return {"input_ids": ids.to(on), "attention_mask": mask.to(on)}
