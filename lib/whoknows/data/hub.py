"""The Hugging Face hub: whether what a grid names can be had from there, asked before anything is computed."""

import re
from pathlib import Path

from whoknows import WhoknowsError

TOKEN = re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{16,}")


def config(source: str) -> Path | None:
    """The config.json of a model, in a folder that is called as its commit; None if it was not fetched, or this is no name on the hub."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(source, "config.json")
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def commit(source: str) -> str | None:
    """The commit of what was fetched of a model; None if nothing was."""
    found = config(source)
    return found and found.parent.name


def check(source: str) -> None:
    """Asks the hub for a model, and fetches its configuration, so that it is known which commit this is; what was fetched before is not asked for again.

    Args:
        source: organisation/model.

    Raises:
        WhoknowsError: the model is gated, unknown, or the hub cannot be reached; the sentence says what to do.
    """
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if commit(source):
        return
    account = "a token of that account in the environment variable HF_TOKEN, or with `hf auth login`"
    try:
        HfApi().auth_check(source)
        hf_hub_download(source, "config.json")
    except GatedRepoError:
        raise WhoknowsError(
            f"models: {source} is gated: accept its terms at https://huggingface.co/{source} and give {account}."
        ) from None
    except RepositoryNotFoundError:
        raise WhoknowsError(
            f"models: the Hugging Face hub has no {source} for you: mend the name, or, if it is private, give {account}."
        ) from None
    except Exception as error:  # whatever its HTTP client has, which changes from version to version
        said = type(error).__name__
        raise WhoknowsError(
            f"models: the Hugging Face hub could not be asked for {source} ({said}): try again, or name a local folder."
        ) from None


def hide(text: str) -> str:
    """Text without the hub's tokens, whosever they are: logs, notebooks and pages are kept and passed on."""
    return TOKEN.sub("***", text)
