"""conda's configuration is merged as conda merges it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbprovision.machine.condarc import DEFAULTS, Condarc, read_condarc


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_without_files_nothing_is_configured(tmp_path: Path) -> None:
    assert read_condarc({}, tmp_path / "home", None, tmp_path) == Condarc()


def test_the_nearest_file_wins_and_lists_are_joined(tmp_path: Path) -> None:
    home, base = tmp_path / "home", tmp_path / "conda"
    put(tmp_path / "etc/conda/condarc.d/site.yml", "channels: [site, shared]\nssl_verify: false\n")
    put(base / ".condarc", "channels: [base]\nchannel_alias: https://base.example\n")
    put(home / ".config/conda/condarc", "envs_dirs: [/data/envs]\n")
    put(home / ".condarc", "channels:\n- mine\n- shared\nchannel_alias: https://mine.example/\nssl_verify: /ca.pem\n")
    put(tmp_path / "named", "envs_path: $DATA/more\ncustom_channels: {lab: https://lab.example}\n")
    env = {
        "CONDARC": str(tmp_path / "named"),
        "DATA": "/big",
        "CONDA_CHANNELS": "first,second",
        "CONDA_PKGS_DIRS": "/p",
    }
    found = read_condarc(env, home, base, tmp_path)
    assert found.channels == ("first", "second", "mine", "shared", "base", "site")
    assert found.channel_alias == "https://mine.example/"
    assert found.ssl_verify == "/ca.pem"
    assert found.envs_dirs == ("/big/more", "/data/envs")
    assert found.pkgs_dirs == ("/p",)
    assert found.custom_channels == {"lab": "https://lab.example"}
    assert found.warnings == ()


@pytest.mark.parametrize("name", ["CONDA_ENVS_DIRS", "CONDA_ENVS_PATH"])
def test_folders_of_environments_from_a_variable(tmp_path: Path, name: str) -> None:
    assert read_condarc({name: "/a:/b"}, tmp_path, None, tmp_path).envs_dirs == ("/a", "/b")


def test_what_a_file_will_say_counts_and_not_what_it_says(tmp_path: Path) -> None:
    """A playbook may have it written, or taken away, before the configuration matters."""
    home = tmp_path / "home"
    put(home / ".condarc", "channels: [old]\n")
    put(tmp_path / "xdg/conda/.condarc", "channels: [xdg]\nenvs_dirs:\n")
    env = {"XDG_CONFIG_HOME": str(tmp_path / "xdg")}

    def channels(text: str | None) -> tuple[str, ...]:
        return read_condarc(env, home, None, tmp_path, {home / ".condarc": text}).channels

    assert read_condarc(env, home, None, tmp_path).channels == ("old", "xdg")
    assert channels("channels: [new]\n") == ("new", "xdg")
    assert channels("") == channels(None) == ("xdg",)


def test_settings_of_one_word_from_variables_win(tmp_path: Path) -> None:
    put(
        tmp_path / ".condarc",
        "offline: false\nchannel_alias: https://file.example\ncustom_multichannels: {t: [$A, b], u: c}\n",
    )
    env = {
        "A": "a",
        "CONDA_OFFLINE": "yes",
        "CONDA_CHANNEL_ALIAS": "https://mirror.example/$A",
        "CONDA_SSL_VERIFY": "/$A.pem",
    }
    found = read_condarc(env, tmp_path, None, tmp_path / "root")
    assert (found.offline, found.channel_alias, found.ssl_verify) == (True, "https://mirror.example/a", "/a.pem")
    assert found.custom_multichannels == {"t": ["a", "b"], "u": ["c"]}


@pytest.mark.parametrize(
    "text", ["channels: [unclosed", "\tchannels: x", "- a list", "\x00", "x: 2020-13-45", "[" * 3000]
)
def test_what_cannot_be_read_is_a_warning(tmp_path: Path, text: str) -> None:
    put(tmp_path / ".condarc", text)
    found = read_condarc({}, tmp_path, None, tmp_path / "root")
    assert found.channels == ()
    [warning] = found.warnings
    assert warning.startswith(f"{tmp_path}/.condarc is ignored: ")


def test_words_for_truth(tmp_path: Path) -> None:
    put(tmp_path / ".condarc", "offline: 'yes'\nregister_envs: false\nverify_ssl: no\n")
    found = read_condarc({}, tmp_path, None, tmp_path / "root")
    assert (found.offline, found.register_envs, found.ssl_verify) == (True, False, False)


RC = Condarc(
    channel_alias="https://mirror.example/conda/",
    default_channels=("https://mirror.example/main", "r"),
    custom_channels={"lab": "https://lab.example/", "team/tools": "team-alias"},
    custom_multichannels={"all": ["lab", "conda-forge"]},
)


@pytest.mark.parametrize(
    ("channel", "urls"),
    [
        ("conda-forge", ["https://mirror.example/conda/conda-forge"]),
        ("conda-forge/label/dev", ["https://mirror.example/conda/conda-forge/label/dev"]),
        ("https://else.example/x/", ["https://else.example/x"]),
        ("/data/my channel", ["file:///data/my%20channel"]),
        ("lab", ["https://lab.example/lab"]),
        ("lab/sub", ["https://lab.example/lab/sub"]),
        ("team/tools", ["https://mirror.example/conda/team-alias/team/tools"]),
        ("defaults", ["https://mirror.example/main", "https://mirror.example/conda/r"]),
        ("all", ["https://lab.example/lab", "https://mirror.example/conda/conda-forge"]),
    ],
)
def test_what_a_channel_stands_for(channel: str, urls: list[str]) -> None:
    assert RC.urls(channel) == urls


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://mirror.example/conda/bioconda/", "bioconda"),
        ("https://mirror.example/conda/conda-forge/", "all"),  # conda names a multichannel before its members
        ("https://mirror.example/main", "defaults"),
        ("https://lab.example/lab/sub", "lab/sub"),
        ("https://lab.example/laboratory", "https://lab.example/laboratory"),
        ("file:///data/chan/", "file:///data/chan"),
        ("https://user:pw@else.example/t/tk-1/x", "https://else.example/x"),
    ],
)
def test_what_conda_calls_a_channel(url: str, name: str) -> None:
    assert RC.name_of(url) == name


@pytest.mark.parametrize(
    ("channel", "url"),
    [
        ("pkgs/main", "https://repo.anaconda.com/pkgs/main"),
        ("pkgs/main/label/x", "https://repo.anaconda.com/pkgs/main/label/x"),
        ("z/lab", "https://q.example/z/lab"),
        ("x/r", "https://q.example/conda/x/r"),
        ("main", "https://mirror.example/conda/main"),
        ("lab", "https://mirror.example/conda/lab"),
    ],
)
def test_members_of_multichannels_are_known_by_their_paths(channel: str, url: str) -> None:
    """As conda 26.7.1 resolves them with the same settings, whatever `channel_alias` says."""
    multichannels = {"all": ["https://q.example/z/lab", "https://q.example/conda/x/r"]}
    rc = Condarc(channel_alias="https://mirror.example/conda", custom_multichannels=multichannels)
    assert rc.urls(channel) == [url]


def test_condas_own_defaults() -> None:
    assert tuple(Condarc().urls("defaults")) == DEFAULTS
    assert Condarc().urls("conda-forge") == ["https://conda.anaconda.org/conda-forge"]
