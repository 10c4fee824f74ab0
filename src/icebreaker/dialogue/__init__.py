"""Speech in, speech out: the one path for a batch of conversations that drift apart.

16 kHz waveform -> fbank -> encoder -> adapter -> LLM -> turn head -> duplex.transition
                                                  LLM -> text and hidden states -> segments
                                                         segments -> codec LM -> codes -> codec -> waveform
"""

from icebreaker.dialogue.dialogue import Dialogue, StepOutput
from icebreaker.dialogue.parts import DialogueSettings, Parts
from icebreaker.dialogue.state import DialogueState

__all__ = ["Dialogue", "DialogueSettings", "DialogueState", "Parts", "StepOutput"]
