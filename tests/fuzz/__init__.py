"""Files as strangers may write them, for all that reads some: ``make fuzz``."""
