"""Examples of each rule about lifecycle scripts, of which `test_rules.py` makes tests."""

from __future__ import annotations

from typing import NamedTuple


class Case(NamedTuple):
    """What a rule finds, where (the last such text in it), and what it does not."""

    bad: str
    at: str
    good: str

    @property
    def place(self) -> tuple[int, int]:
        """Line and column."""
        before = self.bad[: self.bad.rindex(self.at)]
        return before.count("\n") + 1, len(before) - before.rfind("\n")


def script(*lines: str) -> str:
    return "\n".join(("#!/bin/bash", "set -e", *lines, ""))


SCRIPT_CASES: dict[str, Case | list[Case]] = {
    "script-too-large": Case(script("# " + "x" * 12_288), "#!/bin/bash", script("# " + "x" * 12_200)),
    "script-crlf": Case(script("echo").replace("\n", "\r\n"), "#!/bin/bash", script("echo")),
    "script-not-ascii": Case(script("echo \u2013v"), "\u2013v", script("echo -v")),
    "script-shebang": Case("\n#!/bin/sh\necho\n", "\n#!/bin/sh", "#!/bin/sh\necho\n"),
    "script-nohup": Case(script("nohup ./work &"), "nohup", script("# nohup", "setsid ./work &")),
    "script-package-manager": [
        Case(
            script("cd /home/ec2-user", "sudo amazon-linux-extras install -y lustre"),
            "amazon-linux-extras",
            script("cd /home/ec2-user", "sudo yum install -y jq", "dnf install -y jq", "echo 'no apt here'"),
        ),
        Case(
            script("cd /home/ec2-user", "apt-get install -y jq"),
            "apt-get",
            script("cd /home/ec2-user", "if command -v apt-get; then apt-get install -y jq; fi"),
        ),
        Case(
            script("cd /home/sagemaker-user", "sudo yum install -y jq"),
            "yum",
            script("cd /home/sagemaker-user", "sudo apt-get install -y jq"),
        ),
        Case(script("yum install -y a", "cd /opt/conda"), "yum", script("sudo apt-get update", "sudo apt-get install -y jq")),
    ],
    "script-cron": [
        Case(script("(crontab -l; echo x) | cat"), "crontab -l", script("systemctl start a.timer")),
        Case(
            script("echo '0 * * * * ec2-user /usr/bin/true' > /etc/cron.d/team"),
            "echo",
            script("dnf install -y cronie", "systemctl start crond", "(crontab -l; echo x) | crontab -"),
        ),
    ],
    "script-crontab-replaced": [
        Case(script('echo "0 * * * * /usr/bin/true" | sudo crontab -'), "crontab", script("(crontab -l; echo x) | crontab -")),
        Case(script("crontab -r"), "crontab", script("crontab -l > /tmp/t", "echo x >> /tmp/t", "crontab /tmp/t")),
    ],
    "script-root-runs-user-files": [
        Case(
            script("PYTHON=$(source /home/ec2-user/anaconda3/bin/activate JupyterSystemEnv && which python)"),
            "source",
            script("sudo -u ec2-user -i <<'EOF'", "source /home/ec2-user/anaconda3/bin/activate python3", "EOF"),
        ),
        Case(
            script("BIN=/home/ec2-user/anaconda3/bin", '"$BIN/pip" install a'),
            '"$BIN',
            script(
                "BIN=/home/ec2-user/anaconda3/bin",
                'sudo -H -u ec2-user env A=b "$BIN/pip" install a',
                "/usr/bin/pip3 install a",
            ),
        ),
        Case(
            script("bash -x /home/ec2-user/SageMaker/setup.sh"),
            "bash",
            script(
                "su - ec2-user -c 'bash /home/ec2-user/SageMaker/setup.sh'",
                "runuser -u ec2-user -- python3 /home/ec2-user/a.py",
                "systemd-run --uid=ec2-user --on-calendar=hourly /home/ec2-user/a.sh",
                "cat > /opt/a.sh <<'EOF'",
                "bash /home/ec2-user/SageMaker/setup.sh",
                "EOF",
            ),
        ),
        Case(
            script("(crontab -l; echo '0 * * * * /home/ec2-user/SageMaker/a.sh') | crontab -"),
            "crontab",
            script(
                "(crontab -l; echo '0 * * * * /opt/a.sh >> /home/ec2-user/SageMaker/a.log') | crontab -",
                "(crontab -l; echo '0 * * * * /opt/b.sh | tee -a /home/ec2-user/b.log') | crontab -",
                "echo '0 * * * * /home/ec2-user/a.sh' | sudo -u ec2-user crontab -",
            ),
        ),
        Case(
            script("cat > /etc/systemd/system/a.service <<EOF", "[Service]", "ExecStart=/home/ec2-user/a.sh", "EOF"),
            "cat",
            script(
                "cat > /etc/systemd/system/a.service <<EOF",
                *("[Service]", "User=ec2-user", "ExecStart=/home/ec2-user/a.sh", "EOF"),
            ),
        ),
        Case(
            script("pip3 install -r /home/ec2-user/SageMaker/requirements.txt"),
            "pip3",
            script("pip3 install --target /home/ec2-user/SageMaker/lib a"),
        ),
        Case(
            script("jupyter nbconvert --execute /home/ec2-user/SageMaker/a.ipynb"),
            "jupyter",
            script("sudo -u ec2-user jupyter nbconvert --execute /home/ec2-user/SageMaker/a.ipynb"),
        ),
    ],
    "script-root-in-home": [
        Case(
            script("mount -t nfs4 fs.example:/ /home/ec2-user/SageMaker/efs"),
            "mount",
            script("mkdir -p /mnt/efs", "mount -t nfs4 fs.example:/ /mnt/efs"),
        ),
        Case(
            script("chmod -R 755 /home/ec2-user/SageMaker/a/b"),
            "chmod",
            script(
                "chown -R ec2-user:ec2-user /home/ec2-user/SageMaker",
                "sudo -u ec2-user chmod 755 /home/ec2-user/SageMaker/a/b",
            ),
        ),
        Case(
            script("cd /home/ec2-user/SageMaker", "echo a > note"),
            "echo",
            script("cd /home/ec2-user/SageMaker", "cat note > /dev/null", "echo a > /var/log/a"),
        ),
        Case(
            script("sudo -u ec2-user /usr/bin/true >> /home/ec2-user/SageMaker/out"),
            "/usr/bin/true",
            script("sudo -u ec2-user sh -c '/usr/bin/true >> /home/ec2-user/SageMaker/out'"),
        ),
        Case(
            script("mkdir -p ~ec2-user/.pip", "echo a >> ~ec2-user/.pip/pip.conf", "chown ec2-user: ~ec2-user/.pip/pip.conf"),
            "mkdir",
            script("mkdir ~ec2-user/.pip", "echo a > ~ec2-user/.pip/pip.conf", "chown -R ec2-user: ~ec2-user/.pip"),
        ),
        Case(
            script("tar -xzf /tmp/a.tgz -C /home/ec2-user/SageMaker/a"),
            "tar",
            script("tar -czf /tmp/a.tgz -C /home/ec2-user/SageMaker a", "tar -xf /tmp/a.tgz -C /opt"),
        ),
        Case(
            script("wget -O /home/ec2-user/SageMaker/a https://x.example/a"),
            "wget",
            script(
                "wget -O /opt/a https://x.example/a",
                "curl https://x.example/a",
                "cp /home/ec2-user/SageMaker/a /opt/a",
            ),
        ),
        Case(
            script("git clone https://x.example/a.git /home/ec2-user/SageMaker/a"),
            "git clone",
            script("sudo -u ec2-user git clone https://x.example/a.git /home/ec2-user/SageMaker/a"),
        ),
        Case(
            script("for env in /home/ec2-user/SageMaker/envs/*; do", 'sed -i s/a/b/ "$env/conf"', "done"),
            "sed",
            script("cd /home/sagemaker-user", "sudo touch a", "sudo /opt/conda/bin/python a"),  # the user has sudo there
        ),
    ],
    "script-unchecked-download": [
        Case(
            script("wget https://raw.githubusercontent.com/team/a/master/a.py"),
            "wget",
            script(
                "wget https://raw.githubusercontent.com/team/a/3f5d1c0/a.py",
                "curl http://169.254.169.254/latest/meta-data/ > /tmp/a",
            ),
        ),
        Case(
            script("B=main", 'curl -sSL "https://github.com/team/a/raw/$B/a.tgz" | tar xz'),
            "curl",
            script(
                "curl -fsSLo a.tgz https://github.com/team/a/archive/main.tar.gz",
                "echo 'x  a.tgz' | sha256sum -c -",
            ),
        ),
        Case(
            script("curl -fsSL https://x.example/install.sh | sudo bash -s -- -y"),
            "curl",
            script("curl -fsS https://x.example/a | jq .", "curl https://x.example/a | python3 -m json.tool"),
        ),
        Case(
            script("bash <(curl -s https://x.example/a.sh)"),
            "curl",
            script("V=$(curl -s https://x.example/v)", 'echo "$V"'),
        ),
        Case(script('sh -c "$(wget -qO- https://x.example/a.sh)"'), "wget", script("wget --spider http://x.example/a")),
        Case(
            script("wget http://x.example/a.zip"),
            "wget",
            script(
                "wget http://localhost:8888/a",
                "curl -o /dev/null http://x.example/a",
                "curl 'http://x.example:8998/sessions'",
            ),
        ),
        Case(
            script("git clone https://x.example/team/tool.git", "cd tool", "./install.sh"),
            "git clone",
            script(
                "git clone --branch v1.2.0 https://x.example/team/tool.git /opt/tool",
                "bash /opt/tool/install.sh",
                "git clone https://x.example/team/work.git",
                "cp work/a /opt",
            ),
        ),
    ],
    "script-second-start": [
        Case(
            script("cd /home/ec2-user/SageMaker", "sudo -u ec2-user mkdir data"),
            "mkdir",
            script(
                "cd /home/ec2-user/SageMaker",
                "sudo -u ec2-user mkdir -p data",
                "mkdir /opt/a",
                "mkdir /home/ec2-user/.a",
            ),
        ),
        Case(
            script("echo 'conda activate a' >> /home/ec2-user/SageMaker/.bashrc"),
            "echo",
            script(
                "echo a >> /home/ec2-user/.bashrc",
                "echo started >> /home/ec2-user/SageMaker/start.log",
                "grep -q a /home/ec2-user/SageMaker/a || echo a >> /home/ec2-user/SageMaker/a",
                "if [ ! -f /home/ec2-user/SageMaker/b ]; then echo b >> /home/ec2-user/SageMaker/b; fi",
                "echo c > /home/ec2-user/SageMaker/c",
                "echo d >> /home/ec2-user/SageMaker/c",
            ),
        ),
        Case(
            script("cd /home/sagemaker-user", "echo a | tee -a .profile"),
            "tee",
            script("cd /home/sagemaker-user", "echo a | sudo tee -a /etc/environment"),
        ),
        Case(
            script("sudo -iu ec2-user git clone https://x.example/a.git /home/ec2-user/SageMaker/a"),
            "git clone",
            script(
                "D=/home/ec2-user/SageMaker",
                "[ -d $D/a ] || sudo -u ec2-user git clone https://x.example/a.git $D/a",
                "rm -rf $D/b",
                "git clone https://x.example/b.git $D/b",
                "git clone https://x.example/c.git /opt/c",
            ),
        ),
        Case(
            script("ln -s /mnt/efs /home/ec2-user/SageMaker/efs"),
            "ln",
            script(
                "ln -sfn /mnt/efs /home/ec2-user/SageMaker/efs",
                "ln -s /home/ec2-user/SageMaker/.ssh /home/ec2-user/.ssh",
            ),
        ),
        Case(
            script("mkdir /home/ec2-user/SageMaker/a"),
            "mkdir",
            script("if [ -f /home/ec2-user/SageMaker/.done ]; then exit 0; fi", "mkdir /home/ec2-user/SageMaker/a"),
        ),
    ],
    "script-fails-the-start": [
        Case(script("pkill -f old"), "pkill", script("pkill -f old || true", "echo done")),
        Case(script("[ -f /opt/a ] && rm /opt/a"), "rm", script("[ -f /opt/a ] && rm /opt/a", "exit 0")),
        Case(
            script("ps aux | grep old", "echo done"),
            "grep",
            script(
                "if grep -q a /etc/hosts; then echo b; fi",
                "grep a /etc/hosts | wc -l",
                "A=$(grep a /etc/hosts || true)",
                "has() { grep a /etc/hosts; }",
                "has || echo $A",
                "(ps aux | grep a; echo b) || true",
                '[ -z "$A" ] || grep b /etc/hosts',
                'if [ -n "$A" ]; then grep b /etc/hosts; fi',
                "exit 0",
            ),
        ),
        Case(
            script("A=$(grep a /etc/hosts)", 'echo "$A"'),
            "grep",
            script('echo "$(grep a /etc/hosts)"', 'export A="$(grep a /etc/hosts)"', "B=$(grep a /etc/hosts | head -1)"),
        ),
        Case(
            script("sudo -u ec2-user -i <<'EOF'", "set -e", "pgrep jupyter", "echo", "EOF", "exit 0"),
            "pgrep",
            script("sudo -u ec2-user -i <<'EOF' || true", "set -e", "pgrep jupyter", "EOF"),
        ),
    ],
    "script-reboot": [
        Case(script("reboot"), "reboot", script("echo reboot", "shutdown -c", "# reboot")),
        Case(script("sudo systemctl reboot"), "systemctl", script("sudo systemctl restart docker")),
    ],
    "script-initctl": [
        Case(script("initctl reload a"), "initctl", script("systemctl reload a")),
        Case(
            script("stop amazon-ssm-agent"),
            "stop",
            script("stop() { systemctl stop a; }", "stop now", 'if [[ "$V" == *amazon-linux-ami* ]]; then restart a; fi'),
        ),
    ],
    "script-restart-jupyter": [
        Case(script("systemctl restart jupyter-server"), "systemctl", script("systemctl status jupyter-server")),
        Case(script("sudo initctl restart jupyter-server --no-wait"), "initctl", script("systemctl restart docker")),
        Case(script("service jupyter-server restart"), "service", script("cd /home/sagemaker-user", "restart-jupyter-server")),
    ],
    "script-hard-coded-environment": Case(
        script("source activate pytorch_p310"), "pytorch_p310", script("for env in anaconda3/envs/pytorch*; do echo; done")
    ),
    "script-jupyter-server-environment": [
        Case(script("source activate JupyterSystemEnv", "pip install a"), "activate", script("source activate python3", "pip install a", "PYTHON=$(source activate JupyterSystemEnv && which python)")),
        Case(
            script("for env in /home/ec2-user/anaconda3/envs/*; do", 'if [ "$env" = JupyterSystemEnv ]; then continue; fi'),
            "for env",
            script("for env in /home/ec2-user/anaconda3/envs/*; do", '[ "$(basename "$env")" = JupyterSystemEnv ] && continue'),
        ),
    ],
    "script-environment-outside-volume": Case(
        script("conda create -y -n fraud python"),
        "conda create",
        script("conda create -y --prefix /home/ec2-user/SageMaker/envs/fraud python", 'conda create -p "$PLACE" python'),
    ),
    "script-activate-without-hook": Case(
        script("conda activate fraud"), "conda activate", script("source /opt/conda/etc/profile.d/conda.sh", "conda activate fraud")
    ),
    "script-lost-failure": [
        Case(
            script("sudo -u ec2-user -i <<'EOF'", "pip install a", "pip install b", "EOF"),
            "sudo",
            script("sudo -u ec2-user -i <<'EOF'", "set -eu", "pip install a", "pip install b", "EOF"),
        ),
        Case(
            script("sudo -u ec2-user bash <<'EOF'", "pip install a", "pip install b", "EOF"),
            "sudo",
            script(
                *("sudo -u ec2-user -i <<'EOF'", "unset SUDO_UID", "A=b", 'pip install "$A"', "EOF"),
                *("sudo -u ec2-user bash -e <<'EOF'", "pip install a", "pip install b", "EOF"),
            ),
        ),
    ],
    "script-plain-secret": [
        Case(
            script("export API_TOKEN=abcdef123"),
            "API_TOKEN",
            script('export API_TOKEN="$(aws secretsmanager get-secret-value --secret-id team/index)"'),
        ),
        Case(
            script("AWS_SECRET_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEX"),
            "AWS_SECRET_KEY",
            script(
                "SECRET_ARN=arn:aws:secretsmanager:eu-west-1:1:secret:x",
                "TOKEN_FILE=token.txt",
                "secret: my-git-credentials",
                'AWS_SECRET_KEY="github.com"',
                "credential_source = Ec2InstanceMetadata",
                'curl -X PUT -H "X-aws-ec2-metadata-token-ttl-seconds: 21600" http://169.254.169.254/latest/api/token',
            ),
        ),
    ],
}  # fmt: skip
