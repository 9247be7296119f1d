"""A search space in Hydra's words: what is fixed, and what may be drawn from where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep

from tl_lightning.errors import UserError
from tl_lightning.search import Dimension


def space(words: Sequence[str]) -> tuple[list[str], dict[str, Dimension]]:
    """Words with one value, and a dimension for each of the others, a later word in place of an earlier.

    `a,b`, choice(a,b), range(1,5), interval(1e-4,1e-2), tag(log, interval(1e-4,1e-2)). Raises UserError for a range
    that is empty, or where there is nothing to search.
    """
    fixed: dict[str, str] = {}
    dimensions: dict[str, Dimension] = {}
    for override in OverridesParser.create().parse_overrides(list(words)):
        key = override.get_key_element()
        fixed.pop(key, None)
        dimensions.pop(key, None)
        if override.is_sweep_override():
            dimensions[key] = _dimension(override)
        else:
            fixed[key] = f"{key}={override.get_value_element_as_str()}"
    if not dimensions:
        raise UserError("there is nothing to search: say KEY=a,b or KEY=interval(LOW,HIGH), or hparams_search=STRATEGY")
    return list(fixed.values()), dimensions


def _dimension(override: Override) -> Dimension:
    value: Any = override.value()
    if isinstance(value, IntervalSweep):
        low, high = value.start, value.end
        whole = isinstance(low, int) and isinstance(high, int)
        if low is None or high is None or low > high or ("log" in value.tags and low <= 0):
            raise UserError(f"{override.input_line}: the interval is empty")
        return Dimension(low=low, high=high, whole=whole, log="log" in value.tags)
    if isinstance(value, RangeSweep):
        numbers = list(value.range())
        if not numbers:
            raise UserError(f"{override.input_line}: the range is empty")
        whole = all(isinstance(number, int) for number in numbers)
        return Dimension(low=min(numbers), high=max(numbers), whole=whole, step=abs(value.step))
    assert isinstance(value, ChoiceSweep) or override.is_discrete_sweep()
    choices = tuple(str(text) for text in override.sweep_string_iterator())
    return Dimension(choices=choices)
