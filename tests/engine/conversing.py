"""What tests say to a session of a room, and what they make of its answer."""

from typing import Any

import numpy as np
import torch

from icebreaker.engine.messages import AddItem, Append, AudioDelta, Item, ReplyDone, Respond, SessionConfig, TextDelta
from icebreaker.engine.session import Session

CLIENT = SessionConfig(turns="client")
SPEECH = 0.1 * np.random.default_rng(0).standard_normal(9000).astype(np.float32)


def only(events: list[Any], kind: type[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def said(events: list[Any]) -> str:
    return "".join(event.text for event in only(events, TextDelta))


def sound(events: list[Any]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.float32), *(event.waveform for event in only(events, AudioDelta))])


def written(text: str, item_id: str) -> AddItem:
    return AddItem(item=Item(id=item_id, role="user", text=text))


def ask(room: Any, session: Session, text: str, **how: Any) -> list[Any]:
    session.push(written(text, f"u{session.live.memory.conversation.new_id()}"))
    session.push(Respond(**how))
    return room.until(session, ReplyDone)  # type: ignore[no-any-return]


def context_is_fresh(room: Any, session: Session) -> None:
    """The slot holds, value for value, what the LLM makes of the conversation's items read from the start."""
    live, device = session.live, room.engine.device
    assert live.slot is not None
    keys = live.talking.reading(live.config, room=0)
    inputs = device.read(live.slot, keys, live.memory.blobs, fresh=True)
    with torch.inference_mode():
        fed = torch.zeros(len(device.state.rows), len(inputs), inputs.shape[1])
        lengths = torch.zeros(len(fed), dtype=torch.long)
        fed[live.slot.index], lengths[live.slot.index] = inputs, len(inputs)
        _, ours = device.llm(fed, device.state.context, lengths)
        alone = device.embed(keys, live.memory.blobs)[None]
        _, fresh = device.llm(alone, device.llm.new_cache(1, len(keys)), torch.tensor([len(keys)]))
    assert int(ours.length[live.slot.index]) == len(keys)
    for mine, theirs in zip(ours.keys, fresh.keys, strict=True):
        torch.testing.assert_close(mine[live.slot.index, :, : len(keys)], theirs[0], atol=1e-4, rtol=1e-4)


def speak(room: Any, session: Session, waveform: np.ndarray, events: list[Any]) -> None:
    """In real time, by the room's clock."""
    for start in range(0, len(waveform), 160):
        session.push(Append(waveform=waveform[start : start + 160]))
        room.tick()
        events += session.outbox.take()


QWEN = (
    "{% if tools %}<|im_start|>system\n{{ messages[0]['content'] if messages[0]['role'] == 'system' else '' }}"
    "{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}<tool_call></tool_call><|im_end|>\n{% endif %}"
    "{% for m in messages %}{% if m['role'] == 'tool' %}<|im_start|>user\n<tool_response>{{ m['content'] }}"
    "</tool_response><|im_end|>\n{% elif not (tools and loop.first and m['role'] == 'system') %}"
    "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}{% for call in m.get('tool_calls', []) %}<tool_call>"
    "{{ call['function'] | tojson }}</tool_call>{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
