"""What carries the project to a GPU machine without network; README.md tells how."""
