# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Layers
#
# What a probe reaches at another layer, with a stronger penalty, with fewer training answers. Turn the switches: the
# heatmap and both curves follow; they open on what validation chooses, as the report's probe does.

# %% tags=["parameters"]
# Needs the sweep of every reader.
models = ["SmolLM2-135M", "Gemma3-270M"]
readers = ["SmolLM2-135M", "Gemma3-270M"]
sweeps = "results/embedded/sweeps"
out = "results/by-hand/sweep.parquet"

# %% tags=["remove-input"]
from IPython.display import HTML

from whoknows.data import files
from whoknows.report.pages import layers

table = layers.read(sweeps, models, readers)
files.write_parquet(out, table)
layers.layers_chart(table, models)

# %% tags=["remove-input"]
HTML(layers.layers_html(table))

# %% [markdown]
# The values are AUROC within task on test answers of the tasks that were trained on, with the first seed. They are here
# to look at. Picking the best of them would be selection on test answers; the probes of this report choose layer and
# strength on validation answers, whose AUROC stands in the tooltip and in the table.
