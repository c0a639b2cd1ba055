"""What Ansible users write from habit: the variables that Ansible gathers, and what to write here."""

from __future__ import annotations

_FACTS = {
    "ansible_architecture": "nb.architecture",
    "ansible_distribution": "nb.distribution",
    "ansible_distribution_major_version": "nb.distribution_version",
    "ansible_distribution_version": "nb.distribution_version",
    "ansible_env": "lookup('env', NAME)",
    "ansible_env_home": "nb.user_home",
    "ansible_machine": "nb.architecture",
    "ansible_os_family": "nb.distribution",
    "ansible_processor_count": "nb.cpus",
    "ansible_processor_nproc": "nb.cpus",
    "ansible_processor_vcpus": "nb.cpus",
    "ansible_python_version": "nb.python",
    "ansible_real_user_id": "nb.user",
    "ansible_user": "nb.user",
    "ansible_user_dir": "nb.user_home",
    "ansible_user_id": "nb.user",
    "ansible_version": "nb.version",
    "role_path": "playbook_dir",
}
_ONE_MACHINE = "a playbook is for the machine that it is run on, localhost"
_OTHERS = {
    **dict.fromkeys(("inventory_hostname", "inventory_hostname_short", "ansible_host"), _ONE_MACHINE),
    **dict.fromkeys(("hostvars", "groups", "group_names", "ansible_play_hosts"), _ONE_MACHINE),
    **dict.fromkeys(("ansible_hostname", "ansible_nodename", "ansible_fqdn"), _ONE_MACHINE),
    "ansible_facts": "facts of the machine are nb.platform, nb.user, nb.envs and so on; the reference lists them",
    "ansible_date_time": "a playbook describes a state, which is the same each time; write the value",
}


def in_place_of(name: str) -> str:
    """What to write in place of a variable that Ansible has, or nothing."""
    if name in _FACTS:
        return f"write {_FACTS[name]}"
    if name in _OTHERS:
        return _OTHERS[name]
    return _OTHERS["ansible_facts"] if name.startswith("ansible_") else ""
