"""Tiny language models for all tests, made once in a session."""

import os
import signal
import threading
from types import SimpleNamespace

# Started in the background, we are told to ignore Ctrl-C, and our children with us; some tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: tiny models are slower on more threads
os.environ.setdefault("TQDM_DISABLE", "1")

import pytest


def pytest_collection_modifyitems(items):
    """Puts the files that take longest first, so that no process is left with one of them at the end."""
    longest = ("test_smoke", "test_outside", "test_workflow", "test_decoders", "test_by_hand", "test_explore")
    items.sort(key=lambda item: longest.index(item.path.stem) if item.path.stem in longest else len(longest))


@pytest.fixture(scope="session", autouse=True)
def proofs(tmp_path_factory):
    """What was proven of a model is remembered for these tests, and not in the user's cache."""
    from whoknows.models import proof

    folder, usual = tmp_path_factory.mktemp("proofs"), proof._remembered
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proof, "_remembered", lambda what: folder / usual(what).name)
        yield


@pytest.fixture(scope="session")
def readers(tmp_path_factory):
    """Both tiny models, in float32."""
    import torch

    from whoknows.data import assets
    from whoknows.models import loading

    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WHOKNOWS_CACHE", str(tmp_path_factory.mktemp("cache")))
        return {name: loading.load(name, "float32") for name in assets.TINY}


@pytest.fixture(scope="session")
def llama(readers):
    return readers["tiny-llama"]


@pytest.fixture(scope="session")
def mistral(readers):
    return readers["tiny-mistral"]


@pytest.fixture(params=["tiny-llama", "tiny-mistral"])
def reader(readers, request):
    return readers[request.param]


@pytest.fixture
def hub_server(monkeypatch, tmp_path):
    """A server like the Hugging Face hub; this process asks it, and so do its children."""
    from huggingface_hub import constants, hf_api
    from huggingface_hub.utils import _http
    from transformers.utils import hub

    from fake_hub import TOKEN, Hub

    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = {
        "HF_ENDPOINT": server.address,
        "HF_HOME": str(tmp_path / "hub"),
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    for name, value in {
        "ENDPOINT": server.address,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.address + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(tmp_path / "hub/hub"),
        "HF_TOKEN_PATH": str(tmp_path / "hub/token"),
        "HF_HUB_DISABLE_XET": True,
    }.items():
        monkeypatch.setattr(constants, name, value)
    for api in (hf_api.api, hub.hf_api()):  # which have the address of whoever asked first
        monkeypatch.setattr(api, "endpoint", server.address)
    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=lambda seconds: None))  # between its retries
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def endpoint(monkeypatch):
    """A server that stands in for an endpoint; waiting between tries takes no time, and is in `waits`."""
    from fake_endpoint import Endpoint
    from whoknows.stages import answer_api, judge
    from whoknows.stages import endpoint as client

    for stage in (answer_api, judge):
        monkeypatch.delenv(stage.KEY, raising=False)
    server = Endpoint()
    server.waits = []
    wait = server.waits.append
    monkeypatch.setattr(client.Endpoint, "_sleep", lambda self, seconds: wait(seconds) if seconds > 0 else None)
    threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
