# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # LoRA + Prompt
#
# A reader fine-tuned, with low-rank adapters, to say whether one model's answers are correct, and scored on the test
# answers of all. Needs the answers and, where `first_layer` is above zero, the `features` that extract wrote.
#
# It also runs as a control, with one of these settings:
#
# - `query` false: a classifier replaces the question whether the answer is correct.
# - `js_weight`: another weight of the penalty.
# - `without`: the name of a task that is not trained on, and is scored alone.
# - `trained_on` "all models": training on the answers of all models together.
#
# With the `name` and the `digest` of an adapter that others have `released`, nothing is trained, and that adapter
# scores.

# %% tags=["parameters"]
reader = "SmolLM2-135M"
source = "smollm2-135m-instruct"
trained_on = "SmolLM2-135M"
seed = 0
answers = {
    "SmolLM2-135M": "results/embedded/answers/SmolLM2-135M.parquet",
    "Gemma3-270M": "results/embedded/answers/Gemma3-270M.parquet",
}
features = None
settings = {
    "first_layer": 0,
    "r": 8,
    "alpha": 32,
    "dropout": 0.0,
    "targets": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "learning_rate": 5e-4,
    "batch_size": 8,
    "epochs": 8,
    "evaluations": 16,
    "patience": 10,
    "wrong_per_right": None,
    "js_weight": 0.0,
}
method = "lora_prompt"
query = True
without = None
released = None
precision = "auto"
template = None
digest = None
batch_tokens = 2048
out = "results/by-hand/estimators/lora_prompt/SmolLM2-135M/SmolLM2-135M/seed0"
rows_out = "results/by-hand/rows/lora_prompt/SmolLM2-135M/SmolLM2-135M/seed0.parquet"

# %%
from IPython.display import HTML, Markdown

from whoknows.evaluation import auroc, plateau
from whoknows.report.pages import cell
from whoknows.stages import lora_prompt
from whoknows.use import cards

model = {"reader": reader, "source": source, "precision": precision, "template": template, "digest": digest}
data = {"trained_on": trained_on, "answers": answers, "features": features, "without": without}
training = {"settings": settings, "seed": seed, "method": method, "query": query, "batch_tokens": batch_tokens}
history, rows = lora_prompt.cell(**model, **data, **training, released=released, out=out, rows_out=rows_out)
cards.write(out, rows)

# %% [markdown]
# Loss on the training answers and AUROC on the validation answers while training. The adapters with the best
# validation AUROC are the ones that are used.

# %%
cell.training_curve(history) if history else Markdown(plateau.elsewhere(out, rows))

# %% [markdown]
# AUROC on the test answers of each scored model.

# %%
HTML(auroc.html(rows))
