"""Charts as JupyterLab draws them by itself; Altair's usual way asks another host for Vega each time."""

import altair as alt

CHART = "application/vnd.vegalite.v5+json"  # the newest that JupyterLab knows; nothing in these charts is newer


def enable() -> None:
    """Lets every chart of this process be shown that way; `make lab` has each kernel do it."""
    alt.renderers.register("jupyterlab", lambda spec, **_: bundle(spec))
    alt.renderers.enable("jupyterlab")


def bundle(spec: dict) -> dict:
    """What a chart shows as, by MIME type.

    Args:
        spec: Vega-Lite.
    """
    return {CHART: spec, "text/plain": spec.get("description", "a chart")}
