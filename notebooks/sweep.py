# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Sweep
#
# The probe of one reader at every layer, strength of its penalty and number of training answers. The switches of the
# page *Baselines and ablations* show it. On the reader's own answers it is also fitted at every token position, for the
# heatmap there. Needs the answers and the reader's hidden states; no language model is loaded.

# %% tags=["parameters"]
reader = "SmolLM2-135M"
answers = {
    "SmolLM2-135M": "results/embedded/answers/SmolLM2-135M.parquet",
    "Gemma3-270M": "results/embedded/answers/Gemma3-270M.parquet",
}
features = "results/embedded/features/SmolLM2-135M"
seed = 0
strengths = [0.001, 0.01, 0.1, 1.0, 10.0]
sizes = [100, 200, 400]
positions = ["question", "first", "mean", "last"]
out = "results/by-hand/sweeps/SmolLM2-135M.parquet"

# %%
from IPython.display import HTML

from whoknows.data import files
from whoknows.stages import sweep, trainable

frames = {scored: files.read_parquet(path) for scored, path in answers.items()}
table = sweep.run(reader, frames, seed, features, strengths, sizes, positions)
files.write_parquet(out, table)
HTML(trainable.untrainable_html(frames, [seed]))

# %% [markdown]
# The highest AUROC on validation of each layer over the strengths, by token position and number of training answers.

# %%
table.pivot_table("validation_auroc", "layer", ["trained_on", "position", "size"], aggfunc="max").round(3)
