# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Other questions
#
# Estimators are needed where nobody has graded answers yet. Here each model's own estimators score its answers to
# questions of tasks that they were not trained on (*shift*). Beside this is what they reach on held-out questions of
# the tasks that they were trained on (*in-distribution*).

# %% tags=["parameters"]
# Needs the rows of all stages, the estimators' cards, and the answers, of which those to train questions are counted.
rows = "results/embedded/rows"
more_rows = "results/embedded/controls"
variants = []
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
out = "results/by-hand/shift.parquet"

# %% tags=["remove-input"]
from IPython.display import HTML, Markdown

from whoknows.data import files
from whoknows.evaluation import cells, plateau
from whoknows.report.pages import shift

examples = cells.read_with_controls(rows, more_rows, models, methods, seeds, variants)
examples = plateau.mark(examples, estimators)
table = shift.shift(examples, tasks, readers)
files.write_parquet(out, table)
Markdown(shift.shift_sentences(table) + plateau.elsewhere(estimators, examples))

# %% tags=["remove-input"]
shift.shift_chart(table)

# %% [markdown]
# The value of a task with many subjects is the mean over those that have both right and wrong answers. Hollow points
# rest on an estimator that was still improving when its training ended. Values that rest on too few right or wrong
# answers are left out. A shift can change more than the task: questions can be harder, and answers longer. This is why
# training-free methods are shown, too.

# %% tags=["remove-input"]
HTML(shift.shift_html(table))

# %% [markdown]
# ## From one task to another
#
# Each probe here is trained on one task alone, and tested on every task. Its layer and strength are chosen on the
# validation answers of that task. Each model's answers are read by the model itself, or by the grid's first reader if
# it reads nothing. The probe is trained on other answers of the same model.
#
# A frame marks the task that was trained on. The cells of one column score the same test answers, so they can be
# compared. Those of one row cannot, since tasks differ in difficulty. The row *all of these*, in a grid with probes, is
# the report's own probe. It was trained on all of these tasks together, and so on more answers.

# %% tags=["remove-input"]
frames = {scored: files.read_parquet(path) for scored, path in answers.items()}
transfer = shift.transfer(examples, frames, tasks, readers)
Markdown(shift.transfer_sentences(transfer, tasks))

# %% tags=["remove-input"]
shift.transfer_chart(transfer)

# %% tags=["remove-input"]
HTML(shift.transfer_html(transfer))

# %% [markdown]
# ## A task that was never seen
#
# AUROC on a training task, of an estimator that was trained with that task, and of one that was trained without it.
# Both score the same questions.

# %% tags=["remove-input"]
without = shift.left_out(examples, readers)
Markdown(shift.left_out_sentences(without))

# %% tags=["remove-input"]
HTML(shift.left_out_html(without))
