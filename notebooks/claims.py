# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Claims
#
# What the description of the figure says, tested on its own numbers, on the results that the paper's authors released,
# and on the cells measured here.

# %% tags=["parameters"]
# Needs the rows and the cards of all estimators; no language model is loaded.
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
out = "results/by-hand/contrasts.parquet"

# %% tags=["remove-input"]
from IPython.display import HTML, Markdown

from whoknows.data import files
from whoknows.evaluation import cells, plateau
from whoknows.report.pages import claims

examples = plateau.mark(cells.read_rows(rows, models, methods, seeds), estimators)
stated = claims.load()
table, players = claims.evaluate(stated, examples, readers, tasks)
files.write_parquet(out, table)
verdicts = claims.verdicts(table)
Markdown(claims.summary_sentences(verdicts, players, table) + plateau.elsewhere(estimators, examples))

# %% tags=["remove-input"]
HTML(claims.verdicts_html(verdicts))

# %% [markdown]
# ## Every claim as differences between cells
#
# Bars are 95 % bootstrap intervals over questions. The dashed line is zero; the dotted one is half a step of the
# figure, which could not show a smaller difference. A claim fails where a difference is significantly below the dotted
# line, and holds where all are significantly above the dashed one and none fails. What was measured here are the
# *primary hypotheses* of the run: p-values are corrected for all of them in both readings (Holm), and a difference is
# inconclusive where a cell was still improving when its training ended. *Differences*, *Controls* and the first page
# have the same p-values. Differences have the figure's names; the table beneath says which cells each compares, and so
# who reads, is trained on and is scored, which depends on the reading. The description and the released results come
# without intervals, so there the values alone decide.

# %% tags=["remove-input"]
claims.contrasts_chart(table)

# %% tags=["remove-input"]
HTML(claims.contrasts_html(table))

# %% tags=["remove-input"]
Markdown(claims.claims_sentences(stated, table, verdicts))
