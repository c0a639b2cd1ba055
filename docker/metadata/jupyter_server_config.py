"""The Jupyter server as the platform starts it, with a token that the tests know instead of the platform's proxy."""

c = get_config()  # noqa: F821 - Jupyter provides it
c.ServerApp.ip = "0.0.0.0"
c.ServerApp.port = 8888
c.ServerApp.open_browser = False
c.ServerApp.root_dir = "/home/ec2-user/SageMaker"
c.IdentityProvider.token = "notebook"
