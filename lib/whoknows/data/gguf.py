"""A GGUF model as bf16 safetensors and a fast tokenizer.

Runs as a separate process, `python -P gguf.py model.gguf folder`, because it replaces the GGUF reader
that transformers uses and because two models can then be converted at once.
"""

import functools
import sys
from pathlib import Path

# Texts whose ids must survive saving: the project's prompts, runs of space and line ends, digits, bytes beyond ASCII.
SAMPLES = (
    "Question: Who wrote 'Faust' in 1808?\nAnswer: Johann Wolfgang von Goethe",
    "\n\nIs the proposed answer correct?\nChoices:\n(i): no\n(ii): yes\nAnswer:",
    "two  spaces,\ttabs, naïve Σ 東京 🙂 ",
    " ii",
    "",
)


def convert(gguf: Path, folder: Path) -> None:
    """Writes `gguf` to `folder` as Hugging Face files: weights dequantised and rounded to bf16.

    Raises:
        ValueError: the saved tokenizer does not give the same ids, or weights are missing, NaN or inf.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    _read_once()
    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.save_pretrained(folder)
    model, info = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
        output_loading_info=True,
    )
    if missing := sorted(info["missing_keys"]):  # in whose place transformers puts random numbers
        raise ValueError(f"it lacks {len(missing)} of the model's weights, such as {missing[0]}")
    if not all(weights.isfinite().all() for weights in model.parameters()):
        raise ValueError("the weights hold NaN or inf")
    model.save_pretrained(folder)
    check_tokenizer(tokenizer, AutoTokenizer.from_pretrained(folder))


def check_tokenizer(before, after) -> None:
    """Raises a ValueError unless a tokenizer is fast, and means the same, after it was saved and loaded."""
    if not after.is_fast:
        raise ValueError("the saved tokenizer is not a fast one")
    if before.special_tokens_map != after.special_tokens_map or len(before) != len(after):
        raise ValueError("the saved tokenizer has other special tokens")
    for text in SAMPLES:
        ids = after(text).input_ids
        if ids != before(text).input_ids:
            raise ValueError(f"the saved tokenizer gives other ids for {text!r}")
        if after.decode(ids, skip_special_tokens=True) != text:
            raise ValueError(f"the tokenizer does not give back {text!r}")


def _read_once():
    """Makes transformers parse a GGUF file once instead of three times, and fast."""
    import gguf
    import numpy as np

    # A vocabulary's 262,144 words are taken out of a `np.memmap`, whose slices cost 10 times those of a plain array.
    class Reader(gguf.GGUFReader):
        data = property(lambda self: self._data, lambda self, data: setattr(self, "_data", np.asarray(data)))

    gguf.GGUFReader = functools.lru_cache(maxsize=1)(Reader)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
