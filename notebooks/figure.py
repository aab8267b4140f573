# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The figure that this repeats
#
# The report began with a description, in words, of one figure: two heatmaps, "Probe" and "LoRA + Prompt", *Model* on
# one axis and *Trained On* on the other, for Mistral and LLaMA-2. It is the figure on transfer between models in
#
# > Sanyam Kapoor and others, *Large Language Models Must Be Taught to Know What They Don't Know*, NeurIPS 2024,
# > [arXiv 2406.08391](https://arxiv.org/abs/2406.08391).
#
# These are the values which that description reads off it. Its sentences are tested on this list of values, on the
# released results, and on what was measured here, on the page Claims.

# %% tags=["parameters"]
# Needs no run: all of it lies in the repository.
out = "results/by-hand/published.parquet"

# %% tags=["remove-input"]
import pandas as pd
from IPython.display import HTML

from whoknows.data import files
from whoknows.report.pages import claims, heatmaps

figure, released = claims.figure(), claims.released()
files.write_parquet(out, pd.concat([figure.assign(source="figure"), released.assign(source="released")]))
heatmaps.heatmaps_chart(figure, claims.MODELS, "figure")

# %% tags=["remove-input"]
HTML(heatmaps.heatmaps_html(figure, claims.MODELS))

# %% [markdown]
# ## The results that its authors released
#
# The same cells from their per-task results on open-ended MMLU, macro means over its subjects, in both readings. Two of
# them, the probes that were trained on the other model's answers, are exactly one half on most subjects or on all of
# them. A run that never loaded what it was to test gives such values; they are not a finding, and those cells are shown
# as missing.

# %% tags=["remove-input"]
heatmaps.heatmaps_chart(released, claims.MODELS, "released")

# %% tags=["remove-input"]
HTML(heatmaps.heatmaps_html(released, claims.MODELS))
