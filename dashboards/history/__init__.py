"""Changes of configuration, manifests, and what needs attention."""
