"""A sentence embedder: what texts say, as vectors."""

import torch
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm
from transformers import AutoModel

from whoknows import WhoknowsError
from whoknows.data import assets
from whoknows.models.batching import TokenBudget, send
from whoknows.models.loading import device, pretrained

LONGEST = 256  # tokens, as all-MiniLM-L6-v2 was trained; what is longer is cut


@torch.inference_mode()
def embed(source: str, texts: list[str], batch_tokens: int | None, digest: str | None = None) -> torch.Tensor:
    """Unit vectors of texts: the mean of the last hidden states over a text's tokens (Reimers and Gurevych, 2019).

    The source is an asset's name, a local folder or a name on the Hugging Face hub; [len(texts), width] float32 come
    out, of equal texts computed once. The digest is `assets.digest` of when the run was planned, and of a source on the
    hub the commit that is loaded; None takes what is there.

    Raises:
        WhoknowsError: there is no such model, its files are incomplete, or they are not those of the digest.
    """
    folder = assets.fetch(source) if source in assets.ASSETS else assets.resolve(source)
    there, hub = assets.digest(source), assets.on_hub(source)
    if digest and digest != there and not hub:
        raise WhoknowsError(f"the embedder {source!r} has changed since the run was planned; run it again")
    tokenizer, model = pretrained(
        AutoModel, source, str(folder), {"revision": digest or there} if hub else {}, device_map={"": device()}
    )
    distinct = list(dict.fromkeys(texts))
    ids = [torch.tensor(i) for i in tokenizer(distinct, truncation=True, max_length=LONGEST).input_ids]

    def work(batch: list[int]) -> tuple[torch.Tensor]:
        rows = [ids[t] for t in batch]
        mask = send(pad_sequence([torch.ones_like(row) for row in rows], batch_first=True), model.device)
        inputs = send(pad_sequence(rows, batch_first=True), model.device)
        last = model(input_ids=inputs, attention_mask=mask).last_hidden_state
        mean = (last * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return (torch.nn.functional.normalize(mean, dim=-1),)

    embeddings = torch.empty(len(distinct), model.config.hidden_size)
    with tqdm(total=len(distinct), desc="embedding", unit="text") as bar:
        for batch, (vectors,) in TokenBudget(batch_tokens, model.device).run(work, [len(i) for i in ids]):
            embeddings[batch] = vectors
            bar.update(len(batch))
    place = {text: at for at, text in enumerate(distinct)}
    return embeddings[[place[text] for text in texts]]
