"""What cannot be beaten here (the framework, the disk), and where every microsecond of a request goes."""
