# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Questions
#
# Which questions are asked, and which split each is in. A split is decided by a hash of the normalised
# question, so it is the same for every model. Needs the assets that the questions are in, and nothing else.

# %% tags=["parameters"]
tasks = [
    {"name": "common_knowledge", "size": 1000, "role": "train"},
    {"name": "cities", "size": 1300, "role": "train"},
    {"name": "sciq", "size": 320, "role": "shift"},
    {"name": "capitals", "size": 200, "role": "shift"},
]
splits = {"train": 0.36, "validation": 0.16, "test": 0.48}
shots = 16
out = "results/by-hand/questions.parquet"

# %%
from whoknows.data import files, grading
from whoknows.data.questions import build

table = build(tasks, splits, shots)
files.write_parquet(out, table)

# %% [markdown]
# How many questions of each task are in each split. The few-shot examples (`shot`) are in no other.

# %%
table.groupby(["task", "split"], sort=False).size().unstack(fill_value=0).rename_axis(index=None, columns=None)

# %% [markdown]
# One question of each task, with the answers that count as right, and how answers to it are graded.

# %%
first = table[table["split"] == "test"].groupby("task", sort=False).head(1)
first.assign(grading=first["kind"].map(grading.named))[["task", "question", "gold", "grading"]].set_index("task")
