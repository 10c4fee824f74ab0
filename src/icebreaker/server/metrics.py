"""Figures for Prometheus: the engine's, read when asked, and the server's own. A registry of their own, no globals."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from icebreaker.engine.interface import EngineLike
from icebreaker.engine.messages import Reply

__all__ = ["Metrics"]

FIRST_SOUND_S = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0)


class EngineFigures(Collector):
    """What ``engine.stats`` says at the moment it is asked."""

    def __init__(self, engine: EngineLike) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """One metric a figure."""
        stats = self._engine.stats()
        for name, value, text in (
            ("sessions", stats.sessions, "Sessions that somebody is in."),
            ("slots", stats.slots, "Conversations that can be active at once."),
            ("speaking", stats.speaking, "Replies under way."),
            ("queued_commands", stats.queued_commands, "Commands not yet looked at."),
            ("tick_seconds_p50", stats.tick_ms_p50 / 1000, "Median time of a step over all conversations."),
            ("tick_seconds_p95", stats.tick_ms_p95 / 1000, "95th percentile of the time of a step."),
            ("bytes_per_session", stats.bytes_per_session, "Memory that one more conversation costs."),
        ):
            yield GaugeMetricFamily(f"icebreaker_{name}", text, value)
        for name, value, text in (
            ("engine_refusals", stats.refused, "Sessions that found no room."),
            ("replies", stats.replies, "Replies begun."),
            ("barge_ins", stats.barge_ins, "Replies that the user's speech stopped."),
            ("underruns", stats.underruns, "Times that a listener ran out of sound within a reply."),
        ):
            yield CounterMetricFamily(f"icebreaker_{name}", text, value)


class Metrics:
    """Counters of one server."""

    def __init__(self, engine: EngineLike) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(EngineFigures(engine))
        self.connections = Gauge("icebreaker_connections", "Open conversations.", registry=self.registry)
        self.refusals = Counter("icebreaker_refusals", "Connections not let in.", ["code"], registry=self.registry)
        self.messages = Counter("icebreaker_messages", "Messages.", ["direction"], registry=self.registry)
        self.bytes = Counter("icebreaker_message_bytes", "Bytes of messages.", ["direction"], registry=self.registry)
        self.client_errors = Counter("icebreaker_client_errors", "Error events sent.", registry=self.registry)
        self.throttled = Counter(
            "icebreaker_throttled", "Times that a fast client had to wait.", registry=self.registry
        )
        self.closed = Counter("icebreaker_closed", "Conversations closed.", ["reason"], registry=self.registry)
        self.first_sound = Histogram(
            "icebreaker_first_audio_seconds", "From the decision to take the turn to the first sound.",
            buckets=FIRST_SOUND_S, registry=self.registry,
        )  # fmt: skip
        self.real_time_factor = Histogram(
            "icebreaker_real_time_factor", "Time to make a reply's sound over its length.",
            buckets=(0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 3.0), registry=self.registry,
        )  # fmt: skip

    def replied(self, reply: Reply, took_s: float) -> None:
        """Count a reply that took ``took_s`` from its start to its end."""
        if (first := reply.latency_ms.get("first sound")) is not None:
            self.first_sound.observe(first / 1000)
        if reply.audio_ms > 0 and reply.status == "completed":
            self.real_time_factor.observe(took_s / (reply.audio_ms / 1000))

    def text(self) -> bytes:
        """The page that Prometheus reads."""
        return generate_latest(self.registry)
