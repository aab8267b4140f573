# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Baselines and ablations
#
# What is reached without training, without a language model that reads, and with shuffled grades; and what the probe
# reaches at other layers, with other penalties, and with fewer training answers. Each model scores its own answers
# here, with estimators that were trained on its own answers. The answers of a model that reads nothing are read by the
# grid's first reader.

# %% tags=["parameters"]
# Needs the rows of all stages, the answers, of which those to train questions are counted, and the sweep of every
# reader for its last part.
rows = "results/embedded/rows"
more_rows = "results/embedded/controls"
sweeps = "results/embedded/sweeps"
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
out = "results/by-hand/controls.parquet"

# %% tags=["remove-input"]
import pandas as pd
from IPython.display import HTML, Markdown

from whoknows.data import files
from whoknows.evaluation import cells, plateau, scores
from whoknows.report.pages import controls, layers

folders = (rows, more_rows)
examples = plateau.mark(pd.concat([cells.read_rows(folder, models, methods, seeds) for folder in folders]), estimators)
table = controls.contest(examples, readers, tasks)
files.write_parquet(out, table)
Markdown(controls.contest_sentences(table) + plateau.elsewhere(estimators, examples))

# %% [markdown]
# ## Against the probe
#
# AUROC within task, with its 95 % bootstrap interval over questions. A baseline that reaches as far as the probe
# explains the probe's result more simply. The task prior has one half by construction, since it gives all answers of a
# task the same confidence. *Before the answer* is the probe at the last token of the question, where the reader has
# seen no answer yet. *Mean over the answer* is the probe on the mean hidden state of all tokens of the answer.
#
# The difference of LoRA + Prompt from the probe is a *primary hypothesis*: its p-value is corrected for all of them,
# and is the same on every page. All other differences here are *exploratory*, and their p-values are not corrected.

# %% tags=["remove-input"]
controls.contest_chart(table)

# %% tags=["remove-input"]
HTML(controls.contest_html(table))

# %% [markdown]
# ## Training-free baselines
#
# The same answers, scored by the probability that the model gave to the tokens it wrote, and by asking any model,
# without training, whether the answer is right. A run that did not keep the tokens' probabilities has no lines for
# them.

# %% tags=["remove-input"]
untrained = examples[examples["trained_on"] == ""]
measured = cells.enough(cells.measure(untrained, scores.by_task(untrained, only_auroc=True), tasks))
baselines = cells.baseline_table(measured)
HTML(controls.baselines_html(baselines))

# %% tags=["remove-input"]
Markdown(controls.below_chance_sentences(baselines))

# %% [markdown]
# ## Whose answers to learn from
#
# One reader's estimators on the same test answers, by whose answers they were trained on: the scored model's own,
# another model's, or those of all models together. All models' answers are more training answers. So there is another
# such probe with one model's answer to each question, drawn by the seed: as many as one model has. LoRA + Prompt has no
# such counterpart. What it gains with all models' answers may come from more training answers and more steps.
#
# What is chosen on validation is chosen on answers of the models that were trained on. The probes of all models'
# answers choose among the strengths that the grid gives to the controls. LoRA + Prompt is trained on all models'
# answers with the first seed alone, and is compared with that seed's self-trained one. *Training answers* counts all of
# them; for LoRA + Prompt the grid's `wrong_per_right` may leave out wrong ones.
#
# A difference between self-trained and cross-trained may be a primary hypothesis, with its p-value corrected for all of
# them. All others are exploratory.

# %% tags=["remove-input"]
frames = {scored: files.read_parquet(path) for scored, path in answers.items()}
learned = controls.learned_from(examples, frames, readers, tasks)
Markdown(controls.learned_from_sentences(learned))

# %% tags=["remove-input"]
HTML(controls.learned_from_html(learned))

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

# %% [markdown]
# ## Layer, penalty and training answers together
#
# In a run with its sweep, turn the switches: the heatmap and both curves follow. They open on what validation chooses,
# as the report's probe does. The values are AUROC within task on in-distribution test answers, with the first seed.
# They are here to look at: picking the best of them would be selection on test answers. The AUROC on validation, by
# which the report's probes choose, is in the tooltip and in the table.

# %% tags=["remove-input"]
sweep = layers.read(sweeps, models, readers)
layers.layers_chart(sweep, models)

# %% tags=["remove-input"]
HTML(layers.layers_html(sweep))

# %% tags=["remove-input"]
places = layers.places(sweep)
Markdown(layers.places_sentences(places))

# %% tags=["remove-input"]
layers.places_chart(places)

# %% tags=["remove-input"]
HTML(layers.places_html(places))
