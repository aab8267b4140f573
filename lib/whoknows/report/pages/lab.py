"""Charts as JupyterLab draws them by itself; Altair's usual way asks another host for Vega each time."""

import altair as alt

CHART = "application/vnd.vegalite.v5+json"  # the newest that JupyterLab knows; nothing in these charts is newer
WIDTH = 640  # pixels


def enable() -> None:
    """Lets every chart of this process be shown that way; `make lab` has each kernel do it."""
    alt.renderers.register("jupyterlab", lambda spec, **_: bundle(spec))
    alt.renderers.enable("jupyterlab")


def bundle(spec: dict) -> dict:
    """What a chart shows as, by MIME type, never as wide as its container.

    JupyterLab draws a chart before its cell is laid out, keeps a PNG of it, and draws it again as long as it has none. Of a
    chart as wide as a container that has no width yet the PNG is empty, so that it would be drawn without end.

    Args:
        spec: Vega-Lite.
    """
    shown = spec | {"width": WIDTH} if spec.get("width") == "container" else spec
    return {CHART: shown, "text/plain": spec.get("description", "a chart")}
