"""Faulty and healthy programs, for the measuring of `kp.debug`."""
