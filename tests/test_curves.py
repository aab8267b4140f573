"""The curves hold every point that was measured, and are valid Vega-Lite."""

from whoknows import curves


def test_the_layer_curve_rings_the_best_point():
    search = [{"layer": layer, "strength": s, "validation_auroc": 0.5 + layer / 10 - s} for layer in range(3) for s in (0.01, 0.1)]
    spec = curves.layer_curve(search).to_dict()
    lines, ring = (spec["datasets"][layer["data"]["name"]] for layer in spec["layer"])
    assert len(lines) == 6
    assert ring == [{"layer": 2, "strength": 0.01, "validation_auroc": 0.69}]


def test_the_training_curve_shows_loss_and_auroc():
    history = [{"step": 4, "loss": 0.7, "validation_auroc": 0.5}, {"step": 8, "loss": 0.6, "validation_auroc": 0.6}]
    spec = curves.training_curve(history).to_dict()
    assert [panel["encoding"]["y"]["field"] for panel in spec["hconcat"]] == ["loss", "validation_auroc"]
    assert history in list(spec["datasets"].values())
