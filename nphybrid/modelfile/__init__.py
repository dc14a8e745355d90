"""What is done with a model file: the verbs convert, inspect, verify, compare and summary."""
