"""The techniques: a model goes in, a new, smaller model comes out. They do not import one another."""
