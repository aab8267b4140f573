# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The figure and its claims
#
# The report began with a description, in words, of one figure about Mistral and LLaMA-2. The figure has two heatmaps,
# "Probe" and "LoRA + Prompt", with *Model* on one axis and *Trained On* on the other. It is the figure on transfer
# between models in
#
# > Sanyam Kapoor and others, *Large Language Models Must Be Taught to Know What They Don't Know*, NeurIPS 2024,
# > [arXiv 2406.08391](https://arxiv.org/abs/2406.08391).
#
# These are the values that the description reads off the figure.

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
from whoknows.report.pages import claims, heatmaps

figure, released = claims.figure(), claims.released()
heatmaps.heatmaps_chart(figure, claims.MODELS, "figure")

# %% tags=["remove-input"]
HTML(heatmaps.heatmaps_html(figure, claims.MODELS))

# %% [markdown]
# ## What the description claims
#
# Each claim is tested three times: on the description's own values, on the results that the paper's authors released,
# and on the cells measured here.

# %% tags=["remove-input"]
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
# Bars are 95 % bootstrap intervals over questions. The dashed line is zero. The dotted line is half a step of the
# figure, which could not show a smaller difference. A claim fails where a difference is significantly below the dotted
# line. It holds where all are significantly above the dashed line and none fails. The differences measured here are the
# *primary hypotheses* of the run. Holm's method corrects their p-values for all of them in both readings, and they are
# the same on every page. A difference is inconclusive where a cell was still improving when its training ended.
#
# Differences have the figure's names. The table beneath says which cells each difference compares. Which model reads,
# which is trained on and which is scored depends on reading A or B. The description and the released results have no
# intervals, so there the values alone decide.

# %% tags=["remove-input"]
claims.contrasts_chart(table)

# %% tags=["remove-input"]
HTML(claims.contrasts_html(table))

# %% tags=["remove-input"]
Markdown(claims.claims_sentences(stated, table, verdicts))

# %% [markdown]
# ## The results that the paper's authors released
#
# The same cells, computed from the authors' results on each task of open-ended MMLU. Values are means over its
# subjects, in both readings. The two probes that were trained on the other model's answers are exactly one half on most
# or all subjects. A run that never loaded what it was meant to test gives such values. They are not a finding, so these
# cells are shown as missing.

# %% tags=["remove-input"]
heatmaps.heatmaps_chart(released, claims.MODELS, "released")

# %% tags=["remove-input"]
HTML(heatmaps.heatmaps_html(released, claims.MODELS))
