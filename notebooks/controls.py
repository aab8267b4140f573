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
# This page compares the probe with what is reached without training, without a language model that reads, or with
# shuffled grades. It also shows the probe at other layers, with other penalties, and with fewer training answers. Each
# model scores its own answers here, with estimators that were trained on its own answers. The answers of a model that
# reads nothing are read by the grid's first reader.

# %% tags=["parameters"]
# Needs the rows of all stages, the answers, of which those to train questions are counted, and the sweep of every
# reader for its last part.
rows = "results/embedded/rows"
more_rows = "results/embedded/controls"
variants = []
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
from IPython.display import HTML, Markdown

from whoknows.data import files
from whoknows.evaluation import cells, plateau, scores
from whoknows.report.pages import controls, layers

examples = cells.read_with_controls(rows, more_rows, models, methods, seeds, variants)
examples = plateau.mark(examples, estimators)
table = controls.contest(examples, readers, tasks)
files.write_parquet(out, table)
Markdown(controls.contest_sentences(table) + plateau.elsewhere(estimators, examples))

# %% [markdown]
# ## Against the probe
#
# AUROC within task, with its 95 % bootstrap interval over questions. A baseline that does as well as the probe is a
# simpler explanation of the probe's result. The task prior has an AUROC of one half by construction, since it gives all
# answers of a task the same confidence. *Before the answer* is the probe at the last token of the question, where the
# reader has seen no answer yet. *Mean over the answer* is the probe on the mean hidden state of all tokens of the
# answer.
#
# A control may be trained with the first seed alone. It is then compared with the probe of that seed, so the difference
# is not that of the two values shown.
#
# The difference of LoRA + Prompt from the probe is a *primary hypothesis*. Its p-value is corrected for all primary
# hypotheses, and is the same on every page. All other differences here are *exploratory*, and their p-values are not
# corrected.

# %% tags=["remove-input"]
controls.contest_chart(table)

# %% tags=["remove-input"]
HTML(controls.contest_html(table))

# %% [markdown]
# ## Training-free baselines
#
# The same answers, scored without training. Some of these methods use the probability that the model gave to the tokens
# it wrote. Zero-shot P(True) asks any model whether the answer is right. A run that did not keep the tokens'
# probabilities has no lines for them.

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
# One reader's estimators score the same test answers here. They differ in whose answers they were trained on: the
# scored model's own, another model's, or those of all models together. All models together have more training answers
# than one. So another probe is trained on one model's answer to each question, drawn by the seed: as many answers as
# one model has. LoRA + Prompt has no such counterpart. What it gains with all models' answers may come from more
# training answers and more steps.
#
# Each choice on validation uses answers of the models that the estimator was trained on. Probes trained on all models'
# answers choose among the strengths that the grid gives to the controls. LoRA + Prompt is trained on all models'
# answers with the first seed alone, and is compared with that seed's self-trained estimator. *Training answers* counts
# all of them. LoRA + Prompt may not use all wrong ones, since the grid's `wrong_per_right` limits their number.
#
# A difference between self-trained and cross-trained may be a primary hypothesis. Its p-value is then corrected for all
# primary hypotheses. All other differences are exploratory.

# %% tags=["remove-input"]
frames = {scored: files.read_parquet(path) for scored, path in answers.items()}
learned = controls.learned_from(examples, frames, readers, tasks)
Markdown(controls.learned_from_sentences(learned))

# %% tags=["remove-input"]
HTML(controls.learned_from_html(learned))

# %% [markdown]
# ## Which layer
#
# The probe's layer is chosen on validation answers. The chart shows what every layer reached there, at its best
# strength of the L2 penalty. The paper's probe always reads the last layer.

# %% tags=["remove-input"]
controls.layers_chart(controls.layers(estimators, readers, seeds)) or Markdown(controls.NO_PROBE)

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
# In a run with a sweep, the switches change the heatmap and both curves. At first they show what validation chooses of
# all layers, which is the report's probe if the grid tries all of them. The values are AUROC within task on
# in-distribution test answers, with the first seed. They are here to look at: choosing the best of them would be
# selection on test answers. The AUROC on validation, by which the report's probes choose, is in the tooltip and in the
# table.

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
