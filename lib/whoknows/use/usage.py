"""How an estimator is used, as its README shows it: by this library, and in some lines of Python without it."""

import json
from pathlib import Path
from string import Template

from whoknows.data import assets
from whoknows.data.prompts import CHAT
from whoknows.models.loading import QUANTISED

SECTION = Template("""## How to use it

```sh
whoknows score --estimator OWNER/NAME --input answers.jsonl
```

OWNER/NAME is this repository, or a folder with its files. A line of the input is an object with `question` and `answer`.$other""")
ALONE = Template("""

In Python without whoknows, among the files of this folder:

```python
$code
```""")
READER = """from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained($source)
model = AutoModelForCausalLM.from_pretrained($source, dtype="$precision")
"""
TEXT = r"""text = "Question: Which gas do plants take in?\nAnswer: carbon dioxide"
"""
ADAPTERS = """model = PeftModel.from_pretrained(model, ".")
"""
PROBE = f"""import numpy as np
from safetensors.numpy import load_file
{READER}{TEXT}tokens = tokenizer(text, return_tensors="pt")
hidden = model(**tokens, output_hidden_states=True).hidden_states[$layer][0, -1].detach().float().numpy()

probe = load_file("probe.safetensors")
logit = (hidden - probe["mean"]) / probe["scale"] @ probe["weights"][:-1] + probe["weights"][-1]
p_correct = 1 / (1 + np.exp(-logit))"""
LORA_PROMPT = rf"""from peft import PeftModel
{READER}{ADAPTERS}{TEXT}text += "\n\nIs the proposed answer correct?\nChoices:\n(i): no\n(ii): yes\nAnswer:"
logits = model(**tokenizer(text, return_tensors="pt")).logits[0, -1].float()
no, yes = (tokenizer(choice, add_special_tokens=False).input_ids[-1] for choice in ("a i", "a ii"))
p_correct = (logits[yes] - logits[no]).sigmoid().item()"""
LORA = f"""from peft import PeftModel
from safetensors.torch import load_file
from torch.nn.functional import layer_norm
{READER}{ADAPTERS}{TEXT}tokens = tokenizer(text, return_tensors="pt")
hidden = model(**tokens, output_hidden_states=True).hidden_states[-1][0, -1].float()
classifier = load_file("classifier.safetensors")
logit = layer_norm(hidden, hidden.shape) @ classifier["weight"][0] + classifier["bias"][0]
p_correct = logit.sigmoid().item()"""


def section(found: dict[str, dict]) -> str:
    """The part of a README on the use of its folder's estimators, as Markdown.

    Args:
        found: their cards, by method.
    """
    first, *others = found
    other = "".join(f" `--method {method}` takes the other one of this folder." for method in others)
    # The words of a chat's template are the library's to put together.
    alone = "" if found[first]["source"].startswith(CHAT) else ALONE.substitute(code=python(found[first]))
    return SECTION.substitute(other=other) + alone


def python(card: dict) -> str:
    """Python that asks an estimator about one answer, with the files of its folder and nothing of this library."""
    source = assets.base(card["source"])
    commit = f', revision="{card["digest"]}"' if card.get("digest") and assets.on_hub(card["source"]) else ""
    values = {
        "source": json.dumps(source if assets.on_hub(source) else Path(source).name) + commit,
        "precision": "bfloat16" if card["precision"] in ("bfloat16", *QUANTISED) else "float32",
        "layer": card.get("chosen", {}).get("layer"),
    }
    code = PROBE if "query" not in card else LORA_PROMPT if card["query"] else LORA
    return Template(code).substitute(values)
