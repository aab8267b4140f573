"""The extract stage: one reader reads all models' answers, some questions at a time, and its features go to the disk.

Hidden states of many answers need not fit into memory: each part of them is a file, written while the reader is at the
next part, and in the end the parts are put together.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from tqdm.auto import tqdm

from whoknows import WhoknowsError
from whoknows.data import files
from whoknows.data.positions import kept, stems
from whoknows.data.rows import every, example_rows
from whoknows.estimators import hidden
from whoknows.models import proof
from whoknows.models.batching import TokenBudget
from whoknows.models.forward import Features, extract
from whoknows.models.packing import PackedBatch, pack
from whoknows.models.reader import Reader, first_block
from whoknows.stages import resume

TRUNK, NONE = "trunk.safetensors", -1  # the second is the block of the cached activations that do not exist
PART_QUESTIONS, PART_BYTES = 1024, 2**30  # of a part, at most


def run(
    name: str, reader: Reader, answers: dict[str, pd.DataFrame], first_layer: float | None, batch_tokens: int | None,
    folder: str, shard: list[int] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """The extract stage: read all models' answers once, write the reader's features, return its zero-shot confidence.

    Args:
        first_layer: share of the depth where adapters begin; None if there is no LoRA + Prompt.
        folder: where the features go; with a shard only the parts do, which the whole stage will find.
        shard: see `resume.mine`.

    Returns:
        (rows of the untrained P(True), Kadavath et al. 2022, for all test and validation answers; a table of what was
        kept); with a shard both are empty.
    """
    block = first_block(reader.depth, first_layer) if first_layer else None
    packed = pack(reader, answers, queried(answers, block))
    if block is not None and not proof.cached(reader, block, packed.longest, packed.widest):
        block, packed = None, pack(reader, answers, queried(answers, None))
    positions = kept(first_layer)
    parts = _extract_parts(reader, packed, positions, block, batch_tokens, folder, shard)
    if shard:
        return pd.DataFrame(), pd.DataFrame()
    shapes = _join(parts, packed, positions, block, folder)
    if first_layer and block is None:
        # This says so: training runs over the blocks below the adapters each time.
        files.write_safetensors(Path(folder) / TRUNK, {"first_block": torch.tensor(NONE)})
    tables = []
    for scored, frame in answers.items():
        logit = torch.cat([files.read_safetensors(path)[f"zero_shot {scored}"] for path in parts])
        logit = logit[packed.answered(scored)]
        tables.append(example_rows(frame, method="zero_shot", reader=name, scored=scored, logit=logit))
    rows = pd.concat(tables, ignore_index=True)
    resume.clear(folder)
    return rows[rows["split"] != "train"].reset_index(drop=True), pd.DataFrame({"hidden states": shapes})


def _extract_parts(
    reader: Reader, packed: PackedBatch, positions: list[str], block: int | None, batch_tokens: int | None,
    folder: str, shard: list[int] | None,
) -> list[Path]:  # fmt: skip
    """The files of the batch's features, some questions each; files that exist are not made again."""
    ids = [[example.question, example.branches] for example in packed.examples]
    depends = {"ids": ids, "whose": packed.branch_of, "ends": packed.answer_ends, "positions": positions}
    parts = resume.folder(folder, __file__, **depends, block=block, model=reader.identity)
    each = len(stems(packed.branch_of, positions)) * (reader.depth + 1) * reader.config.hidden_size * 2
    cut = resume.slices(len(packed.examples), max(1, min(PART_QUESTIONS, PART_BYTES // each)))
    paths = [parts / f"{at.start:06}.safetensors" for at in cut]
    todo = [(packed.part(at), path) for at, path in resume.mine([*zip(cut, paths)], shard)]
    budget, total = TokenBudget(batch_tokens, reader.device), sum(len(e) for some, _ in todo for e in some.examples)
    with ThreadPoolExecutor(1) as writer, tqdm(total=total, desc="extracting", unit="token", unit_scale=True) as bar:
        written = writer.submit(lambda: None)
        for some, path in todo:
            if path.exists():
                bar.update(sum(map(len, some.examples)))
                continue
            features = extract(reader, some, positions, block, budget, bar.update)
            written.result()  # no more than two parts are in memory
            written = writer.submit(_save, path, features)
        written.result()
    return paths


def _save(path: Path, features: Features) -> None:
    """Features of some questions as one file."""
    tensors = features.states | {f"zero_shot {scored}": logits for scored, logits in features.zero_shot.items()}
    files.write_safetensors(path, tensors if features.cached is None else tensors | {"trunk": features.cached})


def _join(
    paths: list[Path], packed: PackedBatch, positions: list[str], block: int | None, folder: str
) -> dict[str, tuple]:
    """Writes the files of `positions.stems`, whose shapes it returns, and `trunk.safetensors` if there is a block."""

    def pieces(name: str, model: str | None = None):
        at, answered = 0, packed.answered(model) if model else torch.tensor([])
        for tensor in (files.read_safetensors(path)[name] for path in paths):
            here = answered[at : at + len(tensor)]
            yield tensor if here.all() else tensor[here]
            at += len(tensor)

    states = {name: partial(pieces, name, model) for name, model in stems(packed.branch_of, positions).items()}
    shapes = {name: files.write_rows(hidden.file(folder, name), "hidden", some) for name, some in states.items()}
    if block is not None:
        about = {"ids": _queried_ids(packed), "first_block": torch.tensor(block)}
        files.write_rows(Path(folder) / TRUNK, "trunk", partial(pieces, "trunk"), about)
    return shapes


def queried(answers: dict[str, pd.DataFrame], first_block: int | None) -> list[bool]:
    """For each question, whether the query follows answers: always with cached activations, else not in training."""
    split = every(answers)["split"]
    return [first_block is not None or name != "train" for name in split]


def load_cached(folder: str | None, packed: PackedBatch, first_block: int) -> list[torch.Tensor] | None:
    """For each example, which ends in the query, its residual stream [tokens, width] at the first adapted block.

    None if the reader's blocks cannot go on from one.

    Raises:
        WhoknowsError: the file is missing, damaged, or of other texts or another block.
    """
    if not folder:
        raise WhoknowsError("features is missing: adapters with first_layer above zero go on from what extract cached")
    path = Path(folder) / TRUNK
    stored = files.read_safetensors(path)
    block = int(stored["first_block"])
    if block == NONE:
        return None
    if block != first_block:
        raise WhoknowsError(
            f"{path} ends before block {block}, but the adapters begin at block {first_block}: "
            "extract again with the same first_layer"
        )
    if not torch.equal(stored["ids"], _queried_ids(packed)):
        raise WhoknowsError(f"{path} is not of these questions and answers: delete it and run make book again")
    return list(stored["trunk"].split([len(t) for t in packed.examples]))


def _queried_ids(packed: PackedBatch) -> torch.Tensor:
    """All token ids of the examples that end in the query, in order."""
    queried = [example for t, example in enumerate(packed.examples) if packed.is_queried(t)]
    texts = [text for example in queried for text in (example.question, *example.branches)]
    return torch.tensor([i for text in texts for i in text], dtype=torch.int32)
