# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Probe controls
#
# The probe of one reader with something changed. It has the last layer alone, shuffled grades, few training answers,
# one task left out, or one task alone. Or it reads the mean hidden state over the answer in place of that at its last
# token. Or it is trained on the answers of all models together. Needs the answers and the reader's hidden states; no
# language model is loaded.

# %% tags=["parameters"]
reader = "SmolLM2-135M"
answers = {
    "SmolLM2-135M": "results/embedded/answers/SmolLM2-135M.parquet",
    "Gemma3-270M": "results/embedded/answers/Gemma3-270M.parquet",
}
features = "results/embedded/features/SmolLM2-135M"
seeds = [0]
strengths = [0.01, 0.1, 1.0]
sizes = [100, 200, 400]
out = "results/by-hand/controls/readers/SmolLM2-135M.parquet"

# %%
from IPython.display import HTML

from whoknows.data import files
from whoknows.evaluation import auroc
from whoknows.stages import ablations, trainable

frames = {scored: files.read_parquet(path) for scored, path in answers.items()}
rows = ablations.of_reader(reader, frames, seeds, features, strengths, sizes)
files.write_parquet(out, rows)

# %% [markdown]
# AUROC on the test answers of each model, for each model that they were trained on.

# %%
HTML(trainable.untrainable_html(frames, seeds) + auroc.html(rows))
