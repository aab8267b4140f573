# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Estimator
#
# One estimator in full: a reader, trained on one model's graded answers, scoring the test answers of every model. The
# title above the pictures says whose answers are scored.

# %% tags=["parameters"]
# Needs its rows, the answers and the estimator's folders.
method = "probe"
reader = "SmolLM2-135M"
trained_on = "SmolLM2-135M"
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
rows = "results/embedded/rows/probe/SmolLM2-135M/SmolLM2-135M"
estimators = "results/embedded/estimators/probe/SmolLM2-135M/SmolLM2-135M"
out = "results/by-hand/cells/probe_SmolLM2-135M_SmolLM2-135M.parquet"

# %% tags=["remove-input"]
from IPython.display import HTML, Markdown

from whoknows.data import files
from whoknows.evaluation import cells, plateau, scores
from whoknows.report.pages import cell

examples = cells.read_rows(rows, list(answers), [method], seeds)
scored_answers = cell.answer_table(examples, answers)
files.write_parquet(out, scored_answers)
cell.curves_chart(cell.curves(examples, tasks), "cell", reader, trained_on)

# %% [markdown]
# ROC and risk are means over tasks; reliability and confidence are of all answers together. The points of reliability
# are ten bins of equal width, as in ECE; an empty bin has no point. Bars are 95 % intervals of a share (Wilson, 1927),
# of as many answers as a bin has in the mean over seeds. Platt scaling was fitted on validation answers.

# %% tags=["remove-input"]
HTML(cell.cell_html(cells.enough(cells.measure(examples, scores.by_task(examples), tasks))))

# %% [markdown]
# ## How it was trained
#
# The charts show validation answers, with the first seed. A probe has a value for each layer, its MLP for each epoch,
# and adapters for each look at validation. The best was kept.

# %% tags=["remove-input"]
how = cell.training_sentences(plateau.table(estimators), examples)
Markdown(plateau.elsewhere(estimators, examples) or how)

# %% tags=["remove-input"]
cell.learning_chart(f"{estimators}/seed{seeds[0]}", method)

# %% tags=["remove-input"]
cell.learning_chart(f"{estimators}/seed{seeds[0]}", f"{method}_mlp")

# %% [markdown]
# ## Where it was most wrong
#
# The wrong answers with the highest confidence and the right answers with the lowest, among the in-distribution test
# questions.

# %% tags=["remove-input"]
HTML(cell.mistakes_html(cell.mistakes(scored_answers, tasks)))
