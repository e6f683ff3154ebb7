"""A hunter of races: the real daemon in virtual time, its threads and awaits in a seeded order."""
