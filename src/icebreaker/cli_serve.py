"""``icebreaker serve``: parses, calls, prints; every heavy import waits inside the command."""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from icebreaker.errors import ConfigError

__all__ = ["serve"]

LOCAL = ("127.0.0.1", "localhost", "::1")

Model = Annotated[
    str, typer.Option("--model", help="'mini', a bundle folder, the official checkpoints, or 'scripted' (no model).")
]
LLMFolder = Annotated[Path | None, typer.Option("--llm", help="Hugging Face folder of the frozen LLM.")]


def serve(
    model: Model = "mini",
    llm: LLMFolder = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is all of this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    api_key_file: Annotated[
        Path | None, typer.Option(help="File with an API key a line; without it all may in.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate (PEM) for https and wss.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key (PEM).")] = None,
    self_signed: Annotated[bool, typer.Option("--self-signed", help="Make a certificate for this machine.")] = False,
    origin: Annotated[
        list[str] | None, typer.Option(help="A web page elsewhere that may connect, as https://host; '*' is every one.")
    ] = None,
    max_sessions: Annotated[int, typer.Option(min=1, help="Conversations at a time.")] = 64,
    slots: Annotated[int, typer.Option(min=1, help="Conversations that are active at the same moment.")] = 8,
    capacity: Annotated[int, typer.Option(min=256, help="LLM positions of a conversation; older turns go.")] = 2048,
    sessions: Annotated[Path | None, typer.Option(help="Folder that keeps conversations over a restart.")] = None,
    max_session_s: Annotated[float, typer.Option(min=1, help="Longest connection.")] = 3600,
    idle_s: Annotated[float, typer.Option(min=1, help="Longest silence of a client.")] = 900,
    grace_s: Annotated[float, typer.Option(min=0, help="How long a dropped client may come back.")] = 60,
    lead_s: Annotated[
        float, typer.Option(min=0.1, help="Sound sent ahead of its playback where speech may interrupt it.")
    ] = 0.25,
    guess: Annotated[
        bool, typer.Option(help="Begin replies before the turn is decided, and forget those that were wrong.")
    ] = True,
    drain_s: Annotated[float, typer.Option(min=0, help="How long replies may go on after SIGTERM.")] = 30,
    system: Annotated[str | None, typer.Option("--system", help="System prompt of sessions that set none.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all cores.")] = None,
    ray: Annotated[bool, typer.Option("--ray", help="Serve by replicas on Ray, by default on this machine.")] = False,
    ray_address: Annotated[
        str | None, typer.Option(help="Deploy on this cluster ('auto', HOST:PORT) and leave; implies --ray.")
    ] = None,
    replicas: Annotated[int, typer.Option(min=1, help="With --ray: at least so many.")] = 1,
    max_replicas: Annotated[int | None, typer.Option(min=1, help="With --ray: at most; default: as many.")] = None,
) -> None:
    """Serve the model: the Realtime protocol at /v1/realtime and a page to talk to it."""
    import asyncio

    from icebreaker.cluster.plan import SCRIPTED, EnginePlan
    from icebreaker.engine.habits import LEAN
    from icebreaker.engine.store import SessionStore
    from icebreaker.server.config import ServerConfig
    from icebreaker.server.gate import read_keys
    from icebreaker.server.run import bind, run

    config = ServerConfig(
        api_keys=read_keys(api_key_file) if api_key_file else (),
        origins=tuple(each.rstrip("/") for each in origin or ()),
        max_session_s=max_session_s, idle_s=idle_s, grace_s=grace_s, drain_s=drain_s, instructions=system,
    )  # fmt: skip
    plan = EnginePlan(
        model=model, llm=llm, max_sessions=max_sessions, slots=slots, capacity=capacity, grace_s=grace_s,
        sessions=sessions, device=device, dtype=dtype, threads=threads, lead_s=lead_s, lean=LEAN if guess else None,
    )  # fmt: skip
    certificate = _certificate(tls_cert, tls_key, self_signed, host)
    if ray or ray_address:
        if certificate is not None:
            raise typer.BadParameter("with --ray, TLS ends at the load balancer in front", param_hint="--tls-cert")
        _log_lines()
        _serve_on_ray(plan, config, host, port, ray_address, replicas, max_replicas)
        return
    socket = bind(host, port)
    _log_lines()
    store = SessionStore(sessions) if sessions is not None else None
    engine: Any
    if model == SCRIPTED:
        from icebreaker.cluster.scripted import build_scripted

        engine = build_scripted(plan, store)
    else:
        from icebreaker.cluster.build import build_engine

        engine = build_engine(plan, store)
    _announce(config, host, socket.getsockname()[1], certificate is not None, engine)
    asyncio.run(run(engine, config, socket, certificate, store))


def _serve_on_ray(
    engine: Any, config: Any, host: str, port: int, address: str | None, replicas: int, max_replicas: int | None
) -> None:
    """Deploy ``engine``, a plan; on a cluster of our own, stay until a signal comes."""
    import signal
    import threading
    from dataclasses import replace

    from icebreaker.extras import load_extra

    load_extra("ray.serve", "dist")
    from icebreaker.cluster.app import deploy, stop
    from icebreaker.cluster.plan import ServePlan

    there = {name: path.absolute() for name in ("llm", "sessions") if (path := getattr(engine, name)) is not None}
    if Path(engine.model).exists():
        there["model"] = str(Path(engine.model).absolute())  # replicas have other working folders
    gpus = float(engine.device.startswith("cuda"))
    plan = ServePlan(
        engine=replace(engine, **there), server=config, replicas=replicas, max_replicas=max_replicas, gpus=gpus
    )
    if engine.sessions is None:
        typer.echo("warning    a replica that ends takes its conversations with it: give --sessions", err=True)
    deploy(plan, host, port, address)
    typer.echo(f"replicas   {replicas}" + (f" to {max_replicas}" if max_replicas else ""))
    typer.echo(f"WebSocket  ws://{'localhost' if host in (*LOCAL, '0.0.0.0', '::') else host}:{port}/v1/realtime")
    if address is None:
        told = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: told.set())
        told.wait()
        typer.echo("draining")
        stop()


def _certificate(cert: Path | None, key: Path | None, self_signed: bool, host: str) -> tuple[Path, Path] | None:
    if (cert is None) != (key is None):
        raise typer.BadParameter("give both --tls-cert and --tls-key, or --self-signed", param_hint="--tls-cert")
    if cert is not None and key is not None:
        for path in (cert, key):
            if not path.is_file():
                raise ConfigError(f"{path}: expected a PEM file for TLS, there is none")
        return cert, key
    if not self_signed:
        return None
    from icebreaker.server.tls import self_signed as make

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return make(cache / "icebreaker" / "tls", host)


def _announce(config: Any, host: str, port: int, secure: bool, engine: Any) -> None:
    everywhere = host in ("0.0.0.0", "::")
    shown = "localhost" if everywhere or host == "127.0.0.1" else f"[{host}]" if ":" in host else host
    page = config.static is not None and config.static.is_dir()
    megabytes = engine.stats().bytes_per_session / 1e6
    typer.echo(f"model      {engine.model_name}, {megabytes:.1f} MB for each active conversation")
    if page:
        typer.echo(f"page       http{'s' * secure}://{shown}:{port}/")
    typer.echo(f"WebSocket  ws{'s' * secure}://{shown}:{port}/v1/realtime")
    if not secure and host not in LOCAL:
        typer.echo("microphone browsers give it to pages from localhost or over https only: add --self-signed")
    if not config.api_keys and host not in LOCAL:
        typer.echo("warning    everybody who reaches this machine may talk: give --api-key-file", err=True)


def _log_lines() -> None:
    """JSON a line for machines; for a person at a terminal, sentences."""
    from icebreaker.server.logs import JsonFormatter

    handler = logging.StreamHandler(sys.stderr)
    if sys.stderr.isatty():
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    else:
        handler.setFormatter(JsonFormatter())
    level = min(logging.INFO, logging.getLogger().level)
    logging.basicConfig(level=level, handlers=[handler], force=True)
