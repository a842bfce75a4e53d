"""The rows that deepalign reads whenever it starts. They import no torch: `loads` does so when it is used."""

from __future__ import annotations

from deepalign_cli.aligners.methods import Method
from deepalign_cli.combiners.combiner import Combiner
from deepalign_cli.parameters import Parameter

ORDER = Parameter("order", float, 2.0, "Which norm of a unit's weights to sort by; 2 by default.", 1, 100)

NORMS = Method(
    name="norms",
    help="sort the units of both networks by the norm of their weights",
    paper="",
    loads="deepalign_norms.method:NormMatching",
    parameters=(ORDER,),
)
MEDIAN = Combiner(
    name="median",
    help="the median of every number, which one network out of three cannot spoil",
    paper="",
    loads="deepalign_norms.combiner:Median",
    sentence="The median of {count} networks.",
)
