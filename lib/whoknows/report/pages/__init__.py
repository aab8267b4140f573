"""One page, one file: the numbers, charts, tables and sentences that a notebook shows.

Arguments that many pages take: `rows` are of any methods, with what `plateau.mark` says of them; `by_task`, `cells` and
`samples` are as `scores.by_task`, `cells.measure` and `bootstrap.samples` return, of the same rows; `models` and
`readers` are the grid's, all and those that read (where `models` stands alone, those that read); `tasks` are the
grid's, dicts with name and role; `seeds` the run's; `estimators` is the folder with its cards, and `answers` has the
file of each scored model's answers, or what is in it; `primary` is as `claims.corrected` returns, and `baseline` as
`landing.best_untrained`. A `table` is what the function above, or `cells.heatmap_table`, returns.
"""
