# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Search
#
# LoRA + Prompt of one reader on its own answers, at several learning rates and with fewer training answers, and the
# probe beside it. All values are measured on validation answers, and none on test answers. Needs the answers and the
# reader's hidden states.

# %% tags=["parameters"]
reader = "SmolLM2-135M"
source = "smollm2-135m-instruct"
answers = {
    "SmolLM2-135M": "results/embedded/answers/SmolLM2-135M.parquet",
    "Gemma3-270M": "results/embedded/answers/Gemma3-270M.parquet",
}
seed = 0
features = "results/embedded/features/SmolLM2-135M"
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
learning_rates = [1e-4, 1.5e-4, 2e-4, 5e-4, 1e-3]
sizes = [200, 400]
layers = "all"
strengths = [0.001, 0.01, 0.1, 1.0, 10.0]
precision = "auto"
template = None
digest = None
batch_tokens = 2048
out = "results/by-hand/search/SmolLM2-135M.parquet"

# %%
from IPython.display import Markdown

from whoknows.report.pages.settings import search_curve
from whoknows.stages import search

table = search.cell(
    reader=reader,
    source=source,
    answers=answers,
    seed=seed,
    features=features,
    settings=settings,
    learning_rates=learning_rates,
    sizes=sizes,
    layers=layers,
    strengths=strengths,
    precision=precision,
    template=template,
    digest=digest,
    batch_tokens=batch_tokens,
    out=out,
)

# %% [markdown]
# AUROC on validation against the seconds spent in training, with all training answers. Each learning rate has a line,
# and that of the grid is the thickest. The probe is a point.

# %%
Markdown("Nothing can be learned from its own answers.") if table.empty else search_curve(table)

# %% [markdown]
# The highest AUROC on validation by learning rate and number of training answers.

# %%
best = table.groupby(["learning_rate", "training_answers"], dropna=False)["validation_auroc"].max().unstack()
best.index = ["the probe" if rate != rate else f"learning rate {rate:g}" for rate in best.index]
best.rename_axis(columns="training answers").round(3).astype(object).fillna("not tried")
