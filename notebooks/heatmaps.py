# %% [markdown]
# # Can a language model tell when an answer is wrong?
#
# Its own answers, or another model's. Each cell is an AUROC: the chance that the estimator is surer of a
# right answer than of a wrong one. Beneath it stand its 95 % bootstrap interval over questions and the number of right
# answers that it rests on; a hatched cell was not measured, and says why when pointed at.

# %% tags=["parameters"]
rows = "results/embedded/rows"
models = ["SmolLM2-135M", "Gemma3-270M"]
methods = ["probe", "lora_prompt"]
seeds = [0]
tasks = [
    {"name": "trivia_qa", "size": 1600, "role": "train"},
    {"name": "sciq", "size": 900, "role": "train"},
    {"name": "nq_open", "size": 1700, "role": "shift"},
]
out = "results/embedded/scores.parquet"

# %% tags=["remove-input"]
from IPython.display import HTML, Markdown

from whoknows import cells, charts, files, findings, published, scores, tables

examples = cells.read_rows(rows, models, methods, seeds)
by_task = scores.by_task(examples)
files.write_parquet(out, by_task)
measured = cells.measure(examples, by_task, tasks)
table = cells.heatmap_table(measured, models, tasks)
charts.heatmaps(table, models, "whoknows-heatmaps")

# %% tags=["remove-input"]
HTML(tables.heatmaps(table, models))

# %% tags=["remove-input"]
Markdown(findings.heatmap_findings(table))

# %% [markdown]
# In-distribution values are means within task: an estimator that knows only which task is harder gets one
# half. How to read the two axes is told in [How to read the heatmaps](book/reading.md).
#
# ## Methods that nobody trained
#
# The same answers, judged by how likely the model found what it wrote, and by asking a model without any
# training whether the answer is right.

# %% tags=["remove-input"]
baselines = cells.baseline_table(measured)
HTML(tables.baselines(baselines))

# %% tags=["remove-input"]
Markdown(findings.baseline_findings(table, baselines))

# %% [markdown]
# ## The figure that this repeats
#
# The values that its description reads off the figure of Kapoor et al., "Large Language Models Must Be
# Taught to Know What They Don't Know" (NeurIPS 2024), for LLaMA-2 and Mistral.

# %% tags=["remove-input"]
figure = published.figure()
charts.heatmaps(figure, published.MODELS, "figure")

# %% tags=["remove-input"]
HTML(tables.heatmaps(figure, published.MODELS))

# %% [markdown]
# ## The results that its authors released
#
# The same cells from their per-task results on open-ended MMLU, macro means over its subjects. Hatched
# cells come from runs that broke: on most subjects their value is exactly one half.

# %% tags=["remove-input"]
released = published.released()
charts.heatmaps(released, published.MODELS, "released")

# %% tags=["remove-input"]
HTML(tables.heatmaps(released, published.MODELS))
