"""Packages with different names on PyPI and conda-forge, and names of imports.

They are advice for errors and for lint: a channel or an index may well have a package with such a name.
Sources: the mapping of conda-forge's packages to PyPI's (https://github.com/prefix-dev/parselmouth), that of grayskull
(https://github.com/conda/grayskull), and the projects' own pages on PyPI.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from nbprovision.machine.distributions import normalized

Where = Literal["conda", "pip"]

# PyPI's name, conda-forge's name. conda-forge has no package with PyPI's name.
_ONLY_ON_PYPI = {
    "annoy": "python-annoy", "asana": "python-asana", "blosc2": "python-blosc2", "boruta": "boruta_py",
    "confluent-kafka": "python-confluent-kafka", "extract-msg": "msg-extractor",
    "fastjsonschema": "python-fastjsonschema", "h2o": "h2o-py", "hdfs": "python-hdfs", "installer": "python-installer",
    "kaleido": "python-kaleido", "msgpack": "msgpack-python", "neo4j": "neo4j-python-driver",
    "opencv-contrib-python": "opencv", "opencv-contrib-python-headless": "opencv", "opencv-python": "opencv",
    "ortools": "ortools-python", "pyqt5": "pyqt", "ray": "ray-default", "redis": "redis-py",
    "sounddevice": "python-sounddevice", "soundfile": "pysoundfile", "tables": "pytables", "torch": "pytorch",
    "trino": "trino-python-client",
}  # fmt: skip
# PyPI's name of a build without a name of its own on conda-forge; PyPI has the shorter name as well.
_BUILDS_ON_PYPI = {
    "cupy-cuda11x": "cupy", "cupy-cuda12x": "cupy", "cupy-cuda13x": "cupy", "fasttext-wheel": "fasttext",
    "onnxruntime-gpu": "onnxruntime", "rdkit-pypi": "rdkit",
}  # fmt: skip
# PyPI's name, conda-forge's name; conda-forge has another package with PyPI's name, usually the program itself.
_OTHER_IN_CONDA = {
    "blosc": "python-blosc", "box2d": "pybox2d", "brotli": "brotli-python", "cdo": "python-cdo", "docker": "docker-py",
    "flatbuffers": "python-flatbuffers", "glfw": "pyglfw", "graphviz": "python-graphviz", "igraph": "python-igraph",
    "kubernetes": "python-kubernetes", "pgvector": "pgvector-python", "quantlib": "quantlib-python",
    "symengine": "python-symengine", "tblite": "tblite-python", "xxhash": "python-xxhash", "zstd": "python-zstd",
}  # fmt: skip
# conda-forge's name, PyPI's name; conda-forge has PyPI's name too, or splits PyPI's one package.
_ONLY_IN_CONDA = {
    "airflow": "apache-airflow", "cupy-core": "cupy", "dask-core": "dask", "dvc-base": "dvc",
    "google-cloud-bigquery-core": "google-cloud-bigquery", "libopencv": "opencv-python",
    "matplotlib-base": "matplotlib",
    "ninja-python": "ninja", "opencv": "opencv-python", "panel-core": "panel", "py-opencv": "opencv-python",
    "py-xgboost": "xgboost", "pyarrow-core": "pyarrow", "pyct-core": "pyct", "pymc-base": "pymc",
    "python-build": "build", "python-duckdb": "duckdb", "pytorch-cpu": "torch", "pytorch-geometric": "torch-geometric",
    "pytorch-gpu": "torch", "ray-core": "ray", "ray-default": "ray[default]", "sagemaker-python-sdk": "sagemaker",
    "sentencepiece-python": "sentencepiece", "tensorflow-base": "tensorflow", "vtk-base": "vtk",
}  # fmt: skip
# Names that code imports, and PyPI's names of the packages.
_IMPORTED = {
    "attr": "attrs", "bio": "biopython", "bs4": "beautifulsoup4", "cairo": "pycairo", "community": "python-louvain",
    "crypto": "pycryptodome", "cv2": "opencv-python", "dateutil": "python-dateutil", "dns": "dnspython",
    "docx": "python-docx", "dotenv": "python-dotenv", "ee": "earthengine-api", "faiss": "faiss-cpu", "fitz": "pymupdf",
    "git": "gitpython", "googleapiclient": "google-api-python-client", "imblearn": "imbalanced-learn",
    "jose": "python-jose", "jwt": "pyjwt", "kafka": "kafka-python", "ldap": "python-ldap", "magic": "python-magic",
    "mpl-toolkits": "matplotlib", "mysqldb": "mysqlclient", "nacl": "pynacl", "opengl": "pyopengl",
    "openssl": "pyopenssl", "osgeo": "gdal", "pil": "pillow", "pkg-resources": "setuptools", "pptx": "python-pptx",
    "pylab": "matplotlib", "pywt": "pywavelets", "rest-framework": "djangorestframework", "serial": "pyserial",
    "shapefile": "pyshp", "skbuild": "scikit-build", "skimage": "scikit-image", "sklearn": "scikit-learn",
    "skopt": "scikit-optimize", "sksurv": "scikit-survival", "slugify": "python-slugify", "snappy": "python-snappy",
    "socks": "pysocks", "surprise": "scikit-surprise", "talib": "ta-lib", "telegram": "python-telegram-bot",
    "umap": "umap-learn", "usb": "pyusb", "wx": "wxpython", "yaml": "pyyaml", "zmq": "pyzmq",
}  # fmt: skip
# Names of imports that are packages on conda-forge: the same package, or another one.
_IN_CONDA = frozenset({
    "attr", "bs4", "cairo", "faiss", "git", "ldap", "magic", "openssl", "slugify", "snappy", "yaml",
})  # fmt: skip
# Names of conda's and of imports that are packages on PyPI: the same package, or another one.
_ON_PYPI = frozenset({
    "airflow", "attr", "bio", "bs4", "community", "crypto", "docker-py", "docx", "dotenv", "ee", "faiss", "fitz",
    "imblearn", "jose", "jwt", "kafka", "ldap", "libopencv", "msgpack-python", "pyglfw", "pysoundfile", "python-asana",
    "python-build", "python-hdfs", "python-igraph", "python-kubernetes", "pytorch-geometric", "quantlib-python",
    "serial", "skimage", "slugify", "snappy", "socks", "surprise", "telegram", "usb",
})  # fmt: skip

_TO_CONDA = {**_ONLY_ON_PYPI, **_BUILDS_ON_PYPI, **_OTHER_IN_CONDA}
_TO_PYPI = {
    **{normalized(conda): pypi for pypi, conda in {**_ONLY_ON_PYPI, **_OTHER_IN_CONDA}.items()},
    **_ONLY_IN_CONDA,
}


def advice(name: str, where: Where) -> str:
    """A replacement for a missing name; empty if none is known.

    Args:
        name: The name in the playbook.
        where: The source that lacks it: conda's channels, or pip's or uv's index.

    """
    key = normalized(name)
    if where == "conda":
        renamed, owner, other, source = _TO_CONDA, "conda-forge", "PyPI", "channel"
    else:
        renamed, owner, other, source = _TO_PYPI, "PyPI", "conda-forge", "index"
    meant, whose = renamed.get(key), f"{other} calls"
    if meant is None:
        meant, whose = _IMPORTED.get(key), "code imports as"
        meant = _TO_CONDA.get(meant, meant) if meant is not None and where == "conda" else meant
    if meant is None:
        return ""
    return f"write {meant}, {owner}'s name for what {whose} {name}; or name the {source} that has {name}"


def distribution_name(conda_name: str) -> str:
    """The normalised name of the Python distribution that a package of conda-forge contains, if it contains one."""
    key = normalized(conda_name)
    return normalized(_TO_PYPI.get(key, key).partition("[")[0])


def first_advice(names: Iterable[str], where: Where) -> str:
    """The first `advice` for one of these names; empty if there is none."""
    return next(filter(None, (advice(name, where) for name in names)), "")


def is_missing(name: str, where: Where) -> bool:
    """Whether conda-forge (or PyPI) has no package with this name, or a placeholder, so that another one is meant."""
    key = normalized(name)
    if where == "conda":
        return key in _ONLY_ON_PYPI or key in _BUILDS_ON_PYPI or (key in _IMPORTED and key not in _IN_CONDA)
    return (key in _TO_PYPI or key in _IMPORTED) and key not in _ON_PYPI
