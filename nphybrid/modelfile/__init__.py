"""The functions behind the verbs convert, inspect, verify, compare and summary."""
