"""What Prometheus reads: requests, their times, streams, memory."""

import time

import prometheus_client as prometheus
from starlette.responses import Response

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")


class Metrics:
    """The server's figures, `streams()` and `free()` being the open streams and the memory not held."""

    def __init__(self, streams, free):
        self._registry = registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=registry)
        names = ["method", "path", "status"]
        self.requests = prometheus.Counter("santm_requests", "Requests answered.", names, registry=registry)
        self.seconds = prometheus.Histogram("santm_request_seconds", "From a request's head to its answer's "
                                            "end.", names[:2], registry=registry)
        self.running = prometheus.Gauge("santm_requests_running", "Requests that are not answered yet.",
                                        registry=registry)
        self.steps = prometheus.Counter("santm_steps", "Steps of streams.", registry=registry)
        self.sequences = prometheus.Counter("santm_sequences", "Sequences predicted.", registry=registry)
        prometheus.Gauge("santm_streams", "Open streams.", registry=registry).set_function(streams)
        prometheus.Gauge("santm_memory_free_bytes", "Of what requests may hold.",
                         registry=registry).set_function(free)

    def answer(self):
        return Response(prometheus.generate_latest(self._registry),
                        media_type=prometheus.CONTENT_TYPE_LATEST)


class Measured:
    """ASGI middleware that counts requests by their route, so that there are few names."""

    def __init__(self, app, metrics):
        self._app, self._metrics = app, metrics

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, begun = "none", time.perf_counter()

        async def sent(message):
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        with self._metrics.running.track_inprogress():
            try:
                await self._app(scope, receive, sent)
            finally:
                route = scope.get("route")
                labels = (scope["method"] if scope["method"] in METHODS else "other",
                          route.path if route else "other")
                self._metrics.requests.labels(*labels, status).inc()
                self._metrics.seconds.labels(*labels).observe(time.perf_counter() - begun)
