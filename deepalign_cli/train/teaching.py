"""One classifier that answers as many do on average: where the decoder of an autoencoder begins.

The mean over teachers of KL(p_i || q) differs from KL(mean p_i || q) by what does not depend on q, so that it
is enough to know the teachers' mean answers. Each input is then asked of the teachers once.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import log_softmax

from deepalign_cli.train.corpus import Corpus
from deepalign_cli.train.functional_losses import outputs_of
from deepalign_cli.train.run_state import generator_of

_MOST = 10000  # inputs
_BATCH = 64
_AT_ONCE = 500
_RATE = 3e-3
_LAST = 0.02  # of the rate, at the end


def taught_network(corpus: Corpus, steps: int, temperature: float) -> dict[str, Tensor]:
    """`Corpus.start`, trained for so many steps of 64 inputs to answer as the training networks on average.

    Adam with a cosine to a fiftieth of the first rate, 3e-3, on at most 10,000 training images without their
    labels; answers are softmax(y / temperature).
    """
    x, answers = corpus.inputs[:_MOST], _mean_answers(corpus, temperature)
    student = {name: w.clone().requires_grad_() for name, w in corpus.start(0).items()}
    optimiser = torch.optim.Adam(student.values(), lr=_RATE, fused=True)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, steps), eta_min=_RATE * _LAST)
    for step in range(steps):
        rows = torch.randint(len(x), (_BATCH,), generator=generator_of(0, step)).to(x.device)
        said = log_softmax(corpus.design(student, x[rows]) / temperature, dim=-1)
        optimiser.zero_grad()
        torch.autograd.backward(-(answers[rows] * said).sum(-1).mean())
        optimiser.step()
        rate.step()
    return {name: w.detach() for name, w in student.items()}


@torch.no_grad()
def _mean_answers(corpus: Corpus, temperature: float) -> Float[Tensor, "n classes"]:
    teachers = corpus.stack(corpus.train)
    parts = [
        (outputs_of(corpus.design, teachers, x) / temperature).softmax(-1).mean(0)
        for x in torch.split(corpus.inputs[:_MOST], _AT_ONCE)
    ]
    return torch.cat(parts)
