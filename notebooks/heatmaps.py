# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Can a language model tell when an answer is wrong?
#
# Its own answers, or another model's? Language models answered real questions, each answer was graded, and estimators
# of confidence were trained on the grades: a **probe** on a model's hidden states, and **LoRA + Prompt**, the model
# fine-tuned to say whether an answer is correct. Each cell is an AUROC: the chance that the estimator assigns
# higher confidence to a right answer than to a wrong one.

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
links = True
out = "results/by-hand/scores.parquet"

# %% tags=["remove-input"]
from IPython.display import HTML, Markdown

from whoknows.data import files
from whoknows.evaluation import bootstrap, cells, plateau, scores
from whoknows.report.pages import claims, heatmaps

examples = plateau.mark(cells.read_rows(rows, models, methods, seeds), estimators)
by_task, samples = scores.by_task(examples), bootstrap.samples(examples)
measured = cells.measure(examples, by_task, tasks, samples)
primary = claims.corrected(by_task, measured, samples, readers, tasks)
shown = cells.enough(measured)
table = cells.heatmap_table(shown, models, tasks, readers)
files.write_parquet(out, table)
sentences = heatmaps.heatmaps_sentences(table, cells.baseline_table(shown), primary)
Markdown(sentences + plateau.elsewhere(estimators, examples))

# %% tags=["remove-input"]
heatmaps.heatmaps_chart(table, models, "whoknows-heatmaps", links)

# %% tags=["remove-input"]
HTML(heatmaps.html(examples, estimators, readers))

# %% tags=["remove-input"]
HTML(heatmaps.heatmaps_html(table, models, links))

# %% [markdown]
# Beneath a cell's value stand its 95 % bootstrap interval over questions and the number of right answers that it rests
# on. Point at a cell for more; press it, or Enter on it, for the page of its estimator, which says who reads, is
# trained on and is scored. A hatched cell has no value, and says why. One with ↗ was *still improving* when its
# training ended, as its page says: no conclusion rests on it.
#
# In-distribution values are means within task: an estimator that knows only which task is harder gets one half. More on
# [how to read the heatmaps](book/reading.md), [which differences are significant](run/differences.ipynb), [what a
# simpler explanation would reach](run/controls.ipynb) and [how far the estimators carry](run/shift.ipynb).
