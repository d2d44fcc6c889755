"""The keeper: its channel, its table, its plans; and the ends that others have."""
