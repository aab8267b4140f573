# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Probe
#
# Classifiers on a reader's hidden states, trained on one model's graded answers and scored on the test answers of all.
# Needs the answers and the reader's hidden states; no language model is loaded. `source` and `precision` are written
# down with the estimators, which need the reader again when they are used.

# %% tags=["parameters"]
reader = "SmolLM2-135M"
source = "smollm2-135m-instruct"
trained_on = "SmolLM2-135M"
seed = 0
answers = {
    "SmolLM2-135M": "results/embedded/answers/SmolLM2-135M.parquet",
    "Gemma3-270M": "results/embedded/answers/Gemma3-270M.parquet",
}
features = "results/embedded/features/SmolLM2-135M"
layers = "all"
strengths = [0.001, 0.01, 0.1, 1.0, 10.0]
mlp = {"hidden": [256, 128, 64], "learning_rate": 1e-4, "epochs": 100, "batch_size": 32, "patience": 10}
precision = "auto"
template = None
digest = None
out = "results/by-hand/estimators/probe/SmolLM2-135M/SmolLM2-135M/seed0"
rows_out = "results/by-hand/rows/probe/SmolLM2-135M/SmolLM2-135M/seed0.parquet"

# %%
from IPython.display import HTML, Markdown

from whoknows.data import files
from whoknows.evaluation import auroc, plateau
from whoknows.report.pages import cell
from whoknows.stages import probe
from whoknows.use import cards

frames = {scored: files.read_parquet(path) for scored, path in answers.items()}
used = {"source": source, "precision": precision, "template": template, "digest": digest}
rows, search = probe.run(reader, trained_on, seed, frames, features, layers, strengths, mlp, out, **used)
files.write_parquet(rows_out, rows)
cards.write(out, rows)

# %% [markdown]
# AUROC on validation for every layer and every strength of the L2 penalty. The best point is the probe that is used.

# %%
Markdown(plateau.elsewhere(out, rows)) if rows.empty else cell.layer_curve(search)

# %% [markdown]
# AUROC on the test answers of each scored model.

# %%
HTML(auroc.html(rows))
