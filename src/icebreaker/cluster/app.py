"""Replicas as a Ray Serve application: started from here, or by KubeRay, which calls ``app`` with the plan's values."""

import logging
import os
from collections.abc import Mapping
from typing import Any

import ray
from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, HTTPOptions, RequestRouterConfig

from icebreaker.cluster.build import build_engine
from icebreaker.cluster.plan import SCRIPTED, ServePlan
from icebreaker.cluster.replica import Replica
from icebreaker.cluster.scripted import build_scripted
from icebreaker.config import from_mapping
from icebreaker.errors import ConfigError

__all__ = ["NAME", "app", "application", "deploy", "stop"]

NAME = "icebreaker"
LAST_S = 15.0  # beyond the drain, until a replica is killed
ROOM = 1000  # requests beyond the conversations that a replica is given: the page, health, those it refuses itself


def application(plan: ServePlan) -> Any:
    """The application. Ray Serve never refuses anybody: it would hang or say 500, where a replica says 503 and when."""
    number: dict[str, Any] = {"num_replicas": plan.replicas}
    if (plan.max_replicas or plan.replicas) > plan.replicas:
        policy = AutoscalingPolicy(policy_function="icebreaker.cluster.scaling:FreeRoom",
                                   policy_kwargs={"spare": plan.spare})  # fmt: skip
        number = {
            "autoscaling_config": AutoscalingConfig(
                min_replicas=plan.replicas, max_replicas=plan.max_replicas, policy=policy,
                upscale_delay_s=plan.upscale_delay_s, downscale_delay_s=plan.downscale_delay_s,
                metrics_interval_s=2.0, look_back_period_s=6.0,
            )
        }  # fmt: skip
    router = RequestRouterConfig(request_router_class="icebreaker.cluster.router.StickyRouter")
    deployed = serve.deployment(
        serve.ingress()(Replica), name=NAME, request_router_config=router,
        ray_actor_options={"num_cpus": plan.cpus, "num_gpus": plan.gpus},
        max_ongoing_requests=plan.engine.max_sessions + ROOM,
        graceful_shutdown_timeout_s=plan.server.drain_s + LAST_S, graceful_shutdown_wait_loop_s=0.5, **number,
    )  # fmt: skip
    return deployed.bind(plan, build_scripted if plan.engine.model == SCRIPTED else build_engine)


def app(values: Mapping[str, Any]) -> Any:
    """The application by the plan's plain values: the ``import_path`` and ``args`` of a Serve configuration."""
    return application(from_mapping(ServePlan, dict(values), "args"))


def deploy(plan: ServePlan, host: str, port: int, address: str | None = None) -> None:
    """Start replicas, or replace those of an earlier plan one after the other, and wait until all serve.

    Args:
        plan: what to deploy.
        host: for Ray Serve's proxy on every machine to listen on.
        port: likewise.
        address: of a Ray cluster; None starts one of this machine.

    Raises:
        ConfigError: there is no cluster at ``address``, or a replica fails to start.
    """
    most = (plan.max_replicas or plan.replicas) * plan.cpus
    here = {"num_cpus": max(os.cpu_count() or 1, round(most)), "include_dashboard": False}
    try:
        if not ray.is_initialized():
            ray.init(address=address or "local", logging_level=logging.WARNING, **({} if address else here))
        serve.start(http_options=HTTPOptions(host=host, port=port), proxy_location="EveryNode")
        serve.run(application(plan), name=NAME, route_prefix="/")
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(f"cannot deploy on Ray: {error}; `serve status` and the replicas' logs say more") from error


def stop() -> None:
    """Drain and remove all replicas, and the cluster if it is our own."""
    serve.delete(NAME)  # waits for the drain
    serve.shutdown()
    ray.shutdown()
