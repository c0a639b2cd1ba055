"""Start a kernel and ask it for its prefix.

An environment's own Python runs this script; it has jupyter_client but not nbprovision, and may be old. The script
reads {"spec", "folder", "scratch", "seconds"} as JSON from standard input; it prints {"prefix"} or {"error", "stderr"}.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from typing import Any


def main(request: Any) -> dict[str, str]:
    """Start the kernel, ask it for ``sys.prefix``, and stop it."""
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from jupyter_client.manager import KernelManager

    class TrialKernel(KernelSpecManager):  # type: ignore[misc,unused-ignore]
        """Knows only the kernel on trial, which no folder offers yet."""

        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            return KernelSpec(resource_dir=request["folder"], **request["spec"])

    scratch = request["scratch"]
    with tempfile.TemporaryFile(dir=scratch) as errors:
        os.environ["JUPYTER_RUNTIME_DIR"] = scratch
        manager = KernelManager(
            kernel_name="trial",
            kernel_spec_manager=TrialKernel(),
            connection_file=os.path.join(scratch, "kernel.json"),
        )
        try:
            manager.start_kernel(stdout=errors, stderr=errors, cwd=scratch)
            client = manager.client()
            client.start_channels()
            try:
                client.wait_for_ready(timeout=request["seconds"])
                answer = []
                client.execute_interactive(
                    "import sys; print(sys.prefix)",
                    timeout=request["seconds"],
                    store_history=False,
                    output_hook=lambda message: answer.append(message["content"].get("text", "")),
                )
                return {"prefix": "".join(answer).strip()}
            finally:
                client.stop_channels()
                manager.shutdown_kernel(now=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, the kernel does not work
            errors.seek(0)
            output = errors.read().decode("utf-8", "replace")
            return {"error": "%s: %s" % (type(error).__name__, error), "stderr": output}  # noqa: UP031


if __name__ == "__main__":
    print(json.dumps(main(json.load(sys.stdin))))
