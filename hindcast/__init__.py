"""The `hindcast` command and the demo. This package is thin: the work is done in the other packages."""
