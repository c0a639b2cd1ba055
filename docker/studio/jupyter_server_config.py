"""The settings of the image's Jupyter server that a user notices: terminals are bash, and no login shells."""

c = get_config()  # noqa: F821 - Jupyter provides it
c.ServerApp.terminado_settings = {"shell_command": ["/bin/bash"]}
c.ContentsManager.allow_hidden = True
