# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Surface controls
#
# What can be said of an answer without a look into a language model. This is its task, its length, how sure the model
# was of its tokens, and a sentence embedding of question and answer. Needs the answers of all models.

# %% tags=["parameters"]
answers = {
    "SmolLM2-135M": "results/embedded/answers/SmolLM2-135M.parquet",
    "Gemma3-270M": "results/embedded/answers/Gemma3-270M.parquet",
}
seeds = [0]
strengths = [0.01, 0.1, 1.0]
embedder = "all-minilm-l6-v2"
digest = None
batch_tokens = 2048
out = "results/by-hand/controls/surface.parquet"

# %%
from IPython.display import HTML

from whoknows.data import files
from whoknows.evaluation import auroc
from whoknows.stages import ablations, trainable

frames = {scored: files.read_parquet(path) for scored, path in answers.items()}
rows = ablations.without_reader(frames, seeds, strengths, embedder, batch_tokens, digest)
files.write_parquet(out, rows)

# %% [markdown]
# AUROC on the test answers of each model, for each model that they were trained on.

# %%
HTML(trainable.untrainable_html(frames, seeds) + auroc.html(rows))
