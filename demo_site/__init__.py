"""A small box office on `pooling`: run it with ``make demo``."""
