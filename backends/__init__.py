"""What only one framework can do, behind one short protocol."""

if __name__ != "keras_patterns.backends":
    raise ImportError(
        f"This folder is the package 'keras_patterns.backends', but it was imported as {__name__!r}, which would make "
        "every class twice. Install it (`pip install .` in the project's folder) and `import keras_patterns.backends`."
    )
