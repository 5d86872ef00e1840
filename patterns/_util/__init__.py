"""Small helpers for every room: checks of arguments, the console, tables, names of metrics."""
