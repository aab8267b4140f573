# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Results
#
# The differences between the cells of the heatmaps, each with its interval. Whether two cells differ significantly does
# not depend on whether their intervals overlap. It depends on their difference in each resample of questions, on the
# same answers. Where a cell was still improving when its training ended, the difference has no verdict.
#
# Only the *primary hypotheses* have a verdict, by a p-value that is corrected for all of them. They are the differences
# that the description of the figure is about. Every other difference is *exploratory*, with its interval and its
# uncorrected p-value. A difference that is in both readings, or is another one with its sign reversed, is listed once.

# %% tags=["parameters"]
# Needs the rows and the estimators' cards.
rows = "results/embedded/rows"
estimators = "results/embedded/estimators"
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
out = "results/by-hand/differences.parquet"

# %% tags=["remove-input"]
from IPython.display import HTML, Markdown

from whoknows.data import files
from whoknows.evaluation import cells, plateau
from whoknows.report.pages import differences

examples = plateau.mark(cells.read_rows(rows, models, methods, seeds), estimators)
table = differences.of_grid(examples, readers, tasks)
files.write_parquet(out, table)
Markdown(differences.differences_sentences(table) + plateau.elsewhere(estimators, examples))

# %% tags=["remove-input"]
differences.differences_chart(table)

# %% tags=["remove-input"]
HTML(differences.differences_html(table))
