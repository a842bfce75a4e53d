"""The table of combiners: the one place where a combiner is registered. Importing it loads no torch."""

from __future__ import annotations

from functools import partial

from deepalign_cli.combiners.combiner import Combiner, Weighing
from deepalign_cli.parameters import Parameter
from deepalign_cli.registry import Table

DEFAULT = "linear"
_AT = "deepalign_cli.combiners"
_TIES = "TIES (Yadav et al. 2023, arXiv 2306.01708)"
_DARE = "DARE (Yu et al. 2024, arXiv 2311.03099)"
_BREADCRUMBS = "Model Breadcrumbs (Davari and Belilovsky 2024, arXiv 2312.06795)"
_DELLA = "DELLA (Deep et al. 2024, arXiv 2406.11617)"
_on_base = partial(Combiner, base=True, weighing=Weighing.FACTORS)

DENSITY = Parameter(
    "density", float, 1.0,
    "The share of the entries of each task vector to keep, of sce of those that differ; 1, all, by default.",
    above=0, most=1, each=True,
)  # fmt: skip
LAMBDA = Parameter(
    "lambda_", float, 1.0, "What the combined task vector is multiplied by; 1 by default.", each=True
)
GAMMA = Parameter(
    "gamma", float, 0.01, "The share of largest entries to drop; 0.01 by default.", 0, 1, each=True
)
OFF_DIAGONAL = Parameter(
    "off_diagonal", float, 0.9,
    "What Gram matrices are multiplied by off their diagonal; 0.9 by default. Lower is steadier.", 0, 1,
)  # fmt: skip
EPSILON = Parameter(
    "epsilon", float, 0.15,
    "How far the probability to keep an entry is from the density, below at the smallest of its row and "
    "above at the largest; 0.15 by default.", 0, 0.5, each=True,
)  # fmt: skip

COMBINERS: Table[Combiner] = Table(
    "combiner",
    "deepalign.combiners",
    (
        Combiner(
            "linear", "the weighted average", "Model soups (Wortsman et al. 2022, arXiv 2203.05482)",
            f"{_AT}.linear:WeightedMean", "The average of {count} networks.", elementwise=True,
        ),
        Combiner(
            "slerp",
            "the arc between two networks, tensor by tensor; the line where it is shorter than 1.8 degrees",
            "Shoemake 1985", f"{_AT}.slerp:Slerp", "A point on the arc between {count} networks.",
            most=2, least=2,
        ),
        Combiner(
            "nuslerp", "the arc however short it is; with a base, the arc between task vectors",
            "Shoemake 1985; mergekit (Goddard et al. 2024, arXiv 2403.13257)", f"{_AT}.nuslerp:NuSlerp",
            "A point on the arc between two networks ({count} inputs).",
            most=2, least=2, base=True, optional_base=True,
        ),
        Combiner(
            "karcher", "the mean direction on the sphere, times the mean norm",
            "Karcher 1977; Buss and Fillmore 2001", f"{_AT}.karcher:KarcherMean",
            "The mean direction of {count} networks (Karcher mean).",
        ),
        _on_base(
            "task_arithmetic", "the base plus all task vectors (network minus base)",
            "Task arithmetic (Ilharco et al. 2023, arXiv 2212.04089)",
            f"{_AT}.task_arithmetic:TaskArithmetic",
            "What {count} networks, the first of them the base, have learned, added to the base.",
            (LAMBDA,), elementwise=True,
        ),
        _on_base(
            "ties", "the largest entries of task vectors, averaged where signs agree", _TIES,
            f"{_AT}.ties:Ties", "What {count} networks, the first of them the base, agree on (TIES).",
            (DENSITY, LAMBDA),
        ),
        _on_base(
            "dare_linear", "a random part of task vectors, scaled up, and summed", _DARE,
            f"{_AT}.dare:DareLinear",
            "A random part of what {count} networks, the first of them the base, have learned (DARE).",
            (DENSITY, LAMBDA), seeded=True,
        ),
        _on_base(
            "dare_ties", "a random part of task vectors, scaled up, and summed where signs agree",
            f"{_DARE}; {_TIES}", f"{_AT}.dare:DareTies",
            "A random part of what {count} networks, the first of them the base, agree on (DARE, TIES).",
            (DENSITY, LAMBDA), seeded=True,
        ),
        _on_base(
            "breadcrumbs", "task vectors without their smallest and largest entries, summed", _BREADCRUMBS,
            f"{_AT}.breadcrumbs:Breadcrumbs",
            "What {count} networks, the first of them the base, have learned, without the extremes "
            "(Model Breadcrumbs).",
            (DENSITY, GAMMA, LAMBDA),
        ),
        _on_base(
            "breadcrumbs_ties", "what breadcrumbs keeps, summed where signs agree",
            f"{_BREADCRUMBS}; {_TIES}", f"{_AT}.breadcrumbs:BreadcrumbsTies",
            "What {count} networks, the first of them the base, agree on, without the extremes "
            "(Model Breadcrumbs, TIES).",
            (DENSITY, GAMMA, LAMBDA),
        ),
        _on_base(
            "della", "a random part of task vectors, large entries rather than small ones, scaled up, and "
            "averaged where signs agree", _DELLA, f"{_AT}.della:Della",
            "A random part of what {count} networks, the first of them the base, agree on (DELLA).",
            (DENSITY, EPSILON, LAMBDA), seeded=True,
        ),
        _on_base(
            "della_linear", "what della keeps, summed", _DELLA, f"{_AT}.della:DellaLinear",
            "A random part of what {count} networks, the first of them the base, have learned (DELLA).",
            (DENSITY, EPSILON, LAMBDA), seeded=True,
        ),
        Combiner(
            "sce", "the entries in which networks differ most, weighed by size, averaged where signs agree",
            "SCE (FuseChat, Wan et al. 2024, arXiv 2408.07990)", f"{_AT}.sce:Sce",
            "What {count} networks, the first of them the base, differ in, added to the base (SCE).",
            (DENSITY,), base=True, weighing=Weighing.NONE,
        ),
        Combiner(
            "model_stock", "from the base towards the average, further the more alike task vectors are",
            "Model Stock (Jang et al. 2024, arXiv 2403.19522)", f"{_AT}.model_stock:ModelStock",
            "Of {count} networks the first, the base, moved towards the average of the others (Model Stock).",
            base=True, least=2, weighing=Weighing.NONE,
        ),
        Combiner(
            "fisher", "the average in which an entry counts by its Fisher information; needs data",
            "Fisher merging (Matena and Raffel 2022, arXiv 2111.09832)", f"{_AT}.fisher:FisherMean",
            "The average of {count} networks, weighed by their Fisher information.",
            seeded=True, prepares=f"{_AT}.fisher:diagonal_fisher",
        ),
        Combiner(
            "regmean", "linear layers whose outputs are nearest to those of all networks; needs data",
            "RegMean (Jin et al. 2023, arXiv 2212.09849)", f"{_AT}.regmean:RegressionMean",
            "The network whose linear layers come nearest to those of {count} networks (RegMean).",
            (OFF_DIAGONAL,), prepares=f"{_AT}.regmean:input_grams",
        ),
        Combiner(
            "latent", "what an autoencoder writes for the mean of latents, another function; by -m canonical",
            "ScaleGMN autoencoders (Boufalis et al. 2025, arXiv 2511.12601)", f"{_AT}.latent:LatentMean",
            "What an autoencoder writes for the mean latent of {count} networks, which is another function.",
            encodes=f"{_AT}.latent:encoded", method="canonical",
        ),
    ),
)  # fmt: skip
