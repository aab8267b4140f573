# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Explore
#
# A probe at any setting, fitted anew each time that you move a widget. Needs the answers and the hidden states of a
# finished run of the grid. It also needs a front end that shows widgets, as `make lab` opens. No language model is
# loaded.
#
# It opens on the setting of the run's own probe, which the book shows. *Published setting* goes back to it. *Position*
# says whose hidden states are read: the last token of the answer, another one, or the mean over them.

# %% tags=["parameters"]
grid = "grids/embedded.yml"

# %%
from whoknows.lab.explore import Results
from whoknows.lab.panel import Panel

panel = Panel(Results(grid))
panel

# %% [markdown]
# Choose by the validation column alone. It is a mistake to move the widgets until the test column looks best. That
# setting is chosen on the test answers, and its value is then no measurement any more, but the luckiest of many. This
# is why both columns are side by side. All the charts show test answers. The heatmaps are those of this one setting,
# where each cell of the book has its own layer and strength.
#
# *Save as grid* writes a grid with this one setting of the probe beside the grid above; a run of it starts from the
# questions. A model that lacks the layer chooses among its own there.
