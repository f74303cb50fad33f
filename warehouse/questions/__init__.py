"""The door through which people ask the lake, the questions it answers, and the filters they share."""
