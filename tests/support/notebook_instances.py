"""An account with notebook instances, on moto's server with the patches of `sagemaker_states`."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ROLE = "arn:aws:iam::123456789012:role/notebook"
REGION = "us-east-1"
GOOD, BAD = "#!/bin/sh\nexit 0\n", "#!/bin/sh\nexit 1\n"  # the second one fails: see sagemaker_states


class Account:
    """An account of moto's server.

    Args:
        address: The address of the server.

    """

    def __init__(self, address: str) -> None:
        self.address = address

    def env(self) -> dict[str, str]:
        """The variables with which a process reaches it."""
        return {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "a",
            "AWS_DEFAULT_REGION": REGION,
            "NO_PROXY": "127.0.0.1",
        }

    def client(self, region: str = REGION) -> Any:
        """boto3's client."""
        import boto3

        return boto3.client(
            "sagemaker",
            region_name=region,
            endpoint_url=self.address,
            aws_access_key_id="a",
            aws_secret_access_key="a",
        )

    def add_config(self, name: str, script: str = GOOD) -> None:
        """Create a lifecycle config with a script on-start."""
        content = base64.b64encode(script.encode()).decode()
        self.client().create_notebook_instance_lifecycle_config(
            NotebookInstanceLifecycleConfigName=name, OnStart=[{"Content": content}]
        )

    def add_instance(
        self, name: str, config: str | None = None, tags: Mapping[str, str] = {}, region: str = REGION
    ) -> None:
        """Create an instance, which is InService if it can start."""
        client = self.client(region)
        client.create_notebook_instance(
            NotebookInstanceName=name,
            InstanceType="ml.t3.medium",
            RoleArn=ROLE,
            Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
            **({"LifecycleConfigName": config} if config else {}),
        )
        self.settle(client)

    def stop(self, *names: str) -> None:
        """Stop instances."""
        client = self.client()
        for name in names:
            client.stop_notebook_instance(NotebookInstanceName=name)
        self.settle(client)

    def settle(self, client: Any) -> None:
        """Let every instance reach the state that it is on the way to."""
        for _ in range(3):
            client.list_notebook_instances()

    def states(self) -> dict[str, tuple[str, str | None]]:
        """The status and the config of each instance."""
        pages = self.client().get_paginator("list_notebook_instances").paginate()
        instances = [instance for page in pages for instance in page["NotebookInstances"]]
        return {
            each["NotebookInstanceName"]: (
                each["NotebookInstanceStatus"],
                each.get("NotebookInstanceLifecycleConfigName"),
            )
            for each in instances
        }

    def record(self) -> None:
        """Begin to record calls."""
        self._post("recorder/reset-recording")
        self._post("recorder/start-recording")

    def recorded(self) -> list[tuple[str, dict[str, Any]]]:
        """The calls since then: the operation and its parameters."""
        self._post("recorder/stop-recording")
        with urllib.request.urlopen(f"{self.address}/moto-api/recorder/download-recording", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        calls = []
        for line in lines:
            request = json.loads(line)
            headers = {name.lower(): value for name, value in request["headers"].items()}
            if "x-amz-target" in headers:
                body = base64.b64decode(request["body"]) if request.get("body_encoded") else request["body"]
                calls.append((headers["x-amz-target"].partition(".")[2], json.loads(body or "{}")))
        return calls

    def _post(self, path: str) -> None:
        request = urllib.request.Request(f"{self.address}/moto-api/{path}", data=b"", method="POST")
        urllib.request.urlopen(request, timeout=30).close()


@contextlib.contextmanager
def refusing(address: str, refusal: Callable[[str], str | None]) -> Iterator[str]:
    """The address of a server that passes requests on to moto's, unless it refuses them as AWS does.

    Args:
        address: That of moto's server.
        refusal: The code of the error for an operation; None to pass it on.

    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            code = refusal(self.headers["X-Amz-Target"].partition(".")[2])
            if code is None:
                status, content = self._passed_on(body)
            else:
                status, content = 400, json.dumps({"__type": code, "message": "refused by a test"}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _passed_on(self, body: bytes) -> tuple[int, bytes]:
            request = urllib.request.Request(address + self.path, data=body, headers=dict(self.headers))
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return answer.status, answer.read()
            except urllib.error.HTTPError as error:
                return error.code, error.read()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
