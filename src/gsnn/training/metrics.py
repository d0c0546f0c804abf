"""The latest numbers of a training, or a watch, for Prometheus: its text format over HTTP, where
``GSNN_METRICS_PORT`` is set.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ..errors import GsnnError

CONTENT = "text/plain; version=0.0.4; charset=utf-8"
Names = Mapping[str, tuple[str, str, str]]
NAMES: Names = {  # key of a step event: (metric, kind, help)
    "step": ("gsnn_step", "gauge", "Optimiser steps made."),
    "steps": ("gsnn_steps", "gauge", "Optimiser steps that the training will make."),
    "epoch": ("gsnn_epoch", "gauge", "Epoch, from 1."),
    "loss": ("gsnn_loss", "gauge", "Mean training loss since the event before."),
    "learning_rate": ("gsnn_learning_rate", "gauge", "Learning rate."),
    "gradient_norm": ("gsnn_gradient_norm", "gauge", "Norm of the gradient before clipping."),
    "skipped": ("gsnn_skipped_steps", "gauge", "Steps whose loss or gradient was not finite."),
    "samples_per_s": ("gsnn_samples_per_second", "gauge", "Objects learned from each second, of all processes."),
    "tokens_per_s": ("gsnn_tokens_per_second", "gauge", "Tokens learned from each second, of all processes."),
    "flops_per_s": ("gsnn_model_flops_per_second", "gauge", "Model FLOPs each second, of all processes."),
    "mfu": ("gsnn_mfu_ratio", "gauge", "Model FLOPs utilisation: the share of the devices' peak FLOPs."),
    "peak_flops": ("gsnn_peak_flops_per_second", "gauge", "FLOPs each second of one device at its peak."),
    "data_wait": ("gsnn_data_wait_ratio", "gauge", "Share of the time in which the first process waited for data."),
    "communication": ("gsnn_communication_ratio", "gauge", "Share of a sampled step with a collective under way."),
    "memory_gb": ("gsnn_memory_peak_gigabytes", "gauge", "Most memory allocated: the GPU's, or the process's."),
    "host_memory_gb": ("gsnn_host_memory_peak_gigabytes", "gauge", "Most memory that the first process has held."),
    "seconds_left": ("gsnn_seconds_left", "gauge", "Expected seconds to the end."),
    "kwh": ("gsnn_energy_kilowatt_hours", "gauge", "Electricity used so far, of all processes."),
    "kwh_error": ("gsnn_energy_error_kilowatt_hours", "gauge", "Uncertainty of the electricity."),
    "co2e_kg": ("gsnn_co2e_kilograms", "gauge", "Greenhouse gas of making that electricity, CO2 equivalent."),
}


def text(event: dict[str, Any], names: Names = NAMES) -> str:
    """An event (of a step, by ``NAMES``) in Prometheus' text exposition format 0.0.4; None is left out."""
    lines = []
    for key, (name, kind, meaning) in names.items():
        if (value := event.get(key)) is not None:
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}", f"{name} {_number(float(value))}"]
    return "\n".join(lines) + "\n" if lines else ""


class Endpoint:
    """``GET /metrics`` from a thread that ends with the process. Port 0 takes any that is free: see ``port``."""

    def __init__(self, port: int, host: str = "127.0.0.1", names: Names = NAMES):
        self._event: dict[str, Any] = {}
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = self.path.split("?")[0] in ("/", "/metrics")
                body = text(endpoint._event, names).encode() if found else b"gsnn: see /metrics\n"
                self.send_response(200 if found else 404)
                self.send_header("Content-Type", CONTENT)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *said: Any) -> None:
                """A terminal that shows a training has no room for a line each scrape."""

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except (OSError, OverflowError) as error:
            raise GsnnError(
                f"no metrics can be served at {host}:{port} ({error}): set GSNN_METRICS_PORT to a free port, "
                "or unset it"
            ) from error
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, name="gsnn-metrics", daemon=True).start()

    def tell(self, event: dict[str, Any]) -> None:
        """From now on a scrape sees this event."""
        self._event = dict(event)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def from_environment(names: Names = NAMES) -> Endpoint | None:
    """The endpoint that ``GSNN_METRICS_PORT`` asks for, on ``GSNN_METRICS_HOST`` (this machine alone if unset)."""
    asked = os.environ.get("GSNN_METRICS_PORT")
    if not asked:
        return None
    if not asked.isascii() or not asked.isdigit() or int(asked) > 65535:
        raise GsnnError(f"GSNN_METRICS_PORT is {asked!r}; it must be a port, 0 to 65535 (0: any that is free)")
    return Endpoint(int(asked), os.environ.get("GSNN_METRICS_HOST") or "127.0.0.1", names)


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return repr(value) if math.isfinite(value) else "+Inf" if value > 0 else "-Inf"
