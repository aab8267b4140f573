# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Grading
#
# Whether an answer is right depends on who grades it. Here are the heatmaps again, with the test answers graded in
# other ways. The estimators stay as they are: they learned from the run's own grades. For answers from a file, these
# may be the grades in that file.

# %% tags=["parameters"]
# Needs the rows, the estimators' cards and the answers.
rows = "results/embedded/rows"
estimators = "results/embedded/estimators"
answers = {
    "SmolLM2-135M": "results/embedded/answers/SmolLM2-135M.parquet",
    "Gemma3-270M": "results/embedded/answers/Gemma3-270M.parquet",
}
readers = ["SmolLM2-135M", "Gemma3-270M"]
judged = None
methods = ["probe", "lora_prompt"]
seeds = [0]
tasks = [
    {"name": "common_knowledge", "size": 1000, "role": "train"},
    {"name": "cities", "size": 1300, "role": "train"},
    {"name": "sciq", "size": 320, "role": "shift"},
    {"name": "capitals", "size": 200, "role": "shift"},
]
out = "results/by-hand/grades.parquet"

# %% tags=["remove-input"]
from IPython.display import HTML, Markdown

from whoknows.data import files
from whoknows.evaluation import cells, plateau
from whoknows.report.pages import grading, heatmaps

models = list(answers)
examples = plateau.mark(cells.read_rows(rows, models, methods, seeds), estimators)
grades = grading.grades(answers, judged)
files.write_parquet(out, grades)
table = grading.heatmaps_under(examples, grades, models, tasks, readers, methods)
sentences = grading.grading_sentences(table) + grading.run_sentences(grades, tasks)
Markdown(sentences + grading.judged_sentences(grades))

# %% tags=["remove-input"]
heatmaps.heatmaps_chart(table, models, "grading")

# %% tags=["remove-input"]
HTML(grading.gradings_html(table, models))

# %% [markdown]
# ## Answers that the question holds
#
# An answer that repeats the question may contain an accepted answer by accident. For example, *K* is one if the
# question asks what K is the symbol of. So an accepted answer that the question contains does not count if it is
# another name of the answer. It may be the answer itself, as one of several to choose from. Then nothing else in the
# model's answer may be the question's.

# %% tags=["remove-input"]
Markdown(grading.held_sentences(grades))

# %% [markdown]
# ## How far the graders agree
#
# Right answers among the test answers under each grading, and the share of answers on which all of them agree. Answers
# without a verdict of the judge are left out.

# %% tags=["remove-input"]
HTML(grading.agreement_html(grading.agreement(grades, tasks)))
