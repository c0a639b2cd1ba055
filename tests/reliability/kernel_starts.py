"""Run by an environment's own Python: starts a kernel by its name, as Jupyter does, and lets it reckon."""

import sys

from jupyter_client.manager import start_new_kernel

manager, client = start_new_kernel(kernel_name=sys.argv[1], startup_timeout=300)
try:
    client.execute_interactive(
        "print(6 * 7)", timeout=300, output_hook=lambda message: print(message["content"].get("text", ""), end="")
    )
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
