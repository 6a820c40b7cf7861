"""The machinery of the live panels: the picture, the controls, the panel; what they show is in topics/."""
