# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Settings
#
# How the learning rate of LoRA + Prompt was found, for each reader on its own answers, and what each training cost.
# Every value on this page is AUROC within task on validation answers; no test answer was used.

# %% tags=["parameters"]
# Needs the search of every reader.
models = ["SmolLM2-135M", "Gemma3-270M"]
search = "results/embedded/search"
out = "results/by-hand/settings.parquet"

# %% tags=["remove-input"]
from IPython.display import HTML, Markdown

from whoknows.data import files
from whoknows.report.pages import settings

table = settings.read(search, models)
files.write_parquet(out, table)
Markdown(settings.preferred(table, models))

# %% tags=["remove-input"]
settings.search_curve(table)

# %% [markdown]
# A line for each learning rate, with all training answers; that of the grid is the thickest. The point is the probe:
# the fit of every layer and strength. Seconds are those of training alone, by the clock, on a logarithmic scale; other
# work on the machine adds to them. They do not include looks at validation, nor reading the hidden states. A probe
# needs hidden states, and LoRA in every block does not.

# %% tags=["remove-input"]
settings.sizes_chart(table)

# %% [markdown]
# Both methods with fewer training answers, the same for both, at the grid's settings. LoRA + Prompt may leave out some
# of the wrong ones, as `wrong_per_right` says.

# %% tags=["remove-input"]
HTML(settings.html(table))

# %% [markdown]
# Seconds are those of the whole training. The epoch is that of the best look at validation, whose adapters would be
# used. If it is the last one, training was perhaps too short.
