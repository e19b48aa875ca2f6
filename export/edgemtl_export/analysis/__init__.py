"""Channel analysis: which channels of a program are zero, constant, unused or pinned, and which are coupled.

`analyse` interprets the program's graph by ``RULES``, one rule for each operator. To prune across an operator that has
none, write its rule (`Rule`) and give ``RULES | {"namespace.operator": rule}`` to `shrink` and `channel_groups`. A rule
returns the result's `Value`; of channels that it mixes it records with `ChannelBuilder.add_read` which outputs need
which inputs, and with `ChannelBuilder.couple` which channels can only be removed together.
"""

from .builder import ChannelBuilder, Rule
from .channels import Channels
from .interpret import analyse
from .ops import attention, convolution, linear, movement, normalisation, pointwise, pooling
from .values import Value, mask_unknown, unknown

RULES: dict[str, Rule] = {
    **attention.RULES,
    **convolution.RULES,
    **linear.RULES,
    **movement.RULES,
    **normalisation.RULES,
    **pointwise.RULES,
    **pooling.RULES,
}
"""The pruning rule of every operator that has one, by its name without overload (``aten.conv2d``)."""

__all__ = ["RULES", "ChannelBuilder", "Channels", "Rule", "Value", "analyse", "mask_unknown", "unknown"]
