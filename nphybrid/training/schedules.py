"""Learning rates that change from step to step, as in `get_scheduler` of transformers."""
import math

SCHEDULES = ("constant", "linear", "cosine")


def learning_rate(kind: str, peak: float, step: int, steps: int, warmup: int = 0) -> float:
    """The learning rate of a step.

    In the first `warmup` steps, the rate rises linearly from 0 to `peak`. After that, the rate stays at `peak`
    ("constant"), falls linearly to 0 ("linear"), or falls to 0 along half a period of a cosine ("cosine"). `step` is
    counted from 0, and `steps` is the number of all steps.

    >>> [learning_rate("linear", 1.0, step, steps=6, warmup=2) for step in range(6)]
    [0.0, 0.5, 1.0, 0.75, 0.5, 0.25]
    """
    if kind not in SCHEDULES:
        raise ValueError(f"schedule: expected one of {', '.join(SCHEDULES)}, found {kind!r}")
    if step < warmup:
        return peak * step / warmup
    if kind == "constant":
        return peak
    if kind == "linear":
        return peak * max(0.0, (steps - step) / max(1, steps - warmup))
    progress = (step - warmup) / max(1, steps - warmup)
    return peak * max(0.0, 0.5 * (1 + math.cos(math.pi * progress)))
