"""A run as one HTML file for people, made from its folder alone, without Keras."""
