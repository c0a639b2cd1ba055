"""Writes every generated file again: ``.venv-test/bin/python -m tests.regenerate``.

These are the schema, the man page, the generated parts of the guides, the type stub, the modules of the Ansible collection and the counts
of the language test. Tests compare each of them with the code.
"""

from __future__ import annotations

import runpy

GENERATORS = (
    "tests.reference.test_docs",
    "tests.reference.test_man_page",
    "tests.reference.test_command_line",
    "tests.reference.test_stub",
    "tests.ansible.test_generated",
    "tests.lint.test_rules",
    "tests.pip.test_install_options",
    "tests.test_language",
)

if __name__ == "__main__":
    for generator in GENERATORS:
        runpy.run_module(generator, run_name="__main__")
