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
# Whether it knows more where models disagree, whether it adds to the likelihood that needs no training, and what is
# gained where something is decided by it. All of this is secondary: it lies outside the *primary hypotheses*, so that
# its intervals are not corrected for their number. A difference whose 95 % interval holds zero is called *not
# significant*; any other is above or below zero, which is *exploratory*. Test questions are in-distribution, and all
# that is fitted, such as thresholds, is fitted on validation answers alone. [How it is done](../book/method.md).

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
# knows nothing but how hard a question is cannot be right about both models here. Differences are AUROC within task of
# what reads, was trained on and scores a model's answers, less that of what it is compared with.

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
# Hollow points rest on an estimator that was still improving when its training ended, or on a released adapter:
# they carry no verdict.
#
# ## Does it add anything?
#
# AUROC within task of each method alone, and of logistic regressions on the likelihood and other methods, fitted on
# the validation answers that all of them scored. In seeds after the first these are fewer, since the likelihood was
# kept for the first seed's validation answers. Layers and epochs were chosen on validation answers, too.

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
# often: at the likelihood's coverage, where it answers as many questions as the likelihood, the two can be compared.

# %% tags=["remove-input"]
Markdown(worth.selective_sentences(table, models))

# %% tags=["remove-input"]
worth.selective_chart(table)

# %% tags=["remove-input"]
HTML(worth.selective_html(table))

# %% [markdown]
# ## Pick the better of two answers
#
# Both models answer, and the answer with the higher confidence is taken, by each model's own estimator after Platt
# scaling on validation answers. It has to beat the better model alone, which is better on validation; an oracle is
# right wherever either model is.

# %% tags=["remove-input"]
Markdown(worth.pick_sentences(table))

# %% tags=["remove-input"]
worth.pick_chart(table)

# %% tags=["remove-input"]
HTML(worth.pick_html(table))

# %% [markdown]
# ## Hand on to the better model
#
# The model that is right less often on validation answers first, and its least confident answers are handed on to the
# other, at the cost of as many further answers. At random, accuracy rises in a straight line.

# %% tags=["remove-input"]
Markdown(worth.handed_on_sentences(table))

# %% tags=["remove-input"]
worth.handed_on_chart(table)

# %% tags=["remove-input"]
HTML(worth.handed_on_html(table))
