"""Gates: bounds in, one state and one reason each out."""
