#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: Contributors to nbprovision
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt) or Apache License 2.0
# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0
# Generated from nbprovision's definition of the task by `python -m tests.ansible.test_generated`.

from __future__ import annotations

DOCUMENTATION = r"""
module: ensure_jupyter_extension
short_description: Install and enable or disable extensions of JupyterLab and of the Jupyter server
version_added: 0.1.0
description:
  - Install and enable or disable extensions of JupyterLab and of the Jupyter server.
  - 'pip installs them into the environment of the Jupyter server, and changes no package of the platform''s image. Extensions
    must be prebuilt. JupyterLab shows a new extension when its page is loaded again. The server loads a new extension when
    it is restarted (V(notify: restart_jupyter)).'
  - 'V(name: nbprovision) is the extension in this package, which shows the state of runs. It goes into the user''s own
    data folder of Jupyter, so that no environment changes, and needs neither pip nor a restart of the server.'
  - At least one of V(packages), V(lab), V(server) and V(name).
  - 'With V(name: nbprovision), no V(packages), V(lab), V(server), V(env), V(scope) and no V(allow_platform_changes).'
options:
  name:
    description:
      - 'V(nbprovision): the extension in this package, which shows the state of runs.'
    type: str
  packages:
    description:
      - Packages with extensions, as in V(ensure_pip_pkg).
      - Takes a string or a list of strings.
    type: raw
  lab:
    description:
      - 'Extensions or plugins of JupyterLab, by name: whether each is enabled.'
      - Takes a mapping of strings to values.
    type: raw
  server:
    description:
      - 'Extensions of the server, by Python module: whether each is enabled.'
      - Takes a mapping of strings to values.
    type: raw
  env:
    description:
      - 'The environment, by name or path. Default: the Jupyter server''s own.'
    type: str
  scope:
    description:
      - 'Scope of V(lab) and V(server): this user, or everybody whose Jupyter runs from the environment.'
    type: str
    choices:
      - user
      - env
    default: user
  state:
    description:
      - As in V(ensure_pip_pkg); V(absent) also removes the names in V(lab) and V(server) from the files.
    type: str
    choices:
      - present
      - latest
      - absent
    default: present
  allow_platform_changes:
    description:
      - Change packages that the platform's image brought, at the risk of an unstable notebook.
    type: bool
    default: false
  deep:
    description:
      - Compare the files themselves (sizes and hashes), not only names and versions.
    type: bool
    default: false
  refresh_every:
    description:
      - 'Look again after this long, whatever the witnesses say: V(90s), V(30m), V(12h), V(7d). Default: the task''s own'
    type: str
extends_documentation_fragment:
  - nbprovision.notebook.tool
author:
  - Contributors to nbprovision (@nbprovision)
"""

EXAMPLES = r"""
- name: The state of runs in JupyterLab
  nbprovision.notebook.ensure_jupyter_extension:
    name: nbprovision

- name: Widgets, in an environment with a JupyterLab of its own
  nbprovision.notebook.ensure_jupyter_extension:
    env: fraud
    packages: jupyterlab-widgets

- name: No extension manager, for everybody whose Jupyter runs from there
  nbprovision.notebook.ensure_jupyter_extension:
    env: fraud
    scope: env
    lab:
      '@jupyterlab/extensionmanager-extension': false

- name: An extension of the server, for this user
  nbprovision.notebook.ensure_jupyter_extension:
    env: fraud
    server:
      jupyter_lsp: true
"""

RETURN = r"""
status:
  description:
    - V(ok), V(changed), V(skipped) or V(failed).
  returned: always
  type: str
  sample: changed
changes:
  description:
    - What was changed, or would be in check mode; action says how.
    - 'install: a distribution.'
    - 'upgrade: to a newer version.'
    - 'downgrade: to an older version.'
    - 'change: to the requested version, if the versions cannot be compared.'
    - 'reinstall: a damaged distribution, or one from another source.'
    - 'remove: a file, folder or link.'
    - 'create: a new file.'
    - 'write: the content of a file.'
  returned: always
  type: list
  elements: dict
  sample:
    - action: install
      target: '...'
      before: null
      after: '...'
"""
