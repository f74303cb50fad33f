"""The pages, a module each. A page asks through dashboards.visit and draws; it decides nothing about who may see what."""
