"""A model from whose answers nothing can be learned: all others have their results, and the pages say why."""

import json
from shutil import rmtree

import pytest

from made_up import THREE, a_run, pages_of
from whoknows.data.rows import NO_ROWS
from whoknows.evaluation import plateau

WHY = "no right answer among the training answers"
SAID = f"**Nothing could be trained** on the answers of cedar, seed 0: {WHY}; of cedar, seed 1: {WHY}."


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of three models, one of which taught nothing."""
    folder = tmp_path_factory.mktemp("run")
    a_run(folder)
    for path in (folder / "controls").rglob("cedar"):
        rmtree(path)
    for method in ("probe", "lora_prompt"):
        for reader in THREE:
            for seed in (0, 1):
                names = {"method": method, "reader": reader, "trained_on": "cedar", "seed": seed}
                place = f"{method}/{reader}/cedar/seed{seed}"
                rows = folder / "rows" / f"{place}.parquet"
                rows.parent.mkdir(parents=True, exist_ok=True)
                rows.write_bytes(NO_ROWS.to_parquet())
                card = folder / "estimators" / place / f"{method}.json"
                card.parent.mkdir(parents=True, exist_ok=True)
                card.write_text(json.dumps(names | {"untrained": WHY}))
    control = {"method": "lora_prompt_without_cities", "reader": "ash", "trained_on": "birch", "seed": 0}
    card = folder / "estimators/lora_prompt_without_cities/ash/lora_prompt_without_cities.json"
    card.parent.mkdir(parents=True)
    card.write_text(json.dumps(control | {"untrained": WHY}))
    return folder


@pytest.fixture(scope="module")
def page(run):
    return pages_of(run)


@pytest.mark.parametrize("name", ["heatmaps", "claims", "differences", "worth", "controls", "shift", "recompute"])
def test_a_page_of_results_shows_the_others(page, name):
    shown, table = page(name)
    assert len(table) and shown
    if name != "recompute":
        assert any(isinstance(text, str) and text.endswith(SAID) for text in shown)


def test_a_control_that_was_not_trained_says_so_on_its_own_page(run):
    said = plateau.elsewhere(run / "estimators/lora_prompt_without_cities", NO_ROWS).strip()
    assert said == f"**Nothing could be trained** on the answers of birch, seed 0: {WHY}."


@pytest.mark.parametrize("method", ["probe", "lora_prompt"])
def test_its_own_page_says_why(page, method):
    shown, table = page("cell", method=method, reader="ash", trained_on="cedar")
    assert table.empty and [text.strip() for text in shown if text] == [SAID]
