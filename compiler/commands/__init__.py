"""The commands of `xfc`, one file each."""
