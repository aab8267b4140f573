"""How large a language model is, without loading it: from its config.json if that is here, else from its name."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from whoknows.data import cache, hub
from whoknows.data.prompts import CHAT

UNITS = {"m": 1e6, "b": 1e9}
KEYS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
UNKNOWN = 7e9  # parameters of a model whose files are not here and whose name has no number
ASPECT = 128  # width over layers of most models; with 12 weights a layer for each square of the width


@dataclass(frozen=True)
class Size:
    """A decoder's dimensions.

    Attributes:
        sides: for each linear module of a block, its inputs and outputs together.
        blocks: weights of all blocks.
        head: weights of the output head.
        origin: what says so: `config.json`, `part` (it leaves out what is guessed), `name` or `guess`.
    """

    layers: int
    width: int
    sides: dict[str, int]
    blocks: float
    head: float
    origin: str


def size(source: str) -> Size:
    """Of a model that a grid names."""
    source = source.removeprefix(CHAT)
    config = _config(source)
    if config and (shape := _read(config)):
        return shape
    match = re.search(r"(\d+(?:\.\d+)?)([mb])(?![a-z])", source.lower())
    parameters = float(match[1]) * UNITS[match[2]] if match else UNKNOWN
    width = (parameters * ASPECT / 12) ** (1 / 3)
    shape = (round(width), round(width / ASPECT), 1, round(width * 8 / 3), 32000)
    return _of(dict(zip(KEYS, shape, strict=True)), "name" if match else "guess")


def _read(path: Path) -> Size | None:
    """What a config.json says; where it leaves out a key, what transformers takes for it; None if neither is enough."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        config = config.get("text_config", config)
        if not all(config.get(key) for key in KEYS):
            from transformers import AutoConfig  # not above: it takes seconds

            whole = AutoConfig.from_pretrained(path.parent).get_text_config()
            config = {key: getattr(whole, key, None) for key in (*KEYS, "head_dim", "num_key_value_heads")}
        return _of(config, "config.json" if all(config.get(key) for key in KEYS) else "part")
    except Exception:  # whatever is written there
        return None


def _of(config: dict, origin: str) -> Size:
    width, layers, heads = config["hidden_size"], config["num_hidden_layers"], config["num_attention_heads"] or 1
    inner = config["intermediate_size"] or 4 * width  # as GPT-2 has it
    head = config.get("head_dim") or width // heads
    queries, keys = head * heads, head * (config.get("num_key_value_heads") or heads)
    shapes = {"q_proj": (width, queries), "k_proj": (width, keys), "v_proj": (width, keys), "o_proj": (queries, width)}
    shapes |= {"gate_proj": (width, inner), "up_proj": (width, inner), "down_proj": (inner, width)}
    blocks = layers * sum(a * b for a, b in shapes.values())
    sides = {name: sum(shape) for name, shape in shapes.items()}
    return Size(layers, width, sides, blocks, width * config["vocab_size"], origin)


def _config(source: str) -> Path | None:
    """Of a local folder, of an asset or a tiny model in the cache, or of the hub's own cache."""
    here = Path(source).expanduser() / "config.json"
    if here.is_file():
        return here
    return hub.config(source) if "/" in source else next(cache.root().glob(f"{source}-????????/config.json"), None)
