"""Scripts for a GPU machine without network (README.md)."""
