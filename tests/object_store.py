"""A real S3 server on loopback, in a thread of the test: moto's, with a layer that can fail as servers do."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

BUCKET = "bucket"


class ObjectStore:
    """The server.

    Attributes:
        endpoint: its URL.
        out_of_order: while set, every request is answered with 503.
        fail_every: every request of this number is answered with 503; 0 answers all.
        requests: method and path of every request, in order.
    """

    def __init__(self, application) -> None:
        self._application = application
        self.out_of_order = threading.Event()
        self.fail_every = 0
        self.requests: list[tuple[str, str]] = []
        self.endpoint = ""

    def __call__(self, environ, start_response):
        self.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        if self.out_of_order.is_set() or (self.fail_every and len(self.requests) % self.fail_every == 0):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            answer = b"<Error><Code>ServiceUnavailable</Code><Message>Please try again.</Message></Error>"
            headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(answer)))]
            start_response("503 Service Unavailable", headers)
            # Clients take a body after HEAD for a damaged answer.
            return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer]
        return self._application(environ, start_response)


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """Start the server with an empty bucket, and set the environment such that s3fs uses it, here and in child processes."""
    import boto3
    from moto.server import DomainDispatcherApplication, create_backend_app
    from s3fs import S3FileSystem
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    store = ObjectStore(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, store, threaded=True)
    store.endpoint = f"http://127.0.0.1:{server.port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    settings = {
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": store.endpoint,
        "AWS_MAX_ATTEMPTS": "1",  # the tests are about our own patience
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    S3FileSystem.clear_instance_cache()  # instances know an earlier server
    try:
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        S3FileSystem.clear_instance_cache()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
