"""The survey's nine applications, one room each, and what several of them share."""
