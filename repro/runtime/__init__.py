"""The device, the processes and the files of a run."""
