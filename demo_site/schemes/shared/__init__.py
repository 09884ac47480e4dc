"""A database backend with one connection for the whole process."""
