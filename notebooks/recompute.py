# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Recompute
#
# Choose the questions, and the heatmaps, their intervals and the calibration are computed anew from the rows, here in
# the page. The address holds what you chose, so a link shows the same.

# %% tags=["parameters"]
# Needs the rows, the estimators' cards and the answers.
rows = "results/embedded/rows"
estimators = "results/embedded/estimators"
answers = {
    "SmolLM2-135M": "results/embedded/answers/SmolLM2-135M.parquet",
    "Gemma3-270M": "results/embedded/answers/Gemma3-270M.parquet",
}
models = ["SmolLM2-135M", "Gemma3-270M"]
readers = ["SmolLM2-135M", "Gemma3-270M"]
methods = ["probe", "lora_prompt"]
seeds = [0]
tasks = [
    {"name": "common_knowledge", "size": 1000, "role": "train"},
    {"name": "cities", "size": 1300, "role": "train"},
    {"name": "sciq", "size": 320, "role": "shift"},
    {"name": "capitals", "size": 200, "role": "shift"},
]
out = "results/by-hand/recompute.parquet"

# %% tags=["remove-input"]
from IPython.display import HTML

from whoknows.data import files
from whoknows.evaluation import cells, plateau
from whoknows.report.pages import recompute

examples = plateau.mark(cells.read_rows(rows, models, methods, seeds), estimators)
table = recompute.answer_table(examples, answers)
files.write_parquet(out, table)
HTML(recompute.html(examples, table, models, readers, tasks))

# %% [markdown]
# Values are means within task over the chosen tasks, and over seeds. Intervals are from resamples of the chosen
# questions; the calibration errors have none. [Method](../book/method.md) defines all metrics. The reliability diagram
# is of all chosen answers together, in ten bins of equal width. It has 95 % intervals of a share (Wilson, 1927), of as
# many answers as a bin has in the mean over seeds. ECE is of the same bins, as a mean within task. Thresholds and Platt
# scaling stay those of the run, fitted on validation answers.
#
# Press a cell to see it in full beneath. A hatched cell has no value, and says why when pressed. A cell with ↗ was
# *still improving* when its training ended.
#
# A choice that was made after looking at its result proves nothing: among many choices, some values are high by chance.
# Everything here is exploratory; the page [Results](differences.ipynb) has the declared hypotheses.
