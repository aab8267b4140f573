"""What a grid says to each stage: the parameters of its notebook, as JSON, and where results lie."""

import inspect
import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial, reduce
from pathlib import Path

from whoknows import WhoknowsError
from whoknows.data import adapters, assets
from whoknows.data.positions import kept
from whoknows.data.prompts import CHAT
from whoknows.data.rows import ALL_MODELS
from whoknows.run import brought
from whoknows.run.grid import Endpoint, Grid, Model, Task, build, load, renamed

# Pages that are made of rows: the name of their table, and what they read besides.
PAGES = {
    "heatmaps": ("scores", "more_rows", "answers", "links"),
    "differences": ("differences",),
    "controls": ("controls", "more_rows", "variants", "sweeps", "answers"),
    "shift": ("shift", "more_rows", "variants", "answers"),
    "worth": ("worth",),
    "recompute": ("recompute", "answers"),
    "grading": ("grades", "answers", "judged"),
    "claims": ("contrasts",),
}
# Parameters that a grid says too, and where it does.
PLACES = {name: name for name in ("seeds", "methods", "tasks", "splits", "precision", "batch_tokens")}
PLACES |= {name: f"answer.{name}" for name in ("shots", "max_new_tokens", "samples")}
PLACES |= {name: f"probe.{name}" for name in ("layers", "strengths", "mlp")}
PLACES |= {"settings": "lora_prompt", "first_layer": "lora_prompt.first_layer", "seed": "seeds[0]"}
PLACES |= {"sizes": "controls.sizes", "learning_rates": "search.learning_rates"}
SMALLEST = {  # a grid that says nothing else
    "name": "by-hand",
    "models": [{"name": "tiny", "source": "tiny-llama"}],
    "tasks": [{"name": "sciq", "role": "train"}],
    "judge": {"url": "http://localhost", "model": "judge"},
}
# What a stage is told of a task that depends on other keys, or that no grid says.
ABOUT = {"file", "hub", "config", "split", "revision", "columns", "learned", "has_splits", "judge", "digest"}


def check(values: dict, origin: str) -> None:
    """Refuses parameters of a notebook that no grid could give it.

    Raises:
        WhoknowsError: the sentence about such a grid, with the parameter's name, that begins with the origin.
    """
    trained_on, answered = values.get("trained_on"), values.get("answers")
    if trained_on and isinstance(answered, dict) and trained_on not in (*answered, ALL_MODELS):
        raise WhoknowsError(f"{origin}`trained_on` is `{trained_on}`, but `answers` has only {', '.join(answered)}.")
    for name, place in PLACES.items():
        if values.get(name) is None:
            continue
        value = _as_of_a_grid(values["tasks"]) if name == "tasks" else values[name]
        path, is_item, _ = place.partition("[0]")
        given = reduce(lambda inner, key: {key: inner}, reversed(path.split(".")), [value] if is_item else value)
        try:
            build(SMALLEST | given)
        except WhoknowsError as error:
            raise WhoknowsError(f"{origin}{str(error).replace(f'`{place}', f'`{name}')}") from None


def _as_of_a_grid(tasks):
    """Tasks as a grid may say them, whatever their names and files are, and one that can be trained on."""
    if not (tasks and isinstance(tasks, list) and all(isinstance(task, dict) for task in tasks)):
        return tasks
    plain = [{key: value for key, value in task.items() if key not in ABOUT} | {"file": "any"} for task in tasks]
    named = [task | ({"name": f"task{at}"} if "name" in task else {}) for at, task in enumerate(plain)]
    return named + SMALLEST["tasks"]


def of(stage: str) -> Callable[..., str]:
    """What gives the parameters of a stage: the function of its name, or else `page`, or for a method `estimator`."""
    other = partial(page, name=stage) if stage in PAGES else partial(estimator, method=stage)
    return globals().get(stage, other)


def of_page(grid: Grid, name: str, recorded: dict) -> dict:
    """What a grid now tells the stage of a page; nothing if the page's record lacks a name that its stage goes by."""
    stage, _, place = name.partition("-")
    known = recorded | {"variant": place.partition("_")[2], "page": place}
    _, *names = (key for key, one in inspect.signature(of(stage)).parameters.items() if one.default is one.empty)
    return json.loads(of(stage)(grid, **{key: known[key] for key in names})) if {*names} <= {*known} else {}


def page(grid: Grid, name: str) -> str:
    """Parameters of one of `PAGES`."""
    table, *more = PAGES[name]
    known = {"answers": answers(grid), "links": True, "variants": [*lora_variants(grid)]}
    known |= {"more_rows": f"{out(grid)}/controls", "sweeps": f"{out(grid)}/sweeps"}
    known |= {"judged": f"{out(grid)}/judged" if compared(grid) else None}
    names = {"models": list(answers(grid)), "readers": grid.readers, "methods": grid.methods, "seeds": grid.seeds}
    if name == "grading":
        del names["models"]  # the answers' names are those
    places = {"rows": f"{out(grid)}/rows", "estimators": f"{out(grid)}/estimators"}
    values = names | _tasks(grid) | places | {"out": f"{out(grid)}/{table}.parquet"}
    return json.dumps(values | {key: known[key] for key in more})


def out(grid: Grid) -> str:
    """The folder of a grid's results."""
    return f"results/{grid.name}"


def answers(grid: Grid) -> dict[str, str]:
    """For each model, the file of its graded answers."""
    return {model.name: f"{out(grid)}/answers/{model.name}.parquet" for model in grid.models}


def first_layer(grid: Grid) -> float | None:
    """Where adapters begin, which `extract` needs to know; None if no adapter is trained."""
    return grid.lora_prompt.first_layer if "lora_prompt" in grid.methods else None


def questions(grid: Grid) -> str:
    """Parameters of `questions`."""
    values = {"splits": asdict(grid.splits), "shots": grid.answer.shots, "out": f"{out(grid)}/questions.parquet"}
    return json.dumps({"tasks": tasks(grid)} | values)


def answer(grid: Grid, model: str) -> str:
    """Parameters of `answer` for one reader."""
    asked = {"max_new_tokens": grid.answer.max_new_tokens, "samples": grid.answer.samples}
    return json.dumps({"model": model} | _reading(grid, model) | asked | _answered(grid, model))


def answer_file(grid: Grid, model: str) -> str:
    """Parameters of `answer_file` for one model, whose file has to be there; its content is one of them."""
    brings = _model(grid, model)
    about = {"model": model, "answers": brought.file(brings), "columns": renamed(brings.columns)}
    return json.dumps(about | {"digest": brought.digest(brings)} | _answered(grid, model))


def answer_api(grid: Grid, model: str) -> str:
    """Parameters of `answer_api` for one model."""
    about = {"model": model, "api": asdict(_model(grid, model).api), "max_new_tokens": grid.answer.max_new_tokens}
    return json.dumps(about | _answered(grid, model))


def extract(grid: Grid, reader: str) -> str:
    """Parameters of `extract` for one reader and the answers of all models."""
    files = {"answers": answers(grid), "out": f"{out(grid)}/features/{reader}"}
    rows = {"rows_out": f"{out(grid)}/rows/zero_shot/{reader}.parquet"}
    return json.dumps({"reader": reader} | _reading(grid, reader) | {"first_layer": first_layer(grid)} | files | rows)


def estimator(grid: Grid, method: str, reader: str, trained_on: str, seed: str) -> str:
    """Parameters of a method that learns from hidden states, for one reader, model it is trained on, and seed."""
    return json.dumps(_estimator(grid, method, reader, trained_on, seed))


def probe(grid: Grid, reader: str, trained_on: str, seed: str) -> str:
    """Parameters of `probe` for one reader, the model it is trained on and one seed."""
    read = {key: value for key, value in _reading(grid, reader).items() if key != "batch_tokens"}
    return json.dumps(_estimator(grid, "probe", reader, trained_on, seed) | read | _probe(grid, reader))


def lora_prompt(grid: Grid, reader: str, trained_on: str, seed: str) -> str:
    """Parameters of `lora_prompt` for one reader, the model it is trained on and one seed."""
    names = _estimator(grid, "lora_prompt", reader, trained_on, seed)
    if not first_layer(grid):  # nothing is cached to go on from, so that this need not wait for the hidden states
        names["features"] = None
    trained = {"settings": _settings(grid, reader), "method": "lora_prompt", "query": True, "without": None}
    if adapter := (_model(grid, reader).released or {}).get(trained_on):
        trained |= {"settings": {}, "released": {"name": adapter, "digest": adapters.digest(adapter)}}
    return json.dumps(names | _reading(grid, reader) | trained)


def cell(grid: Grid, method: str, reader: str, trained_on: str) -> str:
    """Parameters of `cell` for one method, reader and model that it is trained on."""
    place = f"{method}/{reader}/{trained_on}"
    names = {"method": method, "reader": reader, "trained_on": trained_on, "seeds": grid.seeds} | _tasks(grid)
    files = {"answers": answers(grid), "rows": f"{out(grid)}/rows/{place}"}
    files |= {"estimators": f"{out(grid)}/estimators/{place}"}
    return json.dumps(names | files | {"out": f"{out(grid)}/cells/{method}_{reader}_{trained_on}.parquet"})


def surface(grid: Grid) -> str:
    """Parameters of `surface`; other files of the embedder are other parameters."""
    names = {"answers": answers(grid), "seeds": grid.seeds, "batch_tokens": grid.batch_tokens}
    names |= {"out": f"{out(grid)}/controls/surface.parquet"}
    embedder = grid.controls.embedder
    about = {"embedder": embedder, "digest": assets.digest(embedder) if embedder else None}
    return json.dumps(names | {"strengths": grid.controls.strengths} | about)


def ablate(grid: Grid, reader: str) -> str:
    """Parameters of `ablate` for one reader."""
    names = _of_reader(grid, reader, seeds=grid.seeds)
    sizes = {"strengths": grid.controls.strengths, "sizes": grid.controls.sizes}
    return json.dumps(names | sizes | {"out": f"{out(grid)}/controls/readers/{reader}.parquet"})


def sweep(grid: Grid, reader: str) -> str:
    """Parameters of `sweep` for one reader."""
    names = _of_reader(grid, reader, seed=grid.seeds[0])
    tried = {"strengths": grid.probe.strengths, "sizes": grid.controls.sizes, "positions": kept(first_layer(grid))}
    return json.dumps(names | tried | {"out": f"{out(grid)}/sweeps/{reader}.parquet"})


def lora_variants(grid: Grid) -> dict[str, dict]:
    """The other trainings of LoRA + Prompt that a grid asks for: what each changes, by its name.

    Rows call its method so, too, unless it is the same method, trained on other answers.
    """
    if "lora_prompt" not in grid.methods:
        return {}
    weight = grid.controls.js_weight
    tasks = [task.name for task in grid.tasks if task.role == "train" and not task.name.startswith("mmlu")]
    without = {f"lora_prompt_without_{task}": {"without": task} for task in tasks if len(tasks) > 1}
    together = {"lora_prompt_all_models": {"method": "lora_prompt", "trained_on": ALL_MODELS}}
    asked = {
        "no_query": {"lora": {"query": False}},
        "js_weight": {"lora_prompt_js" if weight else "lora_prompt_no_js": {"settings": {"js_weight": weight}}},
        "left_out": without,
        "all_models": together if len(grid.models) > 1 else {},
    }
    return {method: change for name in grid.controls.lora for method, change in asked[name].items()}


def ablate_lora(grid: Grid, reader: str, variant: str) -> str:
    """Parameters of `lora_prompt` for one of those trainings."""
    seed, change = str(grid.seeds[0]), lora_variants(grid)[variant]
    plain = json.loads(lora_prompt(grid, reader, reader, seed))
    files = {"out": f"{out(grid)}/estimators/{variant}/{reader}"}
    files |= {"rows_out": f"{out(grid)}/controls/lora/{variant}/{reader}.parquet"}
    settings = plain["settings"] | change.get("settings", {})
    return json.dumps(plain | {"method": variant} | change | files | {"settings": settings})


def searched(grid: Grid) -> bool:
    """Whether a grid asks for a search and for the method that it is about."""
    return grid.search is not None and "lora_prompt" in grid.methods


def search(grid: Grid, reader: str) -> str:
    """Parameters of `search` for one reader; the grid has a search."""
    names = _of_reader(grid, reader, seed=grid.seeds[0])
    probe = {key: _probe(grid, reader)[key] for key in ("layers", "strengths")}
    tried = {"settings": _settings(grid, reader)} | asdict(grid.search)
    return json.dumps(names | _reading(grid, reader) | tried | probe | {"out": f"{out(grid)}/search/{reader}.parquet"})


def settings(grid: Grid) -> str:
    """Parameters of `settings`."""
    return json.dumps({"models": grid.readers, "search": f"{out(grid)}/search", "out": f"{out(grid)}/settings.parquet"})


def beside(grid: Grid, page: str) -> str:
    """Parameters of one of `beside_pages` for the packed run that a grid names; raises as `packed` does."""
    values = json.loads(from_folder(packed(grid), page, grid.beside, f"{out(grid)}/beside/{page}.parquet"))
    # A packed run's cells have no pages here.
    return json.dumps(values | ({"links": False} if "links" in values else {}))


def from_folder(grid: Grid, page: str, folder: str, table: str) -> str:
    """Parameters of one of `PAGES`, or of `settings`, for results in another folder than usual, which write `table`."""
    values = json.loads(of(page)(grid))
    places = {name: name for name in ("rows", "sweeps", "estimators", "judged", "search")} | {"more_rows": "controls"}
    moved = {key: f"{folder}/{place}" for key, place in places.items() if values.get(key)}
    if "answers" in values:
        moved["answers"] = {name: f"{folder}/answers/{name}.parquet" for name in answers(grid)}
    return json.dumps(values | moved | {"out": table})


def beside_pages(grid: Grid) -> list[str]:
    """Pages of results of the packed run that a grid names; none if it names none."""
    return [*PAGES, *(["settings"] if Path(grid.beside, "search").is_dir() else [])] if grid.beside else []


def packed(grid: Grid) -> Grid:
    """The grid of the packed run that a grid names as `beside`; a WhoknowsError if a file is missing or wrong."""
    place = Path(grid.beside)
    _there(place / "grid.yml")
    theirs = load(place / "grid.yml")
    tables = ["rows/rows", "controls/controls", *(f"answers/{name}" for name in answers(theirs))]
    for path in ("about.json", *(f"{table}.parquet" for table in tables)):
        _there(place / path)
    return theirs


def _there(path: Path) -> None:
    if not path.exists():
        raise WhoknowsError(
            f"grid, beside: there is no {path}: write the folder with python -m whoknows pack, copy all of it, "
            "or set beside: null"
        )


def compared(grid: Grid) -> bool:
    """Whether a grid has a judge, and tasks that may have open questions, on which it is compared with the run."""
    return grid.judge is not None and any(task.grading in (None, "contains") for task in grid.tasks)


def judge(grid: Grid, model: str) -> str:
    """Parameters of `judge` for one model; the grid has a judge."""
    names = {"answers": answers(grid)[model], "model": model, "url": grid.judge.url, "judge_model": grid.judge.model}
    files = {"log": f"{out(grid)}/judged/{model}.jsonl", "out": f"{out(grid)}/judged/{model}.parquet"}
    return json.dumps(names | files)


def _of_reader(grid: Grid, reader: str, **seeds) -> dict:
    """What every stage that takes a reader's features of all answers is told."""
    return {"reader": reader, "answers": answers(grid), **seeds, "features": f"{out(grid)}/features/{reader}"}


def _model(grid: Grid, name: str) -> Model:
    return next(model for model in grid.models if model.name == name)


def _answered(grid: Grid, model: str) -> dict:
    """What every stage that gives a model's answers is told."""
    written = {"out": answers(grid)[model], "rows_out": f"{out(grid)}/rows/likelihood/{model}.parquet"}
    return {"questions": f"{out(grid)}/questions.parquet"} | written


def _tasks(grid: Grid) -> dict:
    return {"tasks": [{"name": task.name, "size": task.size, "role": task.role} for task in grid.tasks]}


def tasks(grid: Grid) -> list[dict]:
    """What a grid says of each task, and where it has released adapters, what these have learned."""
    more = {"learned": brought.learned(grid)} if any(model.released for model in grid.models) else {}
    split = {"has_splits": True} if more else {}  # a data set's are named, those of a file stand in its lines
    return [asked(task, grid.judge) | more | (split if task.file else {}) for task in grid.tasks]


def asked(task: Task, judge: Endpoint | None) -> dict:
    """All that a grid says of a task, with its judge if that grades it, and a digest of the file with its questions."""
    given = {key: value for key, value in asdict(task).items() if value is not None}
    given |= {"columns": renamed(task.columns)} if task.columns else {}
    given |= {"judge": asdict(judge)} if judge and task.grading == "judge" else {}
    path = brought.file(task)
    return given | ({"file": path, "digest": brought.digest(task)} if path else {})


def template(grid: Grid, model: Model) -> dict | None:
    """What a model's chat template is told; None where it is asked in plain words."""
    return {"day": grid.date, "thinking": bool(model.thinking)} if model.source.startswith(CHAT) else None


def _reading(grid: Grid, name: str) -> dict:
    """What every stage that loads a language model is told; other files of it, or another day, are other parameters."""
    model = _model(grid, name)
    about = {"template": template(grid, model), "digest": assets.digest(model.source)}
    return {"source": model.source, "precision": grid.precision, "batch_tokens": grid.batch_tokens} | about


def _probe(grid: Grid, reader: str) -> dict:
    """The section `probe`, with the reader's own layers if it has some."""
    layers = _model(grid, reader).layers
    return asdict(grid.probe) | ({"layers": layers} if layers else {})


def _settings(grid: Grid, reader: str) -> dict:
    """The section `lora_prompt`, with the reader's own learning rate if it has one."""
    rate = _model(grid, reader).learning_rate
    return asdict(grid.lora_prompt) | ({"learning_rate": rate} if rate else {})


def _estimator(grid: Grid, method: str, reader: str, trained_on: str, seed: str) -> dict:
    place = f"{method}/{reader}/{trained_on}/seed{seed}"
    files = {"answers": answers(grid), "features": f"{out(grid)}/features/{reader}"}
    files |= {"out": f"{out(grid)}/estimators/{place}", "rows_out": f"{out(grid)}/rows/{place}.parquet"}
    return {"reader": reader, "trained_on": trained_on, "seed": int(seed)} | files
