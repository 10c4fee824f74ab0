"""What the state head does in a scene, and how often it errs, by kind of scene. Knows nothing of models."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from icebreaker.training.scenes import ASKING, CHUNK_FRAMES, KINDS, Kind, Scene

__all__ = ["Outcome", "outcome", "turn_figures"]

DECIDED = 0.5  # the official threshold on a class's probability
MARGIN_FRAMES = 10  # recordings end so long after their last sound
FRAME_MS = 10.0


@dataclass(frozen=True)
class Outcome:
    """The head's first verdict in a scene."""

    kind: Kind
    took: bool
    dismissed: bool
    delay_ms: float  # of the verdict, after the last sound; negative while there is still speech; nan without one


def outcome(probabilities: Tensor, scene: Scene) -> Outcome:
    """Read [chunks, 3] probabilities as a conversation does: chunk by chunk, dismissal first, until there is a verdict.

    Args:
        probabilities: of listening on, answering and dismissing, after every chunk.
        scene: what was heard.
    """
    for index, (_, answer, dismiss) in enumerate(probabilities.tolist(), start=1):
        if max(answer, dismiss) > DECIDED:
            delay_ms = (index * CHUNK_FRAMES - scene.speech_end + MARGIN_FRAMES) * FRAME_MS
            dismissed = dismiss > DECIDED
            return Outcome(scene.kind, not dismissed, dismissed, delay_ms)
    return Outcome(scene.kind, False, False, float("nan"))


def turn_figures(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Named shares by kind.

    Of scenes that end in a question: ``_taken`` in time, ``_early`` (before the last sound), ``_never``, and the delay
    of those in time, ``_delay_ms`` and ``_delay_p90_ms``. Of the others: ``_answered`` and ``_dismissed``.
    """
    figures = dict[str, float]()
    for kind in KINDS:
        of_kind = [each for each in outcomes if each.kind == kind]
        if not of_kind:
            continue
        total = len(of_kind)
        if kind not in ASKING:
            figures[f"{kind}_answered"] = sum(each.took for each in of_kind) / total
            figures[f"{kind}_dismissed"] = sum(each.dismissed for each in of_kind) / total
            continue
        delays = [each.delay_ms for each in of_kind if each.took and each.delay_ms >= 0]
        early = sum(each.took and each.delay_ms < 0 for each in of_kind)
        figures[f"{kind}_taken"] = len(delays) / total
        figures[f"{kind}_early"] = early / total
        figures[f"{kind}_never"] = (total - early - len(delays)) / total
        figures[f"{kind}_delay_ms"] = float(np.median(delays)) if delays else float("nan")
        figures[f"{kind}_delay_p90_ms"] = float(np.percentile(delays, 90)) if delays else float("nan")
    return figures
