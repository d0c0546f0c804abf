"""A finished run at work: alerts answered as they come."""
