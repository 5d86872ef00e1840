"""The command `env`: what a report of a fault needs to say about where it happened."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from keras_patterns.backends import current, installed

from .._util.text import write_line
from .looking import write_json

_PACKAGES = (
    *("keras", "numpy", "safetensors", "msgspec", "xxhash", "filelock"),
    *("ml-dtypes", "h5py"),
)
_VARIABLES = (
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_VISIBLE_DEVICES",
    "JAX_ENABLE_X64",
    "JAX_PLATFORMS",
    "KERAS_BACKEND",
    "KERAS_HOME",
    "MKL_NUM_THREADS",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "PYTHONHASHSEED",
    "PYTORCH_CUDA_ALLOC_CONF",
    "TF_CUDNN_DETERMINISTIC",
    "TF_DETERMINISTIC_OPS",
    "TF_ENABLE_ONEDNN_OPTS",
    "TF_NUM_INTEROP_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "XLA_FLAGS",
)


def show(arguments: argparse.Namespace) -> int:
    """Shows versions, device and settings."""
    facts = _facts()
    if arguments.json:
        write_json(facts)
        return 0
    for name, value in facts.items():
        if isinstance(value, dict):
            for key, one in value.items():
                write_line(f"{name.replace('_', ' ')}: {key} {one}")
        elif value is not None:
            write_line(f"{name.replace('_', ' ')}: {value}")
    return 0


def _facts() -> dict[str, Any]:
    facts: dict[str, Any] = {
        "keras_patterns": _version("keras-patterns"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "encoding": getattr(sys.stdout, "encoding", None),
        "packages": {name: _version(name) for name in _PACKAGES},
        "installed_backends": {name: _version(name) for name in installed()},
        "backend": None,
        "backend_version": None,
        "device": None,
        "settings": {},
        "problem": None,
        "environment": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }
    try:
        backend = current()
        settings = {**_keras_settings(), **backend.settings()}
    except ImportError as error:
        return {**facts, "problem": str(error).removeprefix("keras-patterns: ")}
    return {
        **facts,
        "backend": backend.name,
        "backend_version": backend.version,
        "device": backend.device(),
        "settings": settings,
    }


def _keras_settings() -> dict[str, Any]:
    import keras

    return {
        "dtype_policy": keras.config.dtype_policy().name,
        "floatx": keras.config.floatx(),
        "image_data_format": keras.config.image_data_format(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        # As TensorFlow's, which comes under several names.
        return "of unknown version"
