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
# Its own answers, or another model's? Language models answered real questions, and each answer was graded. Estimators
# of confidence were then trained on the grades. A **probe** is a classifier on a model's hidden states.
# **LoRA + Prompt** is the model itself, fine-tuned to say whether an answer is correct.

# %% tags=["parameters"]
# Needs all rows and answers, and the estimators' cards; no language model is loaded.
rows = "results/embedded/rows"
more_rows = "results/embedded/controls"
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
answers = {
    "SmolLM2-135M": "results/embedded/answers/SmolLM2-135M.parquet",
    "Gemma3-270M": "results/embedded/answers/Gemma3-270M.parquet",
}
links = True
out = "results/by-hand/scores.parquet"

# %% tags=["remove-input"]
from IPython.display import HTML, Markdown

from whoknows.data import files
from whoknows.evaluation import bootstrap, cells, plateau, scores
from whoknows.report.pages import claims, gains, heatmaps, landing

examples = plateau.mark(cells.read_with_baselines(rows, more_rows, models, methods, seeds), estimators)
by_task, samples = scores.by_task(examples), bootstrap.samples(examples)
measured = cells.measure(examples, by_task, tasks, samples)
primary = claims.corrected(examples, measured, samples, readers, tasks)
shown = cells.enough(measured)
table = cells.heatmap_table(shown, models, tasks, readers, methods)
files.write_parquet(out, table)
baseline = landing.best_untrained(examples, readers, tasks)
paired = gains.paired(examples, tasks, models, readers, baseline)
compared = landing.comparisons(examples, measured, samples, paired, primary, readers, tasks)
Markdown(landing.answer(compared, baseline, landing.chance(table)))

# %% tags=["remove-input"]
HTML(landing.box_html(examples, estimators, models, readers, tasks))

# %% tags=["remove-input"]
untrained = heatmaps.untrained(table, shown, baseline)
heatmaps.heatmaps_chart(table, models, "whoknows-heatmaps", links, untrained)

# %% tags=["remove-input"]
HTML(landing.caption_html(table, baseline, links))

# %% tags=["remove-input"]
Markdown(heatmaps.heatmaps_sentences(table, primary, links) + plateau.elsewhere(estimators, examples))

# %% [markdown]
# For other tasks, answer lengths or metrics, or only the disagreements, [Recompute](run/recompute.ipynb) draws the
# heatmaps anew in your browser. Its address holds what you chose, so you can send it.

# %% tags=["remove-input"]
HTML(landing.schematic_html(readers, models))

# %% tags=["remove-input"]
gained = gains.of_cells(*paired, tasks, models, readers, compared)
gains.gains_chart(gained, baseline)

# %% tags=["remove-input"]
HTML(gains.caption_html(gained, baseline))

# %% [markdown]
# ## Graded answers, and the confidence in each

# %% tags=["remove-input"]
HTML(landing.examples_html(landing.examples(examples, answers, readers, tasks, baseline)))

# %% [markdown]
# ## The paper's figure and this one
#
# This report repeats the figure on transfer between models of *Large Language Models Must Be Taught to Know What They
# Don't Know* (NeurIPS 2024, [arXiv 2406.08391](https://arxiv.org/abs/2406.08391)). [What is claimed of that
# figure](run/claims.ipynb) is tested sentence by sentence.

# %% tags=["remove-input"]
HTML(landing.figures_html(table, models, tasks))

# %% [markdown]
# ## The numbers
#
# A value on several tasks is the mean within task: an estimator that knows only which task is harder gets one half.
# Further pages: [how to read the heatmaps](book/reading.md), [which differences are
# significant](run/differences.ipynb), [what simpler methods reach](run/controls.ipynb), [how far the estimators carry
# to other tasks](run/shift.ipynb) and [what confidence is good for](run/worth.ipynb).

# %% tags=["remove-input"]
HTML(heatmaps.heatmaps_html(table, models, links, untrained))

# %% tags=["remove-input"]
HTML(gains.gains_html(gained, baseline))

# %% tags=["remove-input"]
HTML(heatmaps.html(examples, estimators, readers))
