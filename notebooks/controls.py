# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Controls
#
# Baselines and ablations: what is reached with no training, with no language model that reads, and with shuffled
# grades. Each model scores its own answers here, with estimators that were trained on its own answers; the answers of a
# model that reads nothing are read by the grid's first reader.

# %% tags=["parameters"]
# Needs the rows of all stages.
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
out = "results/by-hand/controls.parquet"

# %% tags=["remove-input"]
import pandas as pd
from IPython.display import HTML, Markdown

from whoknows.data import files
from whoknows.evaluation import cells, plateau, scores
from whoknows.report.pages import controls

folders = (rows, more_rows)
examples = plateau.mark(pd.concat([cells.read_rows(folder, models, methods, seeds) for folder in folders]), estimators)
table = controls.contest(examples, readers, tasks)
files.write_parquet(out, table)
Markdown(controls.contest_sentences(table) + plateau.elsewhere(estimators, examples))

# %% [markdown]
# ## What beats what
#
# AUROC within task, with its 95 % bootstrap interval over questions. A control that reaches as far as the probe
# explains it away; the task prior has one half by construction, since it gives all answers of a task the same
# confidence. *Before the answer* is the probe at the last token of the question: what the reader makes of a question
# that nobody has answered yet. *Mean over the answer* is the probe on the mean hidden state of all tokens of the
# answer. LoRA + Prompt less the probe is a *primary hypothesis*, with the p-value of the page Claims; all else here is
# *exploratory*, and its p-values are not corrected.

# %% tags=["remove-input"]
controls.contest_chart(table)

# %% tags=["remove-input"]
HTML(controls.contest_html(table))

# %% [markdown]
# ## Untrained methods
#
# The same answers, scored by how sure the model was of the tokens that it wrote, and by asking any model, without
# training, whether the answer is right. A run that did not keep the tokens' probabilities has no lines for them.

# %% tags=["remove-input"]
untrained = examples[examples["trained_on"] == ""]
measured = cells.enough(cells.measure(untrained, scores.by_task(untrained, only_auroc=True), tasks))
baselines = cells.baseline_table(measured)
HTML(controls.baselines_html(baselines))

# %% tags=["remove-input"]
Markdown(controls.below_chance_sentences(baselines))

# %% [markdown]
# ## Which layer
#
# The probe's layer is chosen on validation answers. Here is what every layer reached there, at its best strength of the
# L2 penalty; the paper's probe always reads the last one.

# %% tags=["remove-input"]
controls.layers_chart(controls.layers(estimators, readers, seeds))

# %% [markdown]
# ## How much training data is enough
#
# The probe, trained on ever more of the model's own graded answers.

# %% tags=["remove-input"]
curve = controls.learning_curve(examples, tasks, readers)
controls.learning_curve_chart(curve)

# %% tags=["remove-input"]
HTML(controls.learning_curve_html(curve))
