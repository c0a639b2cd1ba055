"""What root runs: a program of its own, packed into the lifecycle script or fetched by it (`lifecycle.root_part`).

The modules here import nothing but one another and the standard library of Python 3.9, which Amazon Linux 2023 has as
`/usr/bin/python3`. A module of a kind has two functions:

- ``differences(wanted, root)`` says in words in what the machine differs; it only reads, and the user's run calls it
  too. ``wanted`` is `Task.root_order` of the task, ``root`` the folder to take for ``/`` (for tests).
- ``bring_about(wanted)`` makes it so; `main` calls it where there is a difference, as root.
"""
