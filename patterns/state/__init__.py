"""The state of a training run: variables by their place in the model, random states, the state of
the callbacks.
"""
