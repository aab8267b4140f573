# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What confidence is good for
#
# This page asks three questions. Does confidence know more than how hard a question is? Does it add to the likelihood,
# which needs no training? What is gained where decisions are made by it? All of this is secondary: it lies outside the
# *primary hypotheses*, so its intervals are not corrected for their number. A difference whose 95 % interval contains
# zero is called *not significant*. Any other is above or below zero, which is *exploratory*. Test questions are
# in-distribution. All that is fitted, such as thresholds, is fitted on validation answers alone. [How it is
# done](../book/method.md).

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
out = "results/by-hand/worth.parquet"

# %% [markdown]
# ## Where the models disagree
#
# Only the questions that one of two models gets right and the other wrong, as in arXiv 2604.12373. An estimator that
# knows only how hard a question is cannot be right about both models here. Each difference is one of AUROC within task:
# that of a model's own estimator on its own answers, less that of the comparison.

# %% tags=["remove-input"]
from IPython.display import HTML, Markdown

from whoknows.data import files
from whoknows.evaluation import benefits, cells, plateau
from whoknows.report.pages import worth

examples = plateau.mark(cells.read_rows(rows, models, methods, seeds), estimators)
table = benefits.of_grid(examples, models, tasks, readers)
files.write_parquet(out, table)
Markdown(worth.disagreement_sentences(table) + plateau.elsewhere(estimators, examples))

# %% tags=["remove-input"]
worth.disagreement_chart(table)

# %% tags=["remove-input"]
HTML(worth.disagreement_html(table))

# %% [markdown]
# Hollow points rest on an estimator that was still improving when its training ended, or on a released adapter: these
# have no verdict.
#
# ## Does it add anything?
#
# AUROC within task of each method alone, and of logistic regressions on the likelihood and other methods. They are
# fitted on the validation answers that all of these methods scored. Seeds after the first have fewer of these, since
# the likelihood was kept for the first seed's validation answers alone. Layers and epochs were chosen on validation
# answers, too.

# %% tags=["remove-input"]
Markdown(worth.stack_sentences(table, models))

# %% tags=["remove-input"]
worth.stack_chart(table)

# %% tags=["remove-input"]
HTML(worth.stack_html(table))

# %% [markdown]
# ## Answer only when confident
#
# The threshold is the lowest confidence at or above which the wanted share of validation answers is right. At least 25
# answers must be above it. *Coverage* is the share of test questions that are then answered, and *risk* is the share of
# wrong answers among them. Thresholds stay as they are in all resamples. A method may answer more and be right less
# often. At the likelihood's coverage, where it answers as many questions as the likelihood, the two can be compared.

# %% tags=["remove-input"]
Markdown(worth.selective_sentences(table, models))

# %% tags=["remove-input"]
worth.selective_chart(table)

# %% tags=["remove-input"]
HTML(worth.selective_html(table))

# %% [markdown]
# ## Pick the better of two answers
#
# Both models answer, and the answer with the higher confidence is taken. Each model's own estimator gives its
# confidence, after Platt scaling on validation answers. This has to beat the better model alone, which is the better
# one on validation. An oracle is right wherever either model is.

# %% tags=["remove-input"]
Markdown(worth.pick_sentences(table))

# %% tags=["remove-input"]
worth.pick_chart(table)

# %% tags=["remove-input"]
HTML(worth.pick_html(table))

# %% [markdown]
# ## Hand on to the better model
#
# The weaker model, which is right less often on validation, answers every question first. The questions of its least
# confident answers are then handed on to the other model, which costs as many further answers. If they are chosen at
# random, accuracy rises in a straight line.

# %% tags=["remove-input"]
Markdown(worth.handed_on_sentences(table))

# %% tags=["remove-input"]
worth.handed_on_chart(table)

# %% tags=["remove-input"]
HTML(worth.handed_on_html(table))
