"""A shard: some of a stage's questions, done by one of several jobs, before the stage itself puts their parts together.

`python -m whoknows shard answer|extract PARAMETERS WHICH JOBS DONE`: PARAMETERS are the stage's notebook's, as JSON,
and DONE is a file that is written at the end.
"""

import argparse
import json

from whoknows.data import files
from whoknows.run import gpus


def run(stage: str, parameters: dict, shard: list[int]) -> None:
    """Does a share (see `resume.mine`) of the questions of `answer` or `extract`, where the stage will find them."""
    from whoknows.models import loading
    from whoknows.stages import answer, extract  # not above: the command first chooses a GPU

    reader = loading.load(*(parameters[key] for key in ("source", "precision", "template", "digest")))
    budget, out = parameters["batch_tokens"], parameters["out"]
    if stage == "answer":
        questions = files.read_parquet(parameters["questions"])
        answer.run(reader, questions, parameters["max_new_tokens"], budget, out, parameters["samples"], shard)
    else:
        frames = {scored: files.read_parquet(path) for scored, path in parameters["answers"].items()}
        extract.run(parameters["reader"], reader, frames, parameters["first_layer"], budget, out, shard)


def main(arguments: list[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="whoknows shard", description="Does a share of a stage's questions.")
    parser.add_argument("stage", choices=["answer", "extract"])
    parser.add_argument("parameters", type=json.loads)
    parser.add_argument("which", type=int)
    parser.add_argument("jobs", type=int)
    parser.add_argument("done")
    parser.add_argument("--gpus", type=int, default=0, help="how many of those that a workflow's runs share")
    options = parser.parse_args(arguments)
    gpus.take(options.gpus)
    run(options.stage, options.parameters, [options.which, options.jobs])
    files.write_text(options.done, f"{options.which + 1} of {options.jobs}\n")
