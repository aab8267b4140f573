# One grid's graph of stages. Each rule runs a notebook. Its params are all that the grid says to the notebook, so a changed key
# re-runs what it concerns and nothing else, and a digest of the notebook, the library modules that it imports and other
# files of this repository that it reads. As inputs, those would have to lie where results do, which may be a store in a cloud.
from pathlib import Path

from whoknows import gpus, grid, parameters, stages
from whoknows.hidden import BEFORE, mean_of
from whoknows.sources import digest

GRID = grid.load(config.get("grid", "grids/embedded.yml"))
OUT = parameters.out(GRID)
ANSWERS = parameters.answers(GRID)
MODELS = list(ANSWERS)
CELL = "{reader}/{trained_on}/seed{seed}"
PAGE = "{reader}_{trained_on}_seed{seed}"  # no model's name has an underscore
CELLS = dict(method=GRID.methods, reader=MODELS, trained_on=MODELS, seed=GRID.seeds)
HIDDEN = [f"{OUT}/features/{{reader}}/{name}.safetensors" for name in [*MODELS, BEFORE]]
MEANS = [f"{OUT}/features/{{reader}}/{mean_of(name)}.safetensors" for name in MODELS]
TRUNK = [f"{OUT}/features/{{reader}}/trunk.safetensors"] if parameters.first_layer(GRID) else []
ROWS = expand(f"{OUT}/rows/{{method}}/{{model}}.parquet", method=["likelihood", "zero_shot"], model=MODELS)
ROWS += expand(f"{OUT}/rows/{{method}}/{CELL}.parquet", **CELLS)
ESTIMATORS = expand(f"{OUT}/estimators/{{method}}/{CELL}", **CELLS)
CONTROLS = [f"{OUT}/controls/surface.parquet", *(f"{OUT}/controls/readers/{model}.parquet" for model in MODELS)]
VARIANTS = list(parameters.lora_variants(GRID))
CONTROLS += expand(f"{OUT}/controls/lora/{{variant}}/{{model}}.parquet", variant=VARIANTS, model=MODELS)
VARIED = expand(f"{OUT}/estimators/{{variant}}/{{model}}", variant=VARIANTS, model=MODELS)
PAGES = expand(f"{OUT}/notebooks/{{stage}}-{{model}}.ipynb", stage=["answer", "extract", "ablate", "sweep"], model=MODELS)
PAGES += expand(f"{OUT}/notebooks/ablate_lora-{{model}}_{{variant}}.ipynb", variant=VARIANTS, model=MODELS)
PAGES += expand(f"{OUT}/notebooks/{{method}}-{PAGE}.ipynb", **CELLS)
PAGES += expand(f"{OUT}/notebooks/{{page}}.ipynb", page=["settings", *(f"search-{model}" for model in MODELS)] if parameters.searched(GRID) else [])
JUDGED = [f"{OUT}/judged/{model}.parquet" for model in MODELS] if GRID.judge else []
PACKED = sorted(str(path) for path in Path(GRID.beside).rglob("*") if path.is_file()) if GRID.beside else []
PAGES += expand(f"{OUT}/notebooks/beside-{{page}}.ipynb", page=parameters.beside_pages(GRID))
PAGES += expand(f"{OUT}/notebooks/cell-{{method}}_{{reader}}_{{trained_on}}.ipynb", method=GRID.methods, reader=MODELS, trained_on=MODELS)
PUBLISHED = sorted(map(str, Path("book/data").glob("*.csv")))
RUN = "OMP_NUM_THREADS={threads} python -m whoknows.run {params.notebook} {output.page} --log {log} --gpus {resources.gpu} --params {params.json:q} --title "
TITLE = "'{wildcards.reader} trained on {wildcards.trained_on}, seed {wildcards.seed}'"

# Here stages that load a language model take turns on the GPUs. On a CPU two run side by side: two processes of half
# the cores do more than one of all, since what is not a matrix product leaves cores idle. On a cluster the grid and the
# profile say what a job gets.
CARDS = len(gpus.shared())
SHARE = 1 if config.get("cluster") else max(1, workflow.cores // (CARDS or 2))

def cores(stage):
    return stages.asked(GRID, stage).cores or (SHARE if stage in stages.HEAVY else 1)

def needs(stage):
    return stages.needs(GRID, stage, CARDS)

wildcard_constraints:
    model="[^/_]+", reader="[^/_]+", trained_on="[^/_]+", seed="[0-9]+", which="[0-9]+", jobs="[0-9]+", variant="lora[a-z_]*", page="[a-z]+", method="|".join(GRID.methods)

rule all:
    input: ROWS, PAGES, expand(f"{OUT}/notebooks/{{page}}.ipynb", page=["questions", "heatmaps", "figure", "differences", "claims", "controls", "layers", "shift", "grading"])

rule questions:
    output: f"{OUT}/questions.parquet", page=f"{OUT}/notebooks/questions.ipynb"
    log: f"{OUT}/logs/questions.txt"
    params: notebook="notebooks/questions.py", code=digest("notebooks/questions.py"), json=parameters.questions(GRID)
    threads: cores("questions")
    resources: **needs("questions")
    shell: RUN + "''"

# A stage that is too long for one job: others do its questions first, and it finds what they have found.
def shards(stage):
    count = stages.asked(GRID, stage).shards or 0
    return [f"{OUT}/shards/{stage}-{{model}}/{which}-of-{count}.txt" for which in range(count)]

SHARD = "OMP_NUM_THREADS={threads} python -m whoknows.shard {params.stage} {params.json:q} {wildcards.which} {wildcards.jobs} {output} --gpus {resources.gpu} 2> {log}"

rule answer_shard:
    input: f"{OUT}/questions.parquet"
    output: f"{OUT}/shards/answer-{{model}}/{{which}}-of-{{jobs}}.txt"
    log: f"{OUT}/logs/answer-{{model}}-{{which}}-of-{{jobs}}.txt"
    params: stage="answer", code=digest("notebooks/answer.py"), json=lambda w: parameters.answer(GRID, w.model)
    threads: cores("answer")
    resources: **needs("answer")
    shell: SHARD

rule extract_shard:
    input: ANSWERS.values()
    output: f"{OUT}/shards/extract-{{model}}/{{which}}-of-{{jobs}}.txt"
    log: f"{OUT}/logs/extract-{{model}}-{{which}}-of-{{jobs}}.txt"
    params: stage="extract", code=digest("notebooks/extract.py"), json=lambda w: parameters.extract(GRID, w.model)
    priority: 1
    threads: cores("extract")
    resources: **needs("extract")
    shell: SHARD

rule answer:
    input: f"{OUT}/questions.parquet", shards("answer")
    output: f"{OUT}/answers/{{model}}.parquet", f"{OUT}/rows/likelihood/{{model}}.parquet", page=f"{OUT}/notebooks/answer-{{model}}.ipynb"
    log: f"{OUT}/logs/answer-{{model}}.txt"
    params: notebook="notebooks/answer.py", code=digest("notebooks/answer.py"), json=lambda w: parameters.answer(GRID, **w)
    threads: cores("answer")
    resources: **needs("answer")
    shell: RUN + "{wildcards.model}"

rule extract:
    input: ANSWERS.values(), [path.replace("{model}", "{reader}") for path in shards("extract")]
    output: HIDDEN, MEANS, TRUNK, f"{OUT}/rows/zero_shot/{{reader}}.parquet", page=f"{OUT}/notebooks/extract-{{reader}}.ipynb"
    log: f"{OUT}/logs/extract-{{reader}}.txt"
    params: notebook="notebooks/extract.py", code=digest("notebooks/extract.py"), json=lambda w: parameters.extract(GRID, **w)
    priority: 3  # the probe, its controls and the search wait for it
    threads: cores("extract")
    resources: **needs("extract")
    shell: RUN + "{wildcards.reader}"

rule probe:
    input: ANSWERS.values(), HIDDEN
    output: directory(f"{OUT}/estimators/probe/{CELL}"), f"{OUT}/rows/probe/{CELL}.parquet", page=f"{OUT}/notebooks/probe-{PAGE}.ipynb"
    log: f"{OUT}/logs/probe-{PAGE}.txt"
    params: notebook="notebooks/probe.py", code=digest("notebooks/probe.py"), json=lambda w: parameters.probe(GRID, **w)
    threads: cores("probe")
    resources: **needs("probe")
    shell: RUN + TITLE

rule lora_prompt:
    input: ANSWERS.values(), TRUNK
    output: directory(f"{OUT}/estimators/lora_prompt/{CELL}"), f"{OUT}/rows/lora_prompt/{CELL}.parquet", page=f"{OUT}/notebooks/lora_prompt-{PAGE}.ipynb"
    log: f"{OUT}/logs/lora_prompt-{PAGE}.txt"
    params: notebook="notebooks/lora_prompt.py", code=digest("notebooks/lora_prompt.py"), json=lambda w: parameters.lora_prompt(GRID, **w)
    priority: 1  # the heatmaps' cells before the controls of the same cost
    threads: cores("lora_prompt")
    resources: **needs("lora_prompt")
    shell: RUN + TITLE

rule heatmaps:
    input: ROWS, ESTIMATORS
    output: f"{OUT}/scores.parquet", page=f"{OUT}/notebooks/heatmaps.ipynb"
    log: f"{OUT}/logs/heatmaps.txt"
    params: notebook="notebooks/heatmaps.py", code=digest("notebooks/heatmaps.py", *PUBLISHED, "book/claims.yml"), json=parameters.heatmaps(GRID)
    threads: cores("heatmaps")
    resources: **needs("heatmaps")
    shell: RUN + "''"

rule cell:
    input:
        ANSWERS.values(),
        lambda w: expand(f"{OUT}/rows/{w.method}/{w.reader}/{w.trained_on}/seed{{seed}}.parquet", seed=GRID.seeds),
        lambda w: expand(f"{OUT}/estimators/{w.method}/{w.reader}/{w.trained_on}/seed{{seed}}", seed=GRID.seeds),
    output: f"{OUT}/cells/{{method}}_{{reader}}_{{trained_on}}.parquet", page=f"{OUT}/notebooks/cell-{{method}}_{{reader}}_{{trained_on}}.ipynb"
    log: f"{OUT}/logs/cell-{{method}}_{{reader}}_{{trained_on}}.txt"
    params: notebook="notebooks/cell.py", code=digest("notebooks/cell.py"), json=lambda w: parameters.cell(GRID, **w), method=lambda w: stages.STAGES[w.method]
    threads: cores("cell")
    resources: **needs("cell")
    shell: RUN + "'{params.method}, {wildcards.reader} trained on {wildcards.trained_on}'"

rule figure:
    output: f"{OUT}/published.parquet", page=f"{OUT}/notebooks/figure.ipynb"
    log: f"{OUT}/logs/figure.txt"
    params: notebook="notebooks/figure.py", code=digest("notebooks/figure.py", *PUBLISHED), json=parameters.figure(GRID)
    threads: cores("figure")
    resources: **needs("figure")
    shell: RUN + "''"

rule claims:
    input: ROWS, ESTIMATORS
    output: f"{OUT}/contrasts.parquet", page=f"{OUT}/notebooks/claims.ipynb"
    log: f"{OUT}/logs/claims.txt"
    params: notebook="notebooks/claims.py", code=digest("notebooks/claims.py", *PUBLISHED, "book/claims.yml"), json=parameters.claims(GRID)
    threads: cores("claims")
    resources: **needs("claims")
    shell: RUN + "''"

rule surface:
    input: ANSWERS.values()
    output: f"{OUT}/controls/surface.parquet", page=f"{OUT}/notebooks/surface.ipynb"
    log: f"{OUT}/logs/surface.txt"
    params: notebook="notebooks/surface.py", code=digest("notebooks/surface.py"), json=parameters.surface(GRID)
    threads: cores("surface")
    resources: **needs("surface")
    shell: RUN + "''"

rule ablate:
    input: ANSWERS.values(), HIDDEN, MEANS
    output: f"{OUT}/controls/readers/{{reader}}.parquet", page=f"{OUT}/notebooks/ablate-{{reader}}.ipynb"
    log: f"{OUT}/logs/ablate-{{reader}}.txt"
    params: notebook="notebooks/ablate.py", code=digest("notebooks/ablate.py"), json=lambda w: parameters.ablate(GRID, **w)
    threads: cores("ablate")
    resources: **needs("ablate")
    shell: RUN + "{wildcards.reader}"

rule sweep:
    input: ANSWERS.values(), HIDDEN
    output: f"{OUT}/sweeps/{{reader}}.parquet", page=f"{OUT}/notebooks/sweep-{{reader}}.ipynb"
    log: f"{OUT}/logs/sweep-{{reader}}.txt"
    params: notebook="notebooks/sweep.py", code=digest("notebooks/sweep.py"), json=lambda w: parameters.sweep(GRID, **w)
    threads: cores("sweep")
    resources: **needs("sweep")
    shell: RUN + "{wildcards.reader}"

rule layers:
    input: expand(f"{OUT}/sweeps/{{model}}.parquet", model=MODELS)
    output: f"{OUT}/sweep.parquet", page=f"{OUT}/notebooks/layers.ipynb"
    log: f"{OUT}/logs/layers.txt"
    params: notebook="notebooks/layers.py", code=digest("notebooks/layers.py"), json=parameters.layers(GRID)
    threads: cores("layers")
    resources: **needs("layers")
    shell: RUN + "''"

rule ablate_lora:
    input: ANSWERS.values(), TRUNK
    output: directory(f"{OUT}/estimators/{{variant}}/{{reader}}"), f"{OUT}/controls/lora/{{variant}}/{{reader}}.parquet", page=f"{OUT}/notebooks/ablate_lora-{{reader}}_{{variant}}.ipynb"
    log: f"{OUT}/logs/ablate_lora-{{reader}}_{{variant}}.txt"
    params: notebook="notebooks/lora_prompt.py", code=digest("notebooks/lora_prompt.py"), json=lambda w: parameters.lora_variant(GRID, **w)
    threads: cores("ablate_lora")
    resources: **needs("ablate_lora")
    shell: RUN + "'{wildcards.reader}, {wildcards.variant}'"

rule search:
    input: ANSWERS.values(), HIDDEN, TRUNK
    output: f"{OUT}/search/{{reader}}.parquet", page=f"{OUT}/notebooks/search-{{reader}}.ipynb"
    log: f"{OUT}/logs/search-{{reader}}.txt"
    params: notebook="notebooks/search.py", code=digest("notebooks/search.py"), json=lambda w: parameters.search(GRID, **w)
    priority: 2  # who sees it prefer another rate can change the grid before the cells are trained
    threads: cores("search")
    resources: **needs("search")
    shell: RUN + "{wildcards.reader}"

rule settings:
    input: expand(f"{OUT}/search/{{model}}.parquet", model=MODELS)
    output: f"{OUT}/settings.parquet", page=f"{OUT}/notebooks/settings.ipynb"
    log: f"{OUT}/logs/settings.txt"
    params: notebook="notebooks/settings.py", code=digest("notebooks/settings.py"), json=parameters.settings(GRID)
    threads: cores("settings")
    resources: **needs("settings")
    shell: RUN + "''"

rule judge:
    input: f"{OUT}/answers/{{model}}.parquet"
    output: f"{OUT}/judged/{{model}}.parquet", page=f"{OUT}/notebooks/judge-{{model}}.ipynb"
    log: f"{OUT}/logs/judge-{{model}}.txt"
    params: notebook="notebooks/judge.py", code=digest("notebooks/judge.py"), json=lambda w: parameters.judge(GRID, **w)
    threads: cores("judge")
    resources: **needs("judge")
    shell: RUN + "{wildcards.model}"

rule differences:
    input: ROWS, ESTIMATORS
    output: f"{OUT}/differences.parquet", page=f"{OUT}/notebooks/differences.ipynb"
    log: f"{OUT}/logs/differences.txt"
    params: notebook="notebooks/differences.py", code=digest("notebooks/differences.py", "book/claims.yml"), json=parameters.differences(GRID)
    threads: cores("differences")
    resources: **needs("differences")
    shell: RUN + "''"

rule grading:
    input: ROWS, ESTIMATORS, ANSWERS.values(), JUDGED
    output: f"{OUT}/grades.parquet", page=f"{OUT}/notebooks/grading.ipynb"
    log: f"{OUT}/logs/grading.txt"
    params: notebook="notebooks/grading.py", code=digest("notebooks/grading.py"), json=parameters.grading(GRID)
    threads: cores("grading")
    resources: **needs("grading")
    shell: RUN + "''"

rule beside:
    output: f"{OUT}/beside/{{page}}.parquet", page=f"{OUT}/notebooks/beside-{{page}}.ipynb"
    log: f"{OUT}/logs/beside-{{page}}.txt"
    params: notebook="notebooks/{page}.py", code=lambda w: digest(f"notebooks/{w.page}.py", *PACKED, *PUBLISHED, "book/claims.yml"), json=lambda w: parameters.beside(GRID, w.page)
    threads: cores("beside")
    resources: **needs("beside")
    shell: RUN + f"'{parameters.packed(GRID).name if GRID.beside else ''}, packed'"

rule controls:
    input: ROWS, ESTIMATORS, CONTROLS, VARIED
    output: f"{OUT}/controls.parquet", page=f"{OUT}/notebooks/controls.ipynb"
    log: f"{OUT}/logs/controls.txt"
    params: notebook="notebooks/controls.py", code=digest("notebooks/controls.py", "book/claims.yml"), json=parameters.controls(GRID)
    threads: cores("controls")
    resources: **needs("controls")
    shell: RUN + "''"

rule shift:
    input: ROWS, ESTIMATORS, CONTROLS, VARIED
    output: f"{OUT}/shift.parquet", page=f"{OUT}/notebooks/shift.ipynb"
    log: f"{OUT}/logs/shift.txt"
    params: notebook="notebooks/shift.py", code=digest("notebooks/shift.py"), json=parameters.shift(GRID)
    threads: cores("shift")
    resources: **needs("shift")
    shell: RUN + "''"
