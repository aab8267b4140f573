"""How large a language model is, without loading it: from its config.json where that is on this machine, else from its name."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from whoknows import cache
from whoknows.wording import CHAT

UNITS = {"m": 1e6, "b": 1e9}
UNKNOWN = 7e9  # parameters of a model whose files are not here and whose name has no number
ASPECT = 128  # width over layers of most models; with 12 weights a layer for each square of the width


@dataclass(frozen=True)
class Size:
    """A decoder's dimensions.

    Attributes:
        sides: for each linear module of a block, its inputs and outputs together.
        blocks: weights of all blocks.
        head: weights of the output head.
        origin: what says so: `config.json`, `name` or `guess`.
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
    if config:
        return _of(json.loads(config.read_text()), "config.json")
    found = re.search(r"(\d+(?:\.\d+)?)([mb])(?![a-z])", source.lower())
    parameters = float(found[1]) * UNITS[found[2]] if found else UNKNOWN
    width = (parameters * ASPECT / 12) ** (1 / 3)
    shape = {"hidden_size": round(width), "num_hidden_layers": round(width / ASPECT), "num_attention_heads": 1, "intermediate_size": round(width * 8 / 3), "vocab_size": 32000}
    return _of(shape, "name" if found else "guess")


def _of(config: dict, origin: str) -> Size:
    config = config.get("text_config", config)
    width, layers, heads, inner = (config[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"))
    head = config.get("head_dim") or width // heads
    queries, keys = head * heads, head * config.get("num_key_value_heads", heads)
    shapes = {"q_proj": (width, queries), "k_proj": (width, keys), "v_proj": (width, keys), "o_proj": (queries, width)}
    shapes |= {"gate_proj": (width, inner), "up_proj": (width, inner), "down_proj": (inner, width)}
    blocks = layers * sum(a * b for a, b in shapes.values())
    return Size(layers, width, {name: sum(shape) for name, shape in shapes.items()}, blocks, width * config["vocab_size"], origin)


def _config(source: str) -> Path | None:
    """Of a local folder, of an asset or a tiny model in the cache, or of the hub's own cache."""
    here = Path(source).expanduser() / "config.json"
    if here.is_file():
        return here
    if "/" not in source:
        return next(cache.root().glob(f"{source}-????????/config.json"), None)
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(source, "config.json")
    except HFValidationError:  # it is written as a path
        return None
    return Path(found) if isinstance(found, str) else None
