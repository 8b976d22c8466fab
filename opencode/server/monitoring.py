"""`/metrics`, for Prometheus (API section 7). Behind auth where auth is on: its numbers are nobody else's business."""

from typing import cast

from flask import Blueprint, Response, current_app

from opencode.server.metrics import CONTENT_TYPE, Metrics
from opencode.server.routes import route

monitoring = Blueprint("monitoring", __name__)


@monitoring.get("/metrics")
@route(summary="Counts and durations, in the text format of Prometheus", text="text/plain")
def show_metrics() -> Response:
    metrics = cast("Metrics", current_app.extensions["opencode-metrics"])
    return Response(metrics.text(), content_type=CONTENT_TYPE)
