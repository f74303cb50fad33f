"""The front door: the `hindcast` command and the embedded demo. Thin: the work is in the other packages."""
