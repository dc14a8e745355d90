"""What the verbs convert, inspect, verify, compare and summary do with a model file."""
