"""What a training run is: variables by their place in the model, random states, the state of the
callbacks.
"""
