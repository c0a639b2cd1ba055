# Copyright: Contributors to nbprovision
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt) or Apache License 2.0
# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0
"""Documentation that all modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """The options for nbprovision itself; their prefix keeps them apart from those of its tasks."""

    DOCUMENTATION = r"""
options:
  nbprovision_command:
    description:
      - Path of the command on the target.
      - Without it, the module takes the one in O(nbprovision_home), then that on the C(PATH). If neither exists, it
        installs the controller's nbprovision into O(nbprovision_home), with bootstrap.sh.
    type: str
  nbprovision_source:
    description:
      - Another source for that installation, as bootstrap.sh takes it on the target after C(--tool), such as
        V(s3://BUCKET/PREFIX) or a folder of wheels.
    type: str
  nbprovision_home:
    description:
      - Folder of nbprovision's state, lock, log and caches on the target, instead of its default.
    type: str
  nbprovision_lock_timeout:
    description:
      - Seconds to wait for another run on the target. By default there is no limit.
    type: int
attributes:
  check_mode:
    description: Reports what would change, and changes nothing.
    support: full
  diff_mode:
    description: Returns each change in full.
    support: full
  async:
    description: nbprovision goes on after the connection has ended; M(ansible.builtin.async_status) has the result.
    support: full
notes:
  - Arguments go to the target's nbprovision as JSON on standard input, never by a file, a command line or a log.
  - The connection and the become method must be able to pass standard input, as P(ansible.builtin.ssh#connection),
    P(ansible.builtin.local#connection) and P(ansible.builtin.sudo#become) are.
"""
